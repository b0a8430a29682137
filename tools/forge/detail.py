"""Is a forgery sharper or smoother than its twin? Fine detail inside of what was changed, and outside of it.

A forgery that is as a rule sharper teaches a network that sharp is fake, where generated faces are smoother than
recorded ones. So neither sign may prevail: a paired sign test, as for the facts of the files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from dfkit.errors import DataError
from dfkit.media.video import read_frames
from tools.forge.fairness import sign_p_value
from tools.forge.sheet import Pair

DETAIL_SIGMA_PX = 1.0
"""What a Gaussian of this deviation takes away is fine detail."""
EVERY = 5
"""Pictures from one that is measured to the next."""
SMOOTH_PX = 4.0
INSIDE, OUTSIDE = 0.4, 0.03
"""Shares of the largest mean difference from which on a pixel was changed, and up to which it was not."""


@dataclass(frozen=True)
class Detail:
    """Fine detail of a forgery against that of its twin, as a logarithm to base 2; above 0 the forgery is sharper."""

    method: str
    inside: float
    outside: float


def measure_detail(pair: Pair) -> Detail | None:
    """Compares a forgery of the pictures with its twin.

    Args:
        pair: From `read_pairs`.
    Returns:
        Ratios over the changed pictures; None where the pictures are the twin's, as of a forgery of the sound.
    """
    frames = list(_changed_frames(pair))
    difference = np.mean([np.abs(forged - twin) for twin, forged in frames], axis=0)
    changed = cv2.GaussianBlur(difference, (0, 0), SMOOTH_PX)
    if changed.max() < 1.0:
        return None
    inside, outside = changed > INSIDE * changed.max(), changed < OUTSIDE * changed.max()
    if not inside.any() or not outside.any():
        return None
    powers = {
        name: [np.mean([_detail(frame)[mask] for frame in column]) for column in zip(*frames, strict=True)]
        for name, mask in (("inside", inside), ("outside", outside))
    }
    ratios = {name: float(np.log2(forged / twin) / 2) for name, (twin, forged) in powers.items()}
    return Detail(pair.method, ratios["inside"], ratios["outside"])


def _changed_frames(pair: Pair) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Luma of twin and forgery, (H, W) float32 each."""
    both = zip(read_frames(pair.twin, 25, num_threads=1), read_frames(pair.forged, 25, num_threads=1), strict=True)
    for index, ((_, _, twin), (_, _, forged)) in enumerate(both):
        if pair.start_frame <= index < pair.end_frame and (index - pair.start_frame) % EVERY == 0:
            yield _luma(twin), _luma(forged)


def _luma(rgb: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.float32)


def _detail(luma: np.ndarray) -> np.ndarray:
    """Power of the fine detail of each pixel."""
    return np.square(luma - cv2.GaussianBlur(luma, (0, 0), DETAIL_SIGMA_PX))


@dataclass(frozen=True)
class DetailTest:
    """Forgeries of one method against their twins."""

    method: str
    sharper: int
    smoother: int
    median: float
    """Of the ratios inside, as a logarithm to base 2."""
    median_outside: float
    p_value: float
    """Of the sign test, two-sided."""


def detail_tests(pairs: Sequence[Pair]) -> list[DetailTest]:
    """One test for each method that changes pictures.

    Raises:
        DataError: There is no such forgery.
    """
    measured = [detail for pair in pairs if (detail := measure_detail(pair)) is not None]
    if not measured:
        raise DataError("there is no forgery of pictures to compare with a twin", fix="run: dfkit forge")
    tests = []
    for method in sorted({detail.method for detail in measured}):
        inside = np.array([detail.inside for detail in measured if detail.method == method])
        outside = [detail.outside for detail in measured if detail.method == method]
        sharper, smoother = int((inside > 0).sum()), int((inside < 0).sum())
        median, median_outside = float(np.median(inside)), float(np.median(outside))
        p_value = sign_p_value(sharper, smoother)
        tests.append(DetailTest(method, sharper, smoother, median, median_outside, p_value))
    return tests
