"""Gaps and steadying against NumPy and SciPy, and by hand."""

from __future__ import annotations

import json

import numpy as np

from dfkit.media.smooth import ABSENT, HELD, INTERPOLATED, SEEN, fill_gaps, smooth_at, smoothing_weights

from .face_cases import GOLDEN as FACES


def test_equals_the_golden_vectors() -> None:
    golden = json.loads((FACES.parent / "media" / "smooth.json").read_text(encoding="utf-8"))
    values = np.array(golden["values"], np.float32)
    filled, state = fill_gaps(values, np.array(golden["seen"]), now=golden["now"], max_gap=golden["max_gap"])
    np.testing.assert_allclose(filled, golden["filled"], atol=1e-3)
    np.testing.assert_allclose(smoothing_weights(), golden["weights"], atol=1e-6)
    smooth = smooth_at(filled, state != ABSENT, golden["now"], smoothing_weights())
    np.testing.assert_allclose(smooth, golden["smooth"], atol=1e-3)


def fill(pattern: str, *, now: int, max_gap: int = 3) -> str:
    """States of a window in which x was seen: s seen, i interpolated, h held, . absent."""
    seen = np.array([letter == "x" for letter in pattern])
    _, state = fill_gaps(np.zeros((len(seen), 2), np.float32), seen, now=now, max_gap=max_gap)
    return "".join({ABSENT: ".", SEEN: "s", INTERPOLATED: "i", HELD: "h"}[int(value)] for value in state)


def test_gaps_by_hand() -> None:
    assert fill("xx...xx", now=3) == "ssiiiss"
    assert fill("xx....xx", now=3) == "sshh..ss"  # four are too many: what is known is held as far as now
    assert fill("xx....xx", now=7) == "sshhh.ss"
    assert fill("....xx", now=5) == ".hhhss"
    assert fill("x.....", now=5) == "shhh.."
    assert fill("x.....", now=1) == "sh...."
    assert fill("......", now=5) == "......"
    assert fill("x.x.x", now=2) == "sisis"


def test_steadying_does_not_lag() -> None:
    # A straight motion comes out as it went in, wherever its neighbours are known on both sides.
    values = np.stack([np.arange(20.0) * 3, 100 - np.arange(20.0)], axis=1).astype(np.float32)
    known = np.ones(20, bool)
    known[[8, 13]] = False
    for now in (0, 1, 5, 10, 19):
        np.testing.assert_allclose(smooth_at(values, known, now, smoothing_weights()), values[now], rtol=1e-5)


def test_a_shake_is_damped() -> None:
    values = np.where(np.arange(31) % 2, 1.0, -1.0).astype(np.float32)[:, None]
    smooth = smooth_at(values, np.ones(31, bool), 15, smoothing_weights())
    assert abs(smooth[0]) < 0.02
