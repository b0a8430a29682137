"""The fuzzer's judge: each breach of the contract is seen, and what keeps it passes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dfkit.errors import BundleError
from dfkit.media.coverage import Coverage, FileRead
from dfkit.runtime.results import TrackResult, VideoResult, WorstClip
from tools.fuzz.contract import check_error, check_result, check_stderr

TRACK = TrackResult(0, 0.9, ((0.0, 2.0, 0.9),), ((0.0, 0.9),))
WHOLE = Coverage(2.2, 2.2)
GOOD = VideoResult("a.mp4", "ok", "fake", 0.9, 0.5, ("audio", "face", "lip"), None, (TRACK,), WorstClip(0, 0, 2, 0.9),
                   TRACK, FileRead(WHOLE, WHOLE))  # fmt: skip
HALF = FileRead(Coverage(1.0, 2.0, "cut off"), WHOLE)
BREACHES = {
    "status": {"status": "odd"},
    "verdict": {"verdict": "maybe"},
    "p_fake is 1.5": {"p_fake": 1.5},
    "not JSON": {"p_fake": float("nan")},
    "without a reason": {"status": "unreadable", "verdict": None, "p_fake": None, "reason": "broken"},
    "although 0.5 of the pictures": {"read": HALF},
    "although 0.5 of the sound": {"read": FileRead(WHOLE, Coverage(1.0, 2.0, "cut off"))},
    "pictures read": {"read": FileRead(Coverage(-1.0, 2.0), WHOLE)},
    "how much was read": {"read": None},
    "control characters": {"reason": "a\x1b[31m"},
    "characters": {"reason": "a" * 3000},
    "worst_clip.start_s is -1.0": {"worst_clip": WorstClip(0, -1.0, 2.0, 0.9)},
}


@pytest.mark.parametrize("told", BREACHES)
def test_a_breach_is_told(told: str) -> None:
    assert any(told in fault for fault in check_result(replace(GOOD, **BREACHES[told])))


def test_what_keeps_the_contract_passes() -> None:
    assert check_result(GOOD) == []
    assert check_result(replace(GOOD, verdict="review", read=HALF)) == []
    gone = replace(GOOD, status="unreadable", verdict=None, p_fake=None, tracks=(), worst_clip=None, worst_track=None)
    assert check_result(replace(gone, read=None, reason="it is empty. Fix: copy it again")) == []


def test_errors_need_a_fix_and_stderr_words_of_our_own() -> None:
    assert check_error(BundleError("broken", fix="copy it again")) == []
    assert check_error(BundleError("broken")) == ["BundleError without a fix: broken"]
    chatter = b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n\n/tmp/case/a.pth: EMA weights left out\n"
    assert check_stderr(chatter, names=("/tmp/case",)) == []
    raw = check_stderr(chatter + b"[h264 @ 0x1] no frame!\n", names=("/tmp/case",))
    assert raw == ["raw text on stderr (1 lines): [h264 @ 0x1] no frame!"]
