"""When a score rests on too little for a verdict: `review`, with the reason, whatever the score is.

Limits were set on 42 real and 78 made videos, of which the reasons below hold for few; see docs/experiments.md.
"""

from __future__ import annotations

from dataclasses import dataclass

MIN_READ_SHARE = 0.9
"""Least share of a file's pictures, and of its sound, that has to be read."""
MIN_PICTURES_PER_S = 8.0
"""Fewer different pictures a second show no motion of lips."""
MIN_FACE_PX = 40.0
"""Longer side of the landmarks' box; a smaller face is mostly made up by scaling."""
MIN_FACE_LUMA = 20.0
"""Mean luma of the face crop, 0 to 255; a darker face is mostly noise."""
MIN_CHANGE = 0.15
"""Mean absolute change of the face crop from a picture to the next, grey levels; less is a still picture."""


@dataclass(frozen=True)
class FaceEvidence:
    """What the faces of one track are like; medians over its pictures."""

    face_px: float
    """Longer side of the landmarks' box, in pixels of the picture."""
    luma: float
    """Mean luma of the face crop, 0 to 255."""
    change: float | None
    """Mean absolute change of the face crop from a picture to the next, grey levels; None for one picture."""
    pictures_per_s: float
    """Different pictures a second."""


@dataclass(frozen=True)
class Evidence:
    """What a video's score rests on."""

    picture_share: float = 1.0
    """Share of the pictures that was read."""
    sound_share: float | None = None
    """Share of the sound that was read; None where none is heard."""
    face: FaceEvidence | None = None
    """Of the track that decides; None where no face is followed."""
    distance: float | None = None
    """Of the deciding track's features from those of the real training videos; None where it is not measured."""
    max_distance: float | None = None
    """Largest one at which a score means something."""


def thin_evidence(evidence: Evidence) -> tuple[str, ...]:
    """Reasons why a score is no verdict; none where it is one. A value that is no number is a reason, too."""
    return (*_thin_reading(evidence), *_thin_face(evidence.face), *_far_features(evidence))


def _thin_reading(evidence: Evidence) -> list[str]:
    reasons = []
    for what, share in (("pictures", evidence.picture_share), ("sound", evidence.sound_share)):
        if share is not None and not share >= MIN_READ_SHARE:
            reasons.append(f"{share:.0%} of the {what} was read, {MIN_READ_SHARE:.0%} is needed")
    return reasons


def _thin_face(face: FaceEvidence | None) -> list[str]:
    if face is None:
        return []
    reasons = []
    if not face.pictures_per_s >= MIN_PICTURES_PER_S:
        reasons.append(
            f"{face.pictures_per_s:.3g} different pictures a second, {MIN_PICTURES_PER_S:g} are needed to see lips move"
        )
    elif face.change is None or not face.change >= MIN_CHANGE:
        reasons.append("the picture stands still")
    if not face.face_px >= MIN_FACE_PX:
        reasons.append(f"the face is {face.face_px:.0f} px large, {MIN_FACE_PX:g} px are needed")
    if not face.luma >= MIN_FACE_LUMA:
        reasons.append(f"the face is too dark: mean luma {face.luma:.0f} of 255, {MIN_FACE_LUMA:g} is needed")
    return reasons


def _far_features(evidence: Evidence) -> list[str]:
    if evidence.distance is None or evidence.max_distance is None or evidence.distance <= evidence.max_distance:
        return []
    return [
        f"the face is unlike those of the real videos that the model was trained on: distance "
        f"{evidence.distance:.2f}, at most {evidence.max_distance:.2f}"
    ]
