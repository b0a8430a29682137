"""Carries a mouth from one picture into another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from dfkit.forge import blend, geometry
from dfkit.forge.footage import Footage

NUM_OUTER = len(geometry.OUTER_LIP)
# A tint is held within what light and make-up do to skin: beyond it, the measure has gone wrong.
MAX_LIGHT = 1.6
MAX_SHIFT = 30.0
RIM_LIGHT = 1.25
TEETH_CHROMA = 0.4


@dataclass(frozen=True)
class MouthOverlay(blend.Overlay):
    """A mouth carried into another picture; beside the mask of the overlay, masks of its parts for the tints."""

    rim: np.ndarray
    """Where the mask fades: skin on both sides."""
    lips: np.ndarray
    """The carried lips, without what lies between them."""
    between: np.ndarray
    """What lies between them."""
    covered_lips: np.ndarray
    """The lips of the picture under the overlay."""


@dataclass(frozen=True)
class Tint:
    """From the colours of one skin, or of one pair of lips, to those of another."""

    source_light: float
    """L* that becomes `target_light`. Below it the factor is the same: a dark mouth stays dark. Above it white
    stays white, so that nothing glares."""
    target_light: float
    shift: np.ndarray
    """(2,), added to a* and b*."""

    def apply(self, lab: np.ndarray, *, chroma: float = 1.0) -> np.ndarray:
        """(..., 3) L*a*b*; `chroma` is the share of the shift that is applied."""
        light = lab[..., :1]
        above = (100 - self.target_light) / (100 - self.source_light)
        moved = np.where(
            light < self.source_light,
            light * (self.target_light / self.source_light),
            self.target_light + (light - self.source_light) * above,
        )
        return np.concatenate([moved, lab[..., 1:] + chroma * self.shift], axis=-1)


def paste_mouths(footage: Footage, source: Footage, start: int, moments: Sequence[int]) -> list[np.ndarray]:
    """Carries the mouth of `source` at each moment into the frames from `start` on.

    Args:
        footage: The video that is changed.
        source: Where the mouths come from; the same footage, or another person's.
        start: First changed frame.
        moments: For each changed frame the frame of `source`.
    Returns:
        The changed frames.
    """
    end = start + len(moments)

    def lay_over(index: int) -> MouthOverlay:
        return _lay_over(footage, index, source, moments[index - start])

    tints = None
    if source is not footage:
        tints = _measure_tints([(footage.frames[i], lay_over(i)) for i in blend.sample_frames(start, end)])
    frames = []
    for index in range(start, end):
        frame, over = footage.frames[index], lay_over(index)
        rgb = over.rgb if tints is None else _tint(over, *tints)
        around = frame[over.box.slices].astype(np.float32)
        sigma = 0.1 * geometry.face_width(footage.landmarks[index])
        lit = blend.relight(rgb, around, over.rim, sigma_px=sigma, strength=1.0, limit=RIM_LIGHT)
        frames.append(blend.paste(frame, over.box, lit, over.mask))
    return frames


def _lay_over(footage: Footage, index: int, source: Footage, moment: int) -> MouthOverlay:
    landmarks, origin = footage.landmarks[index], source.landmarks[moment]
    box = geometry.face_box(landmarks, footage.frames[index].shape)
    around, lips = list(geometry.AROUND_MOUTH), list((*geometry.OUTER_LIP, *geometry.INNER_LIP))
    moved = _carry_lips(landmarks, origin)
    rgb = geometry.warp_into(
        source.frames[moment],
        box,
        np.concatenate([landmarks[around], moved]),
        np.concatenate([origin[around], origin[lips]]),
    )
    mask = geometry.mouth_mask(landmarks, moved[:NUM_OUTER], box)
    feather = 0.02 * geometry.face_width(landmarks)
    between = geometry.soft_polygon(moved[NUM_OUTER:], box, feather)
    ring = cv2.GaussianBlur(geometry.soft_polygon(moved[:NUM_OUTER], box, feather), (0, 0), max(0.5, feather / 2))
    covered_mouth = geometry.soft_polygon(landmarks[list(geometry.OUTER_LIP)], box, feather)
    covered_opening = geometry.soft_polygon(landmarks[list(geometry.INNER_LIP)], box, feather)
    return MouthOverlay(
        box=box,
        rgb=rgb,
        mask=mask,
        rim=4 * mask * (1 - mask),
        lips=np.clip(ring - between, 0, 1),
        between=between,
        covered_lips=np.clip(covered_mouth - covered_opening, 0, 1),
    )


def _carry_lips(landmarks: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Where the source's lips come to lie: moved with the steady parts of the face, their shape kept.

    Returns:
        (40, 2): outer lip, then inner lip.
    """
    steady, corners = list(geometry.STEADY), list(geometry.MOUTH_CORNERS)
    # The middle between the corners of the mouth hardly moves in speech and says where the mouth sits.
    source_points = np.concatenate([source[steady], source[corners].mean(axis=0)[None]])
    target_points = np.concatenate([landmarks[steady], landmarks[corners].mean(axis=0)[None]])
    matrix = geometry.fit_affine(source_points, target_points, np.append(np.ones(len(steady)), 8.0))
    lips = source[list((*geometry.OUTER_LIP, *geometry.INNER_LIP))]
    return geometry.steady(lips @ matrix[:, :2].T + matrix[:, 2])


def _measure_tints(samples: list[tuple[np.ndarray, MouthOverlay]]) -> tuple[Tint, Tint]:
    """Tints of skin and of lips, one for the whole stretch each."""
    skin_colours, lip_colours = [], []
    for frame, over in samples:
        around = frame[over.box.slices]
        skin_colours.append((_mean_lab(over.rgb, over.rim), _mean_lab(around, over.rim)))
        lip_colours.append((_mean_lab(over.rgb, over.lips), _mean_lab(around, over.covered_lips)))
    return _make_tint(skin_colours), _make_tint(lip_colours)


def _mean_lab(rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mean L*, a*, b* under a mask, (3,)."""
    return blend.measure_colour(rgb, mask)[0]


def _make_tint(pairs: list[tuple[np.ndarray, np.ndarray]]) -> Tint:
    source, target = np.mean(pairs, axis=0)
    source_light = float(np.clip(source[0], 5, 95))
    target_light = float(np.clip(target[0], source_light / MAX_LIGHT, min(95.0, source_light * MAX_LIGHT)))
    shift = np.clip(target[1:] - source[1:], -MAX_SHIFT, MAX_SHIFT).astype(np.float32)
    return Tint(source_light, target_light, shift)


def _tint(over: MouthOverlay, skin: Tint, lips: Tint) -> np.ndarray:
    lab = blend.to_lab(over.rgb)
    # Teeth take the light and most of its colour, but nothing of the difference between two skins.
    inner = skin.apply(lab, chroma=TEETH_CHROMA)
    ring, between = over.lips[..., None], over.between[..., None]
    mixed = skin.apply(lab) * (1 - ring - between) + lips.apply(lab) * ring + inner * between
    return np.clip(cv2.cvtColor(mixed.astype(np.float32), cv2.COLOR_LAB2RGB) * 255, 0, 255)
