"""Several teachers, and answers out of files, as what is distilled."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dfkit.clip import ClipSpec, PictureSpec
from dfkit.config import Config
from dfkit.config.flags import DistillFlags
from dfkit.data.splits import split_clips
from dfkit.data.storage import PreparedData
from dfkit.distill.answers import LEAST_P, read_answers
from dfkit.distill.distill import DistillationSetup, distill_student, prepare_distillation
from dfkit.distill.request import make_request, refuse_other_request, write_request
from dfkit.errors import ConfigError, DataError
from dfkit.evaluation.ensembles import mean_logits
from dfkit.evaluation.scores_file import read_scores
from dfkit.evaluation.scoring import EvaluationRequest, score
from dfkit.measures.decision import Calibration, Decision
from dfkit.models import MMMSBA, NetworkSpec
from dfkit.models.checkpoint import load_checkpoint
from dfkit.training.checkpoints import save_checkpoint
from dfkit.training.scoring import split_facts
from dfkit.workspace import TEACHER_LOGITS_FILE, Workspace
from tests.data.makers import make_prepared, make_row
from tests.training.tiny import CUT, WIDTHS, tiny_config

# Six pictures: a fraction of the steps.
SPEC = ClipSpec(num_frames=6, hop_s=0.12, picture=PictureSpec(face_px=48, lip_px=32))
PARTS = ("train", "val", "test")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """Twelve videos of two clips, in groups of their own, odd ones fakes."""
    rows = [make_row(n, n % 2, [f"g{n}"]) for n in range(12)]
    return PreparedData(make_prepared(tmp_path_factory.mktemp("data") / "x", rows, clips=2, spec=SPEC))


def config_of(**distill: Any) -> Config:
    content = tiny_config(epochs=1).model_dump(mode="json")
    content["clip"] = SPEC.model_dump(mode="json")
    content["distill"] |= distill
    return Config.model_validate(content)


@pytest.fixture(scope="module")
def indices(data: PreparedData) -> dict[str, list[int]]:
    return split_clips(data, config_of().split)


def save_teacher(path: Path, data: PreparedData, *, seed: int, temperature: float, trained_on: str = "train") -> Path:
    torch.manual_seed(seed)
    network = MMMSBA(NetworkSpec(modalities=("audio", "motion"), **WIDTHS))
    parts = split_clips(data, config_of().split)
    known = {name: clips for name, clips in parts.items() if name != "train"} | {"train": parts[trained_on]}
    decision = Decision(Calibration(calibration_temperature=temperature, fitted_on="a test"))
    facts = {"splits": split_facts(data, known), "groups_known": True, **decision.to_facts()}
    save_checkpoint(path, network, SPEC, kind="teacher", facts=facts)
    return path


@pytest.fixture(scope="module")
def teachers(data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("teachers")
    return (
        save_teacher(folder / "a.pth", data, seed=0, temperature=1.0),
        save_teacher(folder / "b.pth", data, seed=1, temperature=2.5),
    )


def no_view(*_: object) -> Path:
    raise AssertionError("teacher and student see the same clips")


def setup_of(teacher: Path, data: PreparedData, **distill: Any) -> DistillationSetup:
    return prepare_distillation(teacher, data.path, config_of(**distill), make_view=no_view)


def table(path: Path, data: PreparedData, videos: Sequence[int], p_fake: Sequence[float]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "p_fake"])
        rows.writerows([data.videos[video].path, p] for video, p in zip(videos, p_fake, strict=True))
    return path


def p_of(video: int) -> float:
    """Another answer to every video, two of them as sure as can be."""
    return {0: 0.0, 1: 1.0}.get(video, 0.05 + video / 20)


def margin_of(video: int) -> float:
    p = min(max(p_of(video), LEAST_P), 1 - LEAST_P)
    return float(np.log(p / (1 - p)))


@pytest.fixture(scope="module")
def foreign(data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    videos = range(12)
    return table(tmp_path_factory.mktemp("foreign") / "other.csv", data, videos, [p_of(v) for v in videos])


@pytest.fixture(scope="module")
def evaluated(
    data: PreparedData, teachers: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """`scores.json` of both teachers as an ensemble, of each part."""
    folder = tmp_path_factory.mktemp("reports")
    files = {}
    for part in PARTS:
        request = EvaluationRequest(data_dir=Path(data.path), checkpoints=teachers, split=part)
        (folder / part).mkdir()
        files[part] = folder / part / "scores.json"
        files[part].write_text(score(request, make_view=no_view).to_text(), encoding="utf-8")
    return files


def test_the_mean_is_of_calibrated_logits() -> None:
    members = [np.array([[0.0, 4.0]]), np.array([[1.0, -1.0]])]
    assert mean_logits(members, [2.0, 1.0]).tolist() == [[0.5, 0.5]]
    assert mean_logits(members, [2.0, 1.0], [0.75, 0.25]).tolist() == [[0.25, 1.25]]


def test_several_teachers_vote_and_the_first_is_pruned(data: PreparedData, teachers: tuple[Path, Path]) -> None:
    first, second = (setup_of(path, data).teacher_logits for path in teachers)
    assert first.frame_logits is not None and second.frame_logits is not None
    both = setup_of(teachers[0], data, further_teachers=[str(teachers[1])])
    assert both.teacher.path == teachers[0] and not both.teacher_logits.by_video
    assert torch.allclose(both.teacher_logits.clip_logits, (first.clip_logits + second.clip_logits / 2.5) / 2)
    assert both.teacher_logits.frame_logits is not None
    assert torch.allclose(both.teacher_logits.frame_logits, (first.frame_logits + second.frame_logits / 2.5) / 2)
    assert not torch.allclose(first.clip_logits, second.clip_logits, atol=1e-4), "equal teachers prove nothing"
    assert any("the mean of the calibrated logits of" in note for note in both.notes)


def test_a_further_teacher_has_not_seen_whom_the_student_is_judged_by(
    data: PreparedData, teachers: tuple[Path, Path], tmp_path: Path
) -> None:
    seen = save_teacher(tmp_path / "seen.pth", data, seed=2, temperature=1.0, trained_on="test")
    with pytest.raises(DataError, match="trained on 4 groups of the test part"):
        setup_of(teachers[0], data, further_teachers=[str(seen)])


def test_a_table_answers_by_video_in_place_of_the_teacher(
    data: PreparedData, teachers: tuple[Path, Path], foreign: Path
) -> None:
    setup = setup_of(teachers[0], data, answers=[str(foreign)])
    assert setup.teacher_logits.by_video and setup.teacher_logits.frame_logits is None
    expected = [[0.0, margin_of(video)] for video in range(12)]
    assert np.allclose(setup.teacher_logits.clip_logits, expected, atol=1e-5)  # p has six digits
    assert any("nothing says which videos its answers were learnt from" in note for note in setup.notes)


def test_a_table_votes_beside_the_teacher_by_video(
    data: PreparedData, teachers: tuple[Path, Path], foreign: Path
) -> None:
    own = setup_of(teachers[1], data).teacher_logits.clip_logits
    setup = setup_of(teachers[1], data, answers=[str(foreign)], answers_share=0.25)
    clip_margins = (own[:, 1] - own[:, 0]).reshape(12, 2)  # two clips a video, one track
    expected = 0.25 * np.array([margin_of(video) for video in range(12)]) + 0.75 * clip_margins.mean(1).numpy() / 2.5
    assert setup.teacher_logits.by_video
    assert np.allclose(setup.teacher_logits.clip_logits[:, 1], expected, atol=1e-5)


def test_scores_of_an_ensemble_answer_by_clip(
    data: PreparedData, teachers: tuple[Path, Path], evaluated: dict[str, Path]
) -> None:
    # A file or the folder of its report.
    paths = [str(evaluated["train"]), str(evaluated["val"].parent), str(evaluated["test"])]
    setup = setup_of(teachers[0], data, answers=paths)
    logits = setup.teacher_logits
    assert not logits.by_video and setup.soft_labels.answered == setup.indices
    stored = {}
    for part in PARTS:
        scores = read_scores(evaluated[part])
        assert scores.decision is not None and len(scores.models) == 2
        for video in scores.videos:
            assert video.clips is not None
            for start_s, (real, fake) in zip(video.clips.start_s, video.clips.logits, strict=True):
                stored[video.sha256, start_s] = (fake - real) / scores.decision.decision.temperature
    for index, clip in enumerate(data.clips):
        margin = stored[data.videos[clip.video_index].sha256, clip.start_s]
        assert logits.clip_logits[index].tolist() == pytest.approx([0, margin], abs=1e-5)
    assert not any("nothing says" in note for note in setup.notes), "the checkpoints say what they were trained on"


def test_answers_of_the_training_part_are_enough(
    data: PreparedData, teachers: tuple[Path, Path], evaluated: dict[str, Path], tmp_path: Path
) -> None:
    """There is no such teacher to compare the student with on the other parts, and none is made up."""
    config = config_of(answers=[str(evaluated["train"])], widths=CUT)
    student = distill_student(teachers[0], data.path, Workspace(tmp_path), config, make_view=no_view)
    facts = load_checkpoint(student.checkpoint).facts
    assert facts["teacher_metrics"]["val"] == facts["teacher_metrics"]["test"] == {"clips": 0, "videos": 0}
    assert facts["soft_labels"] == [f"{evaluated['train']} (100%)"]
    assert not (Path(student.run_dir) / TEACHER_LOGITS_FILE).exists()
    assert any("not all videos of val and test are answered" in note for note in student.notes)
    row = json.loads((Path(student.run_dir) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert np.isfinite(row["train_loss"])


def test_answers_teach(data: PreparedData, teachers: tuple[Path, Path], foreign: Path, tmp_path: Path) -> None:
    """With alpha 1 the labels have no say: answers turned round leave a student that is turned round."""
    runs = []
    for turned in (False, True):
        p_fake = [0.95 if (video % 2 == 1) != turned else 0.05 for video in range(12)]
        path = table(tmp_path / f"{turned}.csv", data, range(12), p_fake)
        # Widths of the teacher: nothing is pruned, and both start alike.
        config = config_of(answers=[str(path)], alpha=1.0, epochs=2, widths=WIDTHS)
        student = distill_student(teachers[0], data.path, Workspace(tmp_path), config, make_view=no_view)
        runs.append(load_checkpoint(student.checkpoint).network.state_dict()["classifier.0.weight"])
    start = load_checkpoint(teachers[0]).network.state_dict()["classifier.0.weight"]
    moved, turned = (weights - start for weights in runs)
    assert float((moved * turned).sum()) < 0 < float(moved.abs().max())


def test_refuses_what_cannot_be_taken_for_answers(
    data: PreparedData, indices: dict[str, list[int]], foreign: Path, tmp_path: Path
) -> None:
    trained = sorted({data.clips[index].video_index for index in indices["train"]})
    few = table(tmp_path / "few.csv", data, trained[1:], [0.5] * (len(trained) - 1))
    with pytest.raises(
        DataError, match=rf"no answer to 1 of {len(trained)} training videos: /videos/{trained[0]}\.mp4"
    ):
        read_answers([str(few)], data, indices)
    one = table(tmp_path / "one.csv", data, trained[:1], [0.5])
    assert read_answers([str(few), str(one)], data, indices).answered["train"] == indices["train"]
    with pytest.raises(DataError, match=r"one\.csv: answers /videos/\d+\.mp4, which another file answers, too"):
        read_answers([str(foreign), str(one)], data, indices)
    raw = table(tmp_path / "raw.csv", data, range(12), [3.0 * video for video in range(12)])
    with pytest.raises(DataError, match="its scores are no probabilities"):
        read_answers([str(raw)], data, indices)


def test_models_behind_answers_have_not_seen_whom_the_student_is_judged_by(
    data: PreparedData, teachers: tuple[Path, Path], indices: dict[str, list[int]], tmp_path: Path
) -> None:
    seen = save_teacher(tmp_path / "seen.pth", data, seed=2, temperature=1.0, trained_on="test")
    request = EvaluationRequest(data_dir=Path(data.path), checkpoints=(teachers[0], seen), split="all")
    path = tmp_path / "scores.json"
    path.write_text(score(request, make_view=no_view).to_text(), encoding="utf-8")
    with pytest.raises(DataError, match="trained on 4 groups of the test part"):
        read_answers([str(path)], data, indices)
    seen.unlink()
    assert any("nothing says" in note for note in read_answers([str(path)], data, indices).notes)


def test_only_the_same_voters_go_on(
    data: PreparedData, teachers: tuple[Path, Path], foreign: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own.csv"
    own.write_bytes(foreign.read_bytes())
    flags = DistillFlags(further_teachers=(str(teachers[1]),), answers=(str(own),), answers_share=0.5)
    config = flags.apply_to(config_of())
    assert config.flags == ("--answers-share 0.5", f"--teacher {teachers[1]}", f"--answers {own}")
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    write_request(run_dir, make_request(teachers[0], data, config))
    refuse_other_request(run_dir, make_request(teachers[0], data, config))
    table(own, data, range(12), [0.5] * 12)
    with pytest.raises(ConfigError, match="the further teachers or answers are other files"):
        refuse_other_request(run_dir, make_request(teachers[0], data, config))
    own.unlink()
    with pytest.raises(DataError, match=r"own\.csv: no such file"):
        make_request(teachers[0], data, config)
