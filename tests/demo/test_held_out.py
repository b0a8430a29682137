"""What the demonstration says of held-out speakers, from evaluations by hand."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from dfkit.demo.held_out import AucByVideo, HeldOutResult, HeldOutVideo, draw_held_out
from dfkit.demo.run import DemoReport, Stage


def made_video(label: str, p_fake: float, *, verdict: str | None = None, method: str = "") -> HeldOutVideo:
    times = np.arange(75) / 25
    curve = np.where((times > 1) & (times < 2), p_fake, 0.1) if method else np.full(75, p_fake)
    true_s = ((1.0, 2.0),) if method else ()
    called = verdict or ("fake" if p_fake >= 0.5 else "real")
    return HeldOutVideo(f"videos/{method or 'twin'}.mp4", label, method, called, p_fake, true_s, times, curve)


def made_result(auc_high: float = 1.0) -> HeldOutResult:
    videos = (made_video("real", 0.2), made_video("fake", 0.9, method="lip_swap"))
    return HeldOutResult(videos, AucByVideo(0.7, 0.4, auc_high), AucByVideo(0.9, 0.8, 1.0), {"lip_swap": 0.7}, 0.5)


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
