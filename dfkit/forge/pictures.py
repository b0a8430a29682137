"""Manipulations of the face and of the lips. Each changes a stretch of frames and leaves the rest alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from dfkit.forge import blend, geometry
from dfkit.forge.footage import Footage
from dfkit.forge.matching import match_frames
from dfkit.forge.mouths import paste_mouths
from dfkit.forge.render import Rendering, draw_face_rendering, draw_lip_rendering, render
from dfkit.forge.self_blend import (
    SelfBlend,
    detail_gain,
    draw_self_blend,
    lay_face_over,
    lay_mouth_over,
    paste_with_detail,
)

REPEAT_S = (0.16, 0.4)
FPS = 25.0
MIN_OTHER_MOMENT_FRAMES = 10


@dataclass(frozen=True)
class Change:
    """The changed pictures of a stretch, and how they were changed."""

    frames: list[np.ndarray]
    parameters: dict[str, float | int | str] = field(default_factory=dict)


def swap_face(footage: Footage, donor: Footage | None, start: int, end: int, rng: np.random.Generator) -> Change:
    """The donor's face, warped onto the landmarks, in the colours and the light of the one it covers."""
    assert donor is not None, "the plan gives a donor to every method that needs one"
    chosen = match_frames(footage.landmarks[start:end], donor.landmarks)
    feather = float(rng.uniform(0.12, 0.2))
    points = list(geometry.WHOLE_FACE)

    def lay_over(index: int) -> blend.Overlay:
        landmarks, other = footage.landmarks[index], int(chosen[index - start])
        box = geometry.face_box(landmarks, footage.frames[index].shape)
        rgb = geometry.warp_into(donor.frames[other], box, landmarks[points], donor.landmarks[other][points])
        return blend.Overlay(box, rgb, geometry.face_mask(landmarks, box, grow=0.97, feather=feather))

    sampled = [(footage.frames[i], lay_over(i)) for i in blend.sample_frames(start, end)]
    colours = blend.match_colours(sampled, max_gain=1.4)
    frames = []
    for index in range(start, end):
        frame, over = footage.frames[index], lay_over(index)
        around = frame[over.box.slices].astype(np.float32)
        sigma = 0.22 * geometry.face_width(footage.landmarks[index])
        lit = blend.relight(colours.apply(over.rgb), around, over.mask, sigma_px=sigma, strength=0.7, limit=2.0)
        frames.append(blend.paste(frame, over.box, lit, over.mask))
    return Change(frames, {"feather": feather, "first_donor_frame": int(chosen[0])})


def blend_with_self(footage: Footage, _donor: Footage | None, start: int, end: int, rng: np.random.Generator) -> Change:
    """The face over itself, recoloured and displaced a little: the seam of a face swap without another person."""
    return _lay_over_itself(footage, start, end, draw_self_blend(rng), lay_face_over)


def blend_lips_with_self(
    footage: Footage, _donor: Footage | None, start: int, end: int, rng: np.random.Generator
) -> Change:
    """The mouth over itself, recoloured and displaced a little: the seam of a lip swap that says what was said."""
    return _lay_over_itself(footage, start, end, draw_self_blend(rng), lay_mouth_over)


LayOver = Callable[[np.ndarray, np.ndarray, SelfBlend], blend.Overlay]


def _lay_over_itself(footage: Footage, start: int, end: int, blending: SelfBlend, lay_over: LayOver) -> Change:
    def placed(index: int) -> tuple[np.ndarray, blend.Overlay, float]:
        frame, landmarks = footage.frames[index], footage.landmarks[index]
        return frame, lay_over(frame, landmarks, blending), geometry.face_width(landmarks)

    gain = detail_gain([placed(index) for index in blend.sample_frames(start, end)], share=blending.detail)
    frames = []
    for index in range(start, end):
        frame, over, width = placed(index)
        frames.append(paste_with_detail(frame, over, width, gain))
    return Change(frames, {**blending.parameters(), "detail_gain": round(gain, 4)})


def lips_of_other_moment(
    footage: Footage, _donor: Footage | None, start: int, end: int, rng: np.random.Generator
) -> Change:
    """The mouth from another time of the same video, running on."""
    total = len(footage.frames)
    offset = int(rng.integers(MIN_OTHER_MOMENT_FRAMES, total - MIN_OTHER_MOMENT_FRAMES + 1))
    visible = footage.has_face
    moments = [_nearest_visible((index + offset) % total, visible) for index in range(start, end)]
    return Change(paste_mouths(footage, footage, start, moments), {"offset_frames": offset})


def lips_of_other_person(
    footage: Footage, donor: Footage | None, start: int, end: int, rng: np.random.Generator
) -> Change:
    """The donor's mouth, running on from some moment, in the colours of the one it covers."""
    assert donor is not None, "the plan gives a donor to every method that needs one"
    total = len(donor.frames)
    offset = int(rng.integers(total))
    visible = donor.has_face
    moments = [_nearest_visible(_there_and_back(offset + i, total), visible) for i in range(end - start)]
    return Change(paste_mouths(footage, donor, start, moments), {"first_donor_frame": moments[0]})


