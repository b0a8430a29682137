"""`dfkit evaluate --sync`: real clips with their own sound, another speaker's, and late."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dfkit.clip import ClipSpec, PictureSpec
from dfkit.data.storage import PreparedData
from dfkit.errors import CheckpointError, ConfigError, DataError
from dfkit.evaluation.ensemble_members import EnsembleMember, open_checkpoint_member
from dfkit.evaluation.scorers import BatchPredictions, BundleScorer
from dfkit.evaluation.scoring import EvaluationRequest
from dfkit.evaluation.sync import SyncRow, evaluate_sync, score_sync, sync_report
from dfkit.models import MMMSBA, NetworkSpec
from dfkit.training.checkpoints import save_checkpoint
from dfkit.training.objective import Batch
from tests.data.makers import make_clip, make_prepared, make_row

SPEC = ClipSpec(picture=PictureSpec(face_px=16, lip_px=16))
CLIPS = 3
LITE = NetworkSpec(modalities=("audio", "motion"), gru_hidden=4, dense_dim=4, aligned=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """Four real videos of three persons, and two fakes."""
    rows = [make_row(n, int(n > 3), (f"person{min(n, 2)}",) if n < 4 else (f"fake{n}",)) for n in range(6)]
    return PreparedData(make_prepared(tmp_path_factory.mktemp("data") / "x", rows, clips=CLIPS, spec=SPEC))


def checkpoint(folder: Path, spec: NetworkSpec = LITE) -> Path:
    torch.manual_seed(0)
    folder.mkdir(exist_ok=True)
    save_checkpoint(folder / "best.pth", MMMSBA(spec), SPEC, kind="teacher", facts={})
    return folder / "best.pth"


class Listener:
    """Knows every clip's own sound: the share of it that it hears decides."""

    def __init__(self) -> None:
        self.heard: list[np.ndarray] = []

    def __call__(self, batch: Batch) -> BatchPredictions:
        index = int(batch["index"][0])
        own = make_clip(seed=index // CLIPS, start_index=25 * (index % CLIPS), spec=SPEC).waveform
        heard = batch["waveform"][0].numpy()
        self.heard.append(heard)
        margin = 1 - float(np.corrcoef(own, heard)[0, 1])
        return BatchPredictions(np.array([[0.0, margin]]), np.zeros((1, SPEC.num_frames, 2)))


def listening(tmp_path: Path) -> EnsembleMember:
    return replace(open_checkpoint_member(checkpoint(tmp_path)), scorer=Listener())


def test_pairs_are_made_of_reals_and_a_listener_is_right(data: PreparedData, tmp_path: Path) -> None:
    rows = score_sync(data, listening(tmp_path), range(len(data)))
    assert {row.video for row in rows} == {"0.mp4", "1.mp4", "2.mp4", "3.mp4"}
    kinds = [row.kind for row in rows]
    # Persons 0 and 1 have three strangers' videos, the two videos of person 2 have two each.
    assert kinds.count("own") == 12 and kinds.count("other") == 3 * (3 + 3 + 2 + 2)
    # Of four seconds of sound the first clip has none 0.4 s earlier, the last none later.
    assert kinds.count("shifted") == 4 * (1 + 2 + 1)
    report = sync_report(rows, ["listener"], data.path)
    assert [score.auc for score in report.scores] == [1.0] * 4
    assert (report.num_videos, report.num_groups) == (4, 3)
    by_video = {score.kind: score for score in report.scores if score.level == "video"}
    assert (by_video["other"].num_own, by_video["other"].num_wrong, by_video["shifted"].num_wrong) == (4, 10, 8)


def test_other_sound_is_as_loud(data: PreparedData, tmp_path: Path) -> None:
    member = listening(tmp_path)
    score_sync(data, member, range(len(data)))
    power = [float(np.mean(np.square(each))) for each in member.scorer.heard]  # type: ignore[attr-defined]
    # The makers' noise is uniform in [-1, 1]: a peak that would leave it holds the gain back a little.
    assert max(power) / min(power) < 1.05


def test_a_video_counts_once_whatever_its_length() -> None:
    # Video a has three clips of margins 0, 0, 3: mean 1; with wrong sound 2. Video b: 0.5, wrong 0.6.
    rows = [SyncRow(0, "a", "g", "own", 0, margin) for margin in (0.0, 0.0, 3.0)]
    rows += [SyncRow(0, "a", "g", "other", 0, 2.0), SyncRow(0, "b", "h", "own", 0, 0.5)]
    rows += [SyncRow(0, "b", "h", "other", 0, 0.6)]
    scores = {(score.kind, score.level): score for score in sync_report(rows, ["m"], "d").scores}
    # By clip 0, 0, 3, 0.5 against 2, 0.6: 2 is above three of four, so is 0.6. By video 1, 0.5 against 2, 0.6: 3 of 4.
    assert scores["other", "clip"].auc == pytest.approx(6 / 8)
    assert scores["other", "video"].auc == pytest.approx(3 / 4)
    assert math.isnan(scores["shifted", "clip"].auc)


class SoundGraphs:
    """Graphs of a bundle that takes no pictures."""

    def encode(self, pictures: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert pictures == {}
        return {}

    def score(self, inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        assert set(inputs) == {"pcm", "landmarks"}
        return np.zeros((SPEC.num_frames, 2)), np.array([0.0, float(inputs["pcm"][0])])


def test_a_bundle_without_pictures_is_shown_none(data: PreparedData, tmp_path: Path) -> None:
    """Such clips are read without pictures, and the scorer asked for them all the same."""
    scorer = BundleScorer(SoundGraphs(), SPEC)  # type: ignore[arg-type]
    rows = score_sync(data, replace(listening(tmp_path), scorer=scorer), range(len(data)))
    own = [row.margin for row in rows if row.video == "0.mp4" and row.kind == "own"]
    assert own == [float(data.record(index, pictures=False).waveform[0]) for index in range(CLIPS)]


def test_the_report_is_written_and_several_models_are_pooled(data: PreparedData, tmp_path: Path) -> None:
    paths = tuple(checkpoint(tmp_path / name) for name in ("a", "b"))
    request = EvaluationRequest(Path(data.path), paths, split="all")
    report = evaluate_sync(request, reports=tmp_path, make_view=lambda *_: pytest.fail("no other view is needed"))
    content = json.loads((tmp_path / "a-sync" / "report.json").read_text(encoding="utf-8"))
    assert {row["model"] for row in content["rows"]} == {0, 1} and content["num_videos"] == 8
    assert [score["auc"] for score in content["scores"]] == [score.auc for score in report.scores]
    assert "does not say what it was trained on" in report.summary()[-3] + report.summary()[-2]


def test_what_cannot_be_judged_is_refused(data: PreparedData, tmp_path: Path) -> None:
    member = listening(tmp_path)
    one_person = [index for index in range(len(data)) if data.groups[data.clips[index].video_index] == "person2"]
    with pytest.raises(DataError, match="another speaker's sound needs two"):
        score_sync(data, member, one_person)
    broken = replace(member, scorer=lambda batch: BatchPredictions(np.full((1, 2), np.nan), np.zeros((1, 50, 2))))
    with pytest.raises(CheckpointError, match="NaN or infinity"):
        score_sync(data, broken, range(len(data)))
    deaf = checkpoint(tmp_path / "deaf", LITE.model_copy(update={"modalities": ("motion",)}))
    with pytest.raises(ConfigError, match="sound against the face needs both"):
        evaluate_sync(
            EvaluationRequest(Path(data.path), (deaf,)), reports=tmp_path, make_view=lambda *_: pytest.fail("no view")
        )
