"""The audit finds what gives labels away, says what it does not know, and overwrites nothing foreign."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.tree import DecisionTreeClassifier
from typer.testing import CliRunner

from dfkit.audit.audit import audit
from dfkit.audit.findings import AUDIT_FILE, FoldedVideos, read_finding
from dfkit.cli import app
from dfkit.clip import UNIFORM50
from dfkit.data.catalog import VideoRow, group_names
from dfkit.data.prepare import prepare
from dfkit.data.splits import make_folds
from dfkit.data.storage import PreparedData
from dfkit.errors import DataError
from dfkit.media.equalise_spec import EqualiseSpec
from tests.data.makers import CatalogOnly, make_prepared, make_row

REPEATS = 200


def make_facts(label: int, number: int, **changes: Any) -> dict[str, Any]:
    """Facts of files whose duration alone tells: reals 85 to 95 s, fakes 18 to 22 s."""
    generator = np.random.default_rng(number)
    duration_s = generator.uniform(18, 22) if label else generator.uniform(85, 95)
    facts = {
        "duration_s": duration_s,
        "fps": 25.0,
        "width": 640,
        "height": 480,
        "codec": "h264",
        "bitrate_kbps": generator.uniform(300, 500),
        "size_bytes": 1000,
        "audio_codec": "aac",
        "audio_sample_rate": 16000,
        "audio_channels": 1,
        "leading_silence_s": None if number % 3 == 0 else generator.uniform(0, 1),
        "loudness_db": generator.uniform(-30, -20),
        "first_picture_s": 0.0,
        "pixel_format": "yuv420p",
    }
    return facts | changes


def make_rows(num_groups: int = 8) -> list[VideoRow]:
    """A real and a fake video of each person."""
    return [
        make_row(
            2 * person + label,
            label,
            (f"person{person}",),
            facts=make_facts(label, 2 * person + label),
        )
        for person in range(num_groups)
        for label in (0, 1)
    ]


@pytest.fixture(autouse=True)
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfkit.audit.audit.NUM_TREES", 20)


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return PreparedData(make_prepared(tmp_path_factory.mktemp("audit") / "leaky", make_rows()))


def test_duration_is_found(leaky: PreparedData) -> None:
    result = audit(leaky, folds=4, repeats=REPEATS)
    scores = {score.name: score for score in result.facts}
    assert scores["duration_s"].auc > 0.9
    assert scores["duration_s"].low <= scores["duration_s"].auc <= scores["duration_s"].high
    assert result.facts[0].name == "duration_s"
    # What is the same everywhere says nothing, exactly.
    for name in ("fps", "resolution", "codec"):
        assert scores[name].auc == 0.5
    assert scores["leading_silence_s"].num_missing == 6
    assert any(line.startswith("duration_s alone") for line in result.warnings)
    assert not any("fps" in line for line in result.warnings)
    content = json.loads((Path(leaky.path) / AUDIT_FILE).read_text())
    first = content["facts"][0]
    assert (first["name"], first["num_videos"], content["warnings"]) == ("duration_s", 16, result.warnings)
    assert "WARNING: duration_s alone" in "\n".join(result.summary())
    assert read_finding(leaky, AUDIT_FILE) == content
    assert content["protocol"]["text"] == result.summary()[1]
    assert (
        "no pictures judged; facts of the file and size of its faces; " in result.summary()[1]
        and "; 4 folds by group, seed 0; " in result.summary()[1]
    )


def test_face_size_is_measured_in_source_pixels(leaky: PreparedData) -> None:
    # Landmarks lie in [100, 400] plus the clip's shift: 300 px less what 468 draws leave at the ends.
    from dfkit.audit.audit_facts import collect_facts

    facts, _ = collect_facts(leaky, [0, 1])
    (face,) = [fact for fact in facts if fact.name == "face_px"]
    assert ((face.values > 290) & (face.values <= 300)).all()


def test_the_original_s_fault_is_found_in_npz(tmp_path: Path) -> None:
    """Reals 90 s, fakes 20 s, frames spread over the whole video, MFCC of the whole sound track."""
    index = []
    (tmp_path / "npz").mkdir()
    generator = np.random.default_rng(0)
    for person in range(8):
        for label, about_s in ((0, 90.0), (1, 20.0)):
            video_id = f"90{person}_90{person}_2_0001" if label else f"90{person}_132"
            length_s = about_s * generator.uniform(0.97, 1.03)
            np.savez_compressed(
                tmp_path / "npz" / f"{video_id}.npz",
                frames=np.full((3, 224, 224, 3), 0.5, np.float32),
                lip=np.full((3, 96, 96, 3), 0.5, np.float32),
                audio=generator.normal(size=(1 + int(length_s * 16000) // 512, 40)).astype(np.float32),
                timestamps=np.arange(3) * length_s / 50,
                label=label,
                video_id=video_id,
            )
            index.append({"npz_path": f"{video_id}.npz", "label": label, "video_id": video_id})
    (tmp_path / "npz" / "train_index.json").write_text(json.dumps(index))
    prepare(tmp_path / "npz", tmp_path / "data", spec=UNIFORM50)
    data = PreparedData(tmp_path / "data")
    result = audit(data, folds=4, repeats=REPEATS)
    scores = {score.name: score for score in result.facts}
    assert scores["sound_length_s"].auc > 0.9
    assert scores["frame_spacing_s"].auc > 0.9
    assert scores["num_frames"].auc == 0.5
    assert "duration_s" in result.skipped
    assert "face_px" in result.skipped
    assert result.together.auc > 0.9


def test_score_is_that_of_scikit_learn(leaky: PreparedData) -> None:
    videos = FoldedVideos.from_data(leaky, folds=4, seed=3)
    values = np.random.default_rng(0).normal(size=(16, 2)) + videos.labels[:, None]
    score = videos.score("x", values, lambda: DecisionTreeClassifier(max_depth=2, random_state=0))
    p_fake = np.zeros(16)
    for split in make_folds(leaky, folds=4, seed=3):
        rest, test = list(split.train + split.val), list(split.test)
        model = DecisionTreeClassifier(max_depth=2, random_state=0).fit(values[rest], videos.labels[rest])
        p_fake[test] = model.predict_proba(values[test])[:, 1]
    assert score.auc == pytest.approx(roc_auc_score(videos.labels, p_fake))
    assert sorted(np.concatenate(videos.test_parts)) == list(range(16))


def test_a_missing_value_is_a_value(leaky: PreparedData) -> None:
    videos = FoldedVideos.from_data(leaky, folds=4, seed=0)
    values = np.where(videos.labels[:, None] == 1, np.nan, 1.0)
    score = videos.score("x", values, lambda: DecisionTreeClassifier(max_depth=2, random_state=0))
    assert (score.auc, score.num_missing) == (1.0, 8)


def test_own_file_is_replaced_a_foreign_one_is_not(leaky: PreparedData) -> None:
    audit(leaky, folds=4, repeats=REPEATS)
    audit(leaky, folds=3, repeats=REPEATS)
    path = Path(leaky.path) / AUDIT_FILE
    assert json.loads(path.read_text())["folds"] == 3
    path.write_text("mine")
    with pytest.raises(DataError, match=r"did not write"):
        audit(leaky, folds=4, repeats=REPEATS)
    assert path.read_text() == "mine"
    path.unlink()


def test_a_finding_about_other_videos_is_none(leaky: PreparedData) -> None:
    audit(leaky, folds=4, repeats=REPEATS)
    other = PreparedData(leaky.path)
    assert read_finding(other, AUDIT_FILE) is not None
    other.videos[3] = replace(other.videos[3], key="relabelled")
    assert read_finding(other, AUDIT_FILE) is None


def test_equalised_data_is_called_so(leaky: PreparedData) -> None:
    data = PreparedData(leaky.path)
    data.info = replace(data.info, equalised=EqualiseSpec())
    result = audit(data, folds=2, repeats=REPEATS)
    assert "note: equalised (version 1): faces 96 px wide" in "\n".join(result.summary())
    assert result.to_json()["notes"][0] == data.info.form


def test_groups_unknown_is_said(leaky: PreparedData) -> None:
    data = PreparedData(leaky.path)
    data.info = replace(data.info, groups_known=False)
    data.videos = [replace(row, groups=()) for row in data.videos]
    data.groups = group_names(data.videos)
    result = audit(data, folds=2, repeats=REPEATS)
    assert result.num_groups == 16
    assert result.notes == [data.info.form, "groups unknown: persons may leak"]
    assert "note: groups unknown: persons may leak" in result.summary()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (make_rows(2), "too few groups"),
        ([row for row in make_rows(6) if row.label == 1], "no usable real video"),
    ],
)
def test_unusable_data_are_refused(rows: list[VideoRow], message: str) -> None:
    data: Any = CatalogOnly(rows)
    data.require_labels = lambda: PreparedData.require_labels(data)
    data.path = "x"
    with pytest.raises(DataError, match=message):
        audit(data)


@pytest.mark.parametrize("command", ["audit", "baseline"])
def test_the_configuration_that_a_message_asks_for_is_taken(leaky: PreparedData, tmp_path: Path, command: str) -> None:
    """Ranges of duration too small for the folds: the message named a key that no option of the command could give."""
    path = tmp_path / "mine.yaml"
    path.write_text("split: {duration_bins: 8, folds: 6, seed: 3}\n", encoding="utf-8")
    done = CliRunner().invoke(app, [command, leaky.path, "--config", str(path)])
    assert done.exit_code == 2
    assert "too few for 6 parts" in done.stderr
    assert "Fix: split: {duration_bins: 0} in the file given with --config, or fewer folds" in done.stderr
    path.write_text("split: {folds: 4, sed: 3}\n", encoding="utf-8")
    wrong = CliRunner().invoke(app, [command, leaky.path, "--config", str(path)])
    assert wrong.exit_code == 2
    assert "split.sed: unknown key" in wrong.stderr


def test_folds_and_seed_of_the_configuration(leaky: PreparedData, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("split: {folds: 4, seed: 3}\n", encoding="utf-8")
    for flags, folds, seed in (((), 4, 3), (("--folds", "3"), 3, 3), (("--seed", "1"), 4, 1)):
        done = CliRunner().invoke(app, ["audit", leaky.path, "--config", str(path), "--json", *flags])
        assert done.exit_code == 0, done.output
        content = json.loads(done.stdout)
        assert (content["folds"], content["seed"]) == (folds, seed)


def test_command(leaky: PreparedData, tmp_path: Path) -> None:
    (Path(leaky.path) / AUDIT_FILE).unlink(missing_ok=True)
    done = CliRunner().invoke(app, ["audit", leaky.path, "--folds", "4", "--json"])
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    assert content["facts"][0]["name"] == "duration_s"
    assert (Path(leaky.path) / AUDIT_FILE).is_file()
    for command in ("audit", "baseline"):
        missing = CliRunner().invoke(app, [command, str(tmp_path)])
        assert missing.exit_code == 2
        assert "Fix: dfkit prepare" in missing.stderr
