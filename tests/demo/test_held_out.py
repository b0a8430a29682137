"""What the demonstration says of held-out speakers, from evaluations by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from dfkit.clip import CLIP2S
from dfkit.demo.held_out import AucByVideo, HeldOutResult, HeldOutVideo, draw_held_out, held_out_result
from dfkit.demo.run import DemoReport, Stage
from dfkit.evaluation.evaluate import evaluate
from dfkit.evaluation.report import EvaluationReport
from dfkit.evaluation.scoring import EvaluationRequest
from dfkit.models import MMMSBA, NetworkSpec
from dfkit.training.checkpoints import save_checkpoint
from tests.data.makers import make_prepared, make_row

POINT = {"threshold": 0.5, "review_low": 0.5, "review_high": 0.5, "name": "chosen by hand"}


def made_video(label: str, p_fake: float, *, verdict: str | None = None, method: str = "") -> HeldOutVideo:
    times = np.arange(75) / 25
    curve = np.where((times > 1) & (times < 2), p_fake, 0.1) if method else np.full(75, p_fake)
    true_s = ((1.0, 2.0),) if method else ()
    called = verdict or ("fake" if p_fake >= 0.5 else "real")
    return HeldOutVideo(f"videos/{method or 'twin'}.mp4", label, method, called, p_fake, true_s, times, curve)


def made_result(auc_high: float = 1.0) -> HeldOutResult:
    videos = (made_video("real", 0.2), made_video("fake", 0.9, method="lip_swap"))
    return HeldOutResult(videos, AucByVideo(0.7, 0.4, auc_high), AucByVideo(0.9, 0.8, 1.0), {"lip_swap": 0.7}, 0.5)


def judged(folder: Path, name: str, seed: int) -> EvaluationReport:
    """What a network of random weights says of eight videos of four persons."""
    if not (folder / "data").is_dir():
        rows = [make_row(n, n % 2, (f"person{n // 2}",)) for n in range(8)]
        rows[5] = replace(rows[5], intervals=((0.5, 1.5),), method="lip_time")
        make_prepared(folder / "data", rows)
    torch.manual_seed(seed)
    network = MMMSBA(NetworkSpec(face_channels=(8, 8, 16), lip_channels=(8, 8, 8), gru_hidden=8, dense_dim=8))
    torch.nn.init.normal_(network.classifier[0].weight)  # type: ignore[arg-type]
    facts = {"calibration": {"calibration_temperature": 2.0}, "operating_point": POINT}
    save_checkpoint(folder / f"{name}.pth", network, CLIP2S, kind="student", facts=facts)
    request = EvaluationRequest(folder / "data", (folder / f"{name}.pth",), split="all")
    return evaluate(request, reports=folder, make_view=lambda data, spec: pytest.fail("no other view is needed"))


def test_it_joins_the_evaluations_of_student_and_teacher(tmp_path: Path) -> None:
    student, teacher = judged(tmp_path, "student", 1), judged(tmp_path, "teacher", 2)
    result = held_out_result(student, teacher)
    assert [video.label_name for video in result.videos] == ["real"] * 4 + ["fake"] * 4
    assert [video.method for video in result.videos[4:]] == ["lip_time", "swap", "swap", "swap"]
    p_fake = {video.video: answer.p_fake for video, answer in zip(student.videos, student.answers, strict=True)}
    assert {video.path: video.p_fake for video in result.videos} == p_fake
    assert {video.verdict for video in result.videos} == {"real" if p < 0.5 else "fake" for p in p_fake.values() if p}
    for report, found in ((student, result.student), (teacher, result.teacher)):
        labels = [video.label for video in report.videos]
        assert found.value == roc_auc_score(labels, [answer.p_fake for answer in report.answers])
    reals = [video.p_fake for video in result.videos[:4]]
    one = result.videos[4]
    assert result.by_method["lip_time"] == np.mean([real < one.p_fake for real in reals])
    assert one.true_s == ((0.5, 1.5),) and len(one.times_s) == len(one.curve) == len(np.unique(one.times_s))


def test_the_interval_is_delongs() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1])
    # Of nine pairs one is the wrong way round: 8/9. Placements of fakes 2/3, 1, 1 and of reals 1, 1, 2/3: each has a
    # variance of 1/27, so the error is sqrt(2 / 81) = 0.1571.
    found = AucByVideo.of(labels, np.array([0.1, 0.2, 0.5, 0.4, 0.6, 0.7]))
    assert found.value == pytest.approx(8 / 9)
    assert found.low == pytest.approx(8 / 9 - 1.96 * 0.15713, abs=1e-4) and found.high == 1.0
    assert AucByVideo.of(labels, np.arange(6) / 6) == AucByVideo(1.0, 1.0, 1.0)
    assert found.text == "0.89 [0.58, 1.00]"


def test_a_verdict_is_right_wrong_or_left_to_a_person() -> None:
    result = made_result()
    assert [video.right for video in result.videos] == [True, True]
    doubtful = made_video("fake", 0.5, verdict="review", method="lip_time")
    assert doubtful.line().startswith("review fake (lip_time)") and not doubtful.right
    assert made_video("real", 0.9).line().startswith("WRONG")
    assert "2 of 2 verdicts right" in result.summary()[-1]
    assert "curve" not in result.to_json()["videos"][0]


@pytest.mark.parametrize(
    ("is_real", "high", "control", "verified", "code"),
    [
        (True, 0.81, 20.0, True, 0),
        (True, 0.79, 20.0, True, 1),
        (False, 0.79, 9.9, True, 0),
        (True, 0.9, 9.9, True, 1),
        (True, 0.9, 20.0, False, 1),
    ],
)
def test_the_demonstration_fails_where_nothing_was_learnt_or_nothing_is_shown(
    is_real: bool, high: float, control: float, verified: bool, code: int
) -> None:
    report = DemoReport(
        source="made",
        is_real=is_real,
        stages=(Stage("train", 1.0, "done"),),
        smaller="",
        held_out=made_result(high),
        controls="",
        smallest_control=control,
        report_page="index.html",
        plots=(),
        verified=verified,
    )
    assert report.exit_code == code == report.to_json()["exit_code"]
    assert ("FAILED" in "\n".join(report.summary())) is bool(code)


def test_the_figure_shows_the_found_interval_over_the_true_one(tmp_path: Path) -> None:
    draw_held_out(made_result(), tmp_path / "held-out.png")
    picture = cv2.imread(str(tmp_path / "held-out.png"))
    assert picture is not None
    shaded = (np.abs(picture.astype(int) - (213, 209, 241)).max(axis=2) < 12).any(axis=0)
    bar = (np.abs(picture.astype(int) - (43, 24, 178)).max(axis=2) < 12).any(axis=0)
    # One forged second of three, found as a whole: the bar lies over the shaded columns.
    assert shaded.sum() > 50 and bar[shaded].mean() > 0.9
