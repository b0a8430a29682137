"""Where to cut a video so that one face has one width and stays in the middle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dfkit.media.crop import SquareBox
from dfkit.media.landmark import landmark_box
from dfkit.media.track import TrackedPicture

STEADY_FRAMES = 25
"""Pictures over which the middle of a face is averaged: a crop that trembles as landmarks do would show how small the
face was before."""


@dataclass(frozen=True)
class FacePlace:
    """A face in one picture of the grid."""

    track_id: int
    x: float
    """Middle, pixels."""
    y: float
    width: float
    """Of the box around its landmarks, pixels."""


@dataclass(frozen=True)
class Framing:
    """What to cut out of each picture."""

    boxes: tuple[SquareBox, ...]
    """The face in each picture of the grid, as wide as it is in its stretch; pixels as tracked."""
    face_px: float
    """Median width of the face over all pictures in which it was seen, pixels as tracked."""


def places_of(tracked: TrackedPicture) -> list[FacePlace]:
    """The faces of a picture."""
    places = []
    for face in tracked.faces:
        left, top, right, bottom = (float(edge) for edge in landmark_box(face.landmarks))
        places.append(FacePlace(face.track_id, (left + right) / 2, (top + bottom) / 2, right - left))
    return places


def frame_face(pictures: Sequence[Sequence[FacePlace]]) -> Framing | None:
    """Follows the face that is seen most and largest.

    Each stretch of one track has one scale, so that a face that comes nearer still does; where nobody is seen, the cut
    stays where it was.

    Args:
        pictures: Faces of each picture of the grid.
    Returns:
        A box per picture; None where there is no face at all.
    """
    weights: Counter[int] = Counter()
    for places in pictures:
        for place in places:
            weights[place.track_id] += round(place.width)
    chosen = [max(places, key=lambda place: weights[place.track_id]) if places else None for places in pictures]
    seen = [index for index, place in enumerate(chosen) if place is not None]
    if not seen:
        return None
    boxes: list[SquareBox] = []
    for run in _runs(chosen):
        boxes += _run_boxes(chosen[run])
    return Framing(tuple(boxes), float(np.median([place.width for place in chosen if place is not None])))


def _runs(chosen: list[FacePlace | None]) -> list[slice]:
    """Stretches of one track; pictures without a face belong to the stretch before, the first ones to that after."""
    starts: list[int] = []
    last: int | None = None
    for index, place in enumerate(chosen):
        if place is not None and place.track_id != last:
            starts.append(index if starts else 0)
            last = place.track_id
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], len(chosen)], strict=True)]


def _run_boxes(places: list[FacePlace | None]) -> list[SquareBox]:
    seen = [(index, place) for index, place in enumerate(places) if place is not None]
    at = np.array([index for index, _ in seen])
    side = max(float(np.median([place.width for _, place in seen])), 1.0)
    middles = [
        _steady(np.interp(np.arange(len(places)), at, values))
        for values in ([place.x for _, place in seen], [place.y for _, place in seen])
    ]
    return [SquareBox(float(x), float(y), side) for x, y in zip(*middles, strict=True)]


def _steady(values: np.ndarray) -> np.ndarray:
    """Mean over `STEADY_FRAMES` around each; the ends go on."""
    padded = np.pad(values, STEADY_FRAMES // 2, mode="edge")
    return np.convolve(padded, np.full(STEADY_FRAMES, 1 / STEADY_FRAMES), mode="valid")
