"""Self-blended faces and mouths: laid over themselves with other colours and a small displacement.

Fine detail is held at a share of what the picture had there, as often more as less: a displaced and recoloured face
would else be smoother or sharper than its twin as a rule, and a network would learn that and no seam.

Source: Shiohara and Yamasaki 2022, "Detecting Deepfakes with Self-Blended Images", section 3. The parameters
are drawn once per video and the mask moves with the face, so that it does not flicker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import cv2
import numpy as np

from dfkit.forge import blend, geometry

# The paper's blending ratios: most masks at full strength.
RATIOS = (0.5, 0.75, 1.0, 1.0, 1.0)
NUM_BUMPS = 3
DETAIL = (0.1, 0.35)
"""Smallest and largest change of the fine detail, natural logarithm, either way."""
MAX_DETAIL_GAIN = 3.0


@dataclass(frozen=True)
class SelfBlend:
    """Parameters of a self-blend, drawn once per video."""

    rgb_shift: tuple[float, float, float]
    """Added, of 255."""
    saturation: float
    brightness: float
    contrast: float
    detail: float
    """Fine detail of the changed place as a share of what was there; above 1 sharper, below 1 smoother."""
    scale: float
    """Size of the face that is laid over."""
    shift_x: float
    """Of the face's width."""
    shift_y: float
    mask_grow: float
    feather: float
    ratio: float
    """Strength of the mask."""
    below_fringe: bool
    """Whether the mask ends above the brows, or takes in the whole forehead."""
    bumps: tuple[float, ...]
    """Radial deformation of the mask: amplitude and phase of each harmonic."""

    def parameters(self) -> dict[str, float | int | str]:
        """The parameters as JSON values, rounded to 4 decimals, for the forgery's record."""
        values = asdict(self)
        values["rgb_shift"] = " ".join(f"{v:.1f}" for v in self.rgb_shift)
        values["bumps"] = " ".join(f"{v:.3f}" for v in self.bumps)
        return {name: round(v, 4) if isinstance(v, float) else v for name, v in values.items()}


def draw_self_blend(rng: np.random.Generator) -> SelfBlend:
    """Draws parameters whose displacement and colours can be measured, and are not gaudy."""

    def away_from_zero(low: float, high: float) -> float:
        return float(rng.uniform(low, high) * rng.choice([-1, 1]))

    return SelfBlend(
        rgb_shift=(float(rng.uniform(-7, 7)), float(rng.uniform(-5, 5)), float(rng.uniform(-7, 7))),
        saturation=1 + away_from_zero(0.03, 0.12),
        brightness=1 + away_from_zero(0.02, 0.07),
        contrast=1 + away_from_zero(0.03, 0.1),
        detail=float(np.exp(away_from_zero(*DETAIL))),
        scale=1 + away_from_zero(0.012, 0.035),
        shift_x=away_from_zero(0.006, 0.02),
        shift_y=away_from_zero(0.004, 0.014),
        mask_grow=float(rng.uniform(0.86, 1.0)),
        feather=float(rng.uniform(0.06, 0.2)),
        ratio=float(rng.choice(RATIOS)),
        below_fringe=bool(rng.random() < 0.5),
        bumps=tuple(float(v) for _ in range(NUM_BUMPS) for v in (rng.uniform(0, 0.035), rng.uniform(0, 6.28))),
    )


def lay_face_over(frame: np.ndarray, landmarks: np.ndarray, blending: SelfBlend) -> blend.Overlay:
    """What is laid over a face, its fine detail as yet as it comes.

    Args:
        frame: (H, W, 3) uint8.
        landmarks: (468, 2) pixels.
        blending: The same for all frames of a video.
    """
    box = geometry.face_box(landmarks, frame.shape)
    width = geometry.face_width(landmarks)
    oval = geometry.inner_face(landmarks) if blending.below_fringe else landmarks[list(geometry.OVAL)]
    mask = _bumpy_mask(oval, box, width, blending)
    return blend.Overlay(box, _recolour(_displace(frame, landmarks, box, width, blending), blending), mask)