def freeze_mouth(footage: Footage, _donor: Footage | None, start: int, end: int, rng: np.random.Generator) -> Change:
    """The mouth stands still, or goes through the same few frames again and again."""
    repeat = bool(rng.random() < 0.5)
    length = round(float(rng.uniform(*REPEAT_S)) * FPS) if repeat else 1
    first = max(0, start - length) if start > 0 else int(rng.integers(max(1, end - length)))
    visible, moments = footage.has_face, []
    for index in range(start, end):
        moment = first + _there_and_back(index - start, length)
        if moment == index:
            # A mouth laid over itself would be no change: its neighbour is taken.
            moment = index - 1 if index > 0 else 1
        moments.append(_nearest_visible(moment, visible))
    return Change(
        paste_mouths(footage, footage, start, moments), {"mode": "repeat" if repeat else "freeze", "frames": length}
    )


def drive_still(footage: Footage, _donor: Footage | None, start: int, end: int, rng: np.random.Generator) -> Change:
    """One picture's face, drawn anew and moved by the landmarks of all others: a portrait that is animated."""
    still = _nearest_visible(int(rng.integers(len(footage.frames))), footage.has_face)
    points, origin = list(geometry.WHOLE_FACE), footage.landmarks[still]

    def portrait(index: int, box: geometry.Box) -> np.ndarray:
        return geometry.warp_into(footage.frames[still], box, footage.landmarks[index][points], origin[points])

    change = _draw_anew(footage, start, end, portrait, _whole_face(rng), draw_face_rendering(rng))
    return Change(change.frames, {"still_frame": still, **change.parameters})


def render_face(footage: Footage, _donor: Footage | None, start: int, end: int, rng: np.random.Generator) -> Change:
    """The face drawn anew in its place, as networks that restore faces do."""

    def own(index: int, box: geometry.Box) -> np.ndarray:
        return footage.frames[index][box.slices].astype(np.float32)

    return _draw_anew(footage, start, end, own, _whole_face(rng), draw_face_rendering(rng))


def render_lips(footage: Footage, _donor: Footage | None, start: int, end: int, rng: np.random.Generator) -> Change:
    """The lower half of the face drawn anew in few pixels, as often with the mouth of another time as with its own."""
    total = len(footage.frames)
    other = bool(rng.random() < 0.5)
    offset = int(rng.integers(MIN_OTHER_MOMENT_FRAMES, total - MIN_OTHER_MOMENT_FRAMES + 1))
    moments = [_nearest_visible((index + offset) % total, footage.has_face) for index in range(start, end)]
    drawn = paste_mouths(footage, footage, start, moments) if other else footage.frames[start:end]

    def mouth(index: int, box: geometry.Box) -> np.ndarray:
        return drawn[index - start][box.slices].astype(np.float32)

    def lower_face(landmarks: np.ndarray, box: geometry.Box) -> np.ndarray:
        corners = landmarks[list((*geometry.JAW, *geometry.MOUTH_TOP))]
        return geometry.soft_polygon(corners, box, feather * geometry.face_width(landmarks))

    feather = float(rng.uniform(0.04, 0.12))
    change = _draw_anew(footage, start, end, mouth, lower_face, draw_lip_rendering(rng))
    return Change(change.frames, {"offset_frames": offset if other else 0, "feather": feather, **change.parameters})


Source = Callable[[int, geometry.Box], np.ndarray]
MaskOf = Callable[[np.ndarray, geometry.Box], np.ndarray]


def _whole_face(rng: np.random.Generator) -> MaskOf:
    feather = float(rng.uniform(0.06, 0.15))
    return lambda landmarks, box: geometry.face_mask(landmarks, box, grow=1.0, feather=feather)


def _draw_anew(footage: Footage, start: int, end: int, source: Source, mask_of: MaskOf, how: Rendering) -> Change:
    """Renders what `source` gives for each picture and lays it over the picture under a mask."""
    frames = []
    for index in range(start, end):
        frame, landmarks = footage.frames[index], footage.landmarks[index]
        box = geometry.face_box(landmarks, frame.shape)
        mask = mask_of(landmarks, box)
        frames.append(
            blend.paste(frame, box, render(source(index, box), mask, geometry.face_width(landmarks), how), mask)
        )
    return Change(frames, how.parameters())


def _there_and_back(index: int, length: int) -> int:
    """0 … length - 1 … 0 …: a loop without a jump."""
    if length == 1:
        return 0
    phase = index % (2 * length - 2)
    return phase if phase < length else 2 * length - 2 - phase


def _nearest_visible(index: int, visible: np.ndarray) -> int:
    candidates = np.flatnonzero(visible)
    return int(candidates[np.argmin(np.abs(candidates - index))])


ChangeFunction = Callable[[Footage, "Footage | None", int, int, np.random.Generator], Change]
CHANGES: dict[str, ChangeFunction] = {
    "self_blend": blend_with_self,
    "face_swap": swap_face,
    "lip_time": lips_of_other_moment,
    "lip_swap": lips_of_other_person,
    "mouth_freeze": freeze_mouth,
    "lip_blend": blend_lips_with_self,
    "still_drive": drive_still,
    "lip_render": render_lips,
    "face_render": render_face,
}