def lay_mouth_over(frame: np.ndarray, landmarks: np.ndarray, blending: SelfBlend) -> blend.Overlay:
    """As `lay_face_over`, of the mouth and the skin around it."""
    box = geometry.face_box(landmarks, frame.shape)
    width = geometry.face_width(landmarks)
    mask = geometry.mouth_mask(landmarks, landmarks[list(geometry.OUTER_LIP)], box) * blending.ratio
    return blend.Overlay(box, _recolour(_displace(frame, landmarks, box, width, blending), blending), mask)


def detail_gain(samples: Sequence[tuple[np.ndarray, blend.Overlay, float]], *, share: float) -> float:
    """Factor on the fine detail of what is laid over, so that the pictures have a share of theirs under the mask.

    Detail that was moved has nothing in common with the one that is still seen through a mask below 1, and the two
    together are weaker than either: so it is the sum that is measured. One factor for a video: one per frame would
    flicker.

    Args:
        samples: Pictures, what is laid over them, and the width of their face in pixels.
        share: RMS wanted, of that of the pictures.
    Returns:
        The factor, in [0, `MAX_DETAIL_GAIN`].
    """
    own = mixed = laid = wanted = 0.0
    for frame, over, width in samples:
        place = (over.mask / max(float(over.mask.max()), 1e-6))[..., None]
        picture, mask = frame[over.box.slices].astype(np.float32), over.mask[..., None]
        fine = _detail(over.rgb, width)
        there = _detail(picture, width)
        kept = _detail(picture + mask * (over.rgb - fine - picture), width)
        added = _detail(mask * fine, width)
        own += float((place * kept**2).sum())
        mixed += float((place * kept * added).sum())
        laid += float((place * added**2).sum())
        wanted += share**2 * float((place * there**2).sum())
    # The larger root of |kept + gain added|^2 = wanted; where none is real, the least there is.
    root = mixed**2 - laid * (own - wanted)
    gain = (-mixed + np.sqrt(max(root, 0.0))) / max(laid, 1e-6)
    return float(np.clip(gain, 0.0, MAX_DETAIL_GAIN))


def paste_with_detail(frame: np.ndarray, over: blend.Overlay, width: float, gain: float) -> np.ndarray:
    """The picture with the overlay on it, (H, W, 3) uint8; the overlay's fine detail is multiplied by `gain`."""
    rgb = np.clip(over.rgb + (gain - 1) * _detail(over.rgb, width), 0, 255)
    return blend.paste(frame, over.box, rgb, over.mask)


def _detail(rgb: np.ndarray, width: float) -> np.ndarray:
    return rgb - cv2.GaussianBlur(rgb, (0, 0), max(0.8, 0.007 * width))


def _bumpy_mask(oval: np.ndarray, box: geometry.Box, width: float, blending: SelfBlend) -> np.ndarray:
    centre = oval.mean(axis=0)
    angle = np.arctan2(*(oval - centre).T[::-1])
    grow = blending.mask_grow + sum(
        amplitude * np.cos((harmonic + 2) * angle + phase)
        for harmonic, (amplitude, phase) in enumerate(zip(blending.bumps[::2], blending.bumps[1::2], strict=True))
    )
    corners = centre + (oval - centre) * np.minimum(grow, 1.02)[:, None]
    mask = geometry.soft_polygon(corners, box, blending.feather * width) * blending.ratio
    return mask.astype(np.float32)


def _displace(
    frame: np.ndarray, landmarks: np.ndarray, box: geometry.Box, width: float, blending: SelfBlend
) -> np.ndarray:
    centre = landmarks[list(geometry.OVAL)].mean(axis=0) - (box.x0, box.y0)
    shift = centre * (1 - blending.scale) + (blending.shift_x * width, blending.shift_y * width)
    matrix = np.array([[blending.scale, 0, shift[0]], [0, blending.scale, shift[1]]])
    height, columns = box.size
    return cv2.warpAffine(
        frame[box.slices], matrix, (columns, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    ).astype(np.float32)


def _recolour(face: np.ndarray, blending: SelfBlend) -> np.ndarray:
    grey = face @ np.array([0.299, 0.587, 0.114], np.float32)
    face = grey[..., None] + (face - grey[..., None]) * blending.saturation
    face = (face - 128) * blending.contrast + 128 * blending.brightness
    return np.clip(face + np.array(blending.rgb_shift, np.float32), 0, 255).astype(np.float32)
