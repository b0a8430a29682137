"""The head of one speaker: the public-domain portrait, reshaped and recoloured, with its landmarks.

The portrait is NASA's photograph S93-33478 of Eileen Collins (public domain) as scikit-image ships it, 512 x 512, under
the name `astronaut`; `portrait.png` is the part around the head, bit for bit. Positions on it stand in
`portrait_points.json`, in pixels of the whole.

Canvas: that part at twice its size. A head layer is RGBA on that canvas.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from dfkit.errors import DataError
from dfkit.synthetic.face_shape import HALF_HEIGHT_PX, face_position, portrait_position, smoothstep
from dfkit.synthetic.speakers import Speaker

ORIGIN_X, ORIGIN_Y = 85, 2
SCALE = 2.0
CANVAS_WIDTH, CANVAS_HEIGHT = 560, 466
PORTRAIT_SHA256 = "e87e68f26ecc971a3fa11ef8255f198c4237bedfd7ddb52a5258c2e232ed49da"
# The portrait wears a black collar from here on (pixels of the portrait); the neck above it is drawn longer.
NECK_Y = 178.5
NECK_STRETCH = 6.0
COLLAR = ((186, 178.0), (203, 183.0), (220, 185.5), (241, 185.0), (253, 182.0))
BEARD_EDGE = ((0, 133.5), (9, 134), (19, 143), (28, 143), (38, 127), (45, 112), (60, 108))


@dataclass(frozen=True)
class Head:
    """A speaker's head at rest."""

    rgba: np.ndarray
    """(CANVAS_HEIGHT, CANVAS_WIDTH, 4) uint8; colour goes on outside of the outline."""
    curves: dict[str, np.ndarray]
    """Named lines in canvas pixels, (N, 2) float32, from left to right; see `portrait_points.json`."""
    chin_drop_px: float
    """How much further down the chin and all below it lie than in the portrait, canvas pixels."""
    glasses: np.ndarray | None
    """Like `rgba`; lies on the face and does not move with lids and lips."""


def make_head(speaker: Speaker, *, seed: int) -> Head:
    """Reshapes and recolours the portrait.

    Args:
        speaker: The looks.
        seed: Of the texture of brows and beard.
    Returns:
        The head at rest, mouth as in the portrait (open in a smile).
    Raises:
        MissingExtraError: scikit-image is not installed.
        DataError: The portrait is missing or was changed.
    """
    rng = np.random.default_rng([seed, 1])
    rgb, points = load_portrait(), load_points()
    rgb = rgb.astype(np.float32) / 255
    alpha, skin = _region(points["head_outline"], 0.9), _region(points["skin"], 1.6)
    rgb = _recolour(rgb, alpha, skin, points, speaker)
    rgb = _paint_hair(rgb, skin, points, speaker, rng)
    inside = _region(points["head_outline"], 0.9, shrink_px=5)
    rgb = _spread_colours(rgb, inside)
    alpha = cv2.GaussianBlur(_region(points["head_outline"], 0.7, shrink_px=3), (0, 0), 1.1)
    layer = np.dstack([rgb, alpha])
    layer = _reshape(layer, speaker)
    curves = {name: _curve(line, speaker) for name, line in points.items()}
    layer[..., :3] *= _light(speaker)[..., None]
    rgba = np.clip(layer * 255 + 0.5, 0, 255).astype(np.uint8)
    glasses = None if speaker.glasses is None else _draw_glasses(curves, speaker.glasses)
    return Head(rgba, curves, speaker.chin_length * HALF_HEIGHT_PX * SCALE, glasses)


@lru_cache(maxsize=1)
def load_portrait() -> np.ndarray:
    """The portrait on the canvas.

    Returns:
        (CANVAS_HEIGHT, CANVAS_WIDTH, 3) uint8 RGB.
    Raises:
        DataError: The file is missing or was changed.
    """
    path = Path(__file__).with_name("portrait.png")
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != PORTRAIT_SHA256:
        raise DataError(f"{path}: missing or changed; the face points were taken on another", fix="install dfkit again")
    bgr = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert bgr is not None, "the hash stands for a picture that can be read"
    crop = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    return cv2.resize(crop, (CANVAS_WIDTH, CANVAS_HEIGHT), interpolation=cv2.INTER_LANCZOS4)


@lru_cache(maxsize=1)
def load_points() -> dict[str, np.ndarray]:
    """Named lines on the portrait, each (N, 2) float64, in its own pixels."""
    text = Path(__file__).with_name("portrait_points.json").read_text(encoding="utf-8")
    return {name: np.array(line, np.float64) for name, line in json.loads(text).items()}


def to_canvas(points: np.ndarray) -> np.ndarray:
    """Pixels of the portrait to pixels of the canvas, both with whole numbers at pixel centres; (..., 2)."""
    return (points - (ORIGIN_X, ORIGIN_Y) + 0.5) * SCALE - 0.5


def _portrait_grid() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[0:CANVAS_HEIGHT, 0:CANVAS_WIDTH].astype(np.float64)
    return (x + 0.5) / SCALE - 0.5 + ORIGIN_X, (y + 0.5) / SCALE - 0.5 + ORIGIN_Y


def _region(outline: np.ndarray, feather_px: float, *, shrink_px: int = 0) -> np.ndarray:
    """Soft inside of a polygon on the canvas, float32 in [0, 1]."""
    mask: np.ndarray = np.zeros((CANVAS_HEIGHT, CANVAS_WIDTH), np.uint8)
    # Four fractional bits: corners at a sixteenth of a pixel.
    corners = np.round(to_canvas(outline) * 16).astype(np.int32)
    cv2.fillPoly(mask, [corners], 255, lineType=cv2.LINE_AA, shift=4)
    if shrink_px:
        mask = cv2.erode(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * shrink_px + 1,) * 2))
    return cv2.GaussianBlur(mask.astype(np.float32) / 255, (0, 0), feather_px * SCALE / 2)


def _recolour(
    rgb: np.ndarray, alpha: np.ndarray, skin: np.ndarray, points: dict[str, np.ndarray], speaker: Speaker
) -> np.ndarray:
    """Skin, lips and hair in the speaker's colours, in CIE L*a*b*; the eyes keep theirs."""
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)
    eyes = sum(
        _region(np.concatenate([points[f"{side}_eye_upper"], points[f"{side}_eye_lower"][::-1]]), 0.6)
        for side in ("left", "right")
    )
    mouth = _region(np.concatenate([points["upper_lip_inner"], points["lower_lip_inner"][::-1]]), 0.6)
    skin = skin * (1 - np.clip(eyes + mouth, 0, 1))
    lips = np.clip(_region(points["lips_outline"], 0.8) - mouth, 0, 1)
    dark = 1 - speaker.skin_lightness
    skin_lab = lab * (speaker.skin_lightness, 1, 1)
    skin_lab += np.array([0, speaker.skin_warmth / 2 + 6 * dark, speaker.skin_warmth + 12 * dark], np.float32)
    skin_lab[..., 1] += (4 + speaker.lip_colour) * lips
    skin_lab[..., 0] -= (3 + 0.6 * speaker.lip_colour) * lips
    hair = np.clip(alpha - skin, 0, 1) * (1 - np.clip(eyes + mouth, 0, 1))
    lab = lab + skin[..., None] * (skin_lab - lab) + hair[..., None] * (_hair_lab(lab, hair, speaker) - lab)
    return np.clip(cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_LAB2RGB), 0, 1)


def _hair_lab(lab: np.ndarray, hair: np.ndarray, speaker: Speaker) -> np.ndarray:
    mean = (lab * hair[..., None]).sum(axis=(0, 1)) / hair.sum()
    target = cv2.cvtColor(np.array([[speaker.hair]], np.float32) / 255, cv2.COLOR_RGB2LAB)[0, 0]
    # Dark hair has less contrast than fair hair; 0.35 keeps its strands visible.
    contrast = float(np.clip(target[0] / mean[0], 0.35, 0.8))
    return target + (lab - mean) * np.array([contrast, 0.3, 0.3], np.float32)


def _paint_hair(
    rgb: np.ndarray,
    skin: np.ndarray,
    points: dict[str, np.ndarray],
    speaker: Speaker,
    rng: np.random.Generator,
) -> np.ndarray:
    """Paints brows and beard in the colour of the speaker's hair; (H, W, 3) in [0, 1]."""
    colour = np.array(speaker.hair, np.float32) / 255 * 0.7
    noise = rng.standard_normal(skin.shape).astype(np.float32)
    grain = cv2.GaussianBlur(noise, (0, 0), sigmaX=0.7, sigmaY=1.6)
    grain = np.clip(0.8 + 0.13 * grain / grain.std(), 0, 1.2)
    cover = speaker.beard * _beard_region(skin, points)
    brows = np.zeros_like(skin, np.uint8)
    for side in ("left", "right"):
        below = to_canvas(points[f"{side}_brow"]) + np.array([0, 3])
        line = np.round(below * 16).astype(np.int32)
        thickness = max(1, round(7 * speaker.brow_strength))
        cv2.polylines(brows, [line], False, 255, thickness=thickness, lineType=cv2.LINE_AA, shift=4)
    soft = cv2.GaussianBlur(brows.astype(np.float32) / 255, (0, 0), 1.8)
    cover = np.maximum(cover, min(1.0, 0.85 * speaker.brow_strength) * soft)
    cover = np.clip(cover * grain, 0, 0.92)[..., None]
    return rgb * (1 - cover) + colour * cover


def _beard_region(skin: np.ndarray, points: dict[str, np.ndarray]) -> np.ndarray:
    x, y = _portrait_grid()
    edge = np.interp(np.abs(x - 224.5), *np.array(BEARD_EDGE).T)
    jaw = _region(points["face_oval"], 3.0)
    lips = cv2.dilate(_region(points["lips_outline"], 0.7), np.ones((3, 3), np.uint8))
    return smoothstep(y - edge, -2.5, 4.0) * jaw * skin * (1 - np.clip(1.3 * lips, 0, 1))


def _spread_colours(rgb: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Lets the head's colours go on beyond its outline, so that no rim of the old background shows."""
    weight = inside[..., None]
    spread = cv2.GaussianBlur(rgb * weight, (0, 0), 5) / (cv2.GaussianBlur(inside, (0, 0), 5)[..., None] + 1e-4)
    return rgb * weight + np.clip(spread, 0, 1) * (1 - weight)


def _reshape(layer: np.ndarray, speaker: Speaker) -> np.ndarray:
    """The portrait on the canvas warped into the speaker's shape, mirrored last."""
    x, y = portrait_position(*_portrait_grid(), speaker)
    below = np.minimum(NECK_Y + (y - NECK_Y) / NECK_STRETCH, np.interp(x, *np.array(COLLAR).T))
    neck = smoothstep(y, NECK_Y - 0.01, NECK_Y + 0.01)
    shade = 1 - 0.3 * smoothstep(y, NECK_Y, NECK_Y + 22)
    y = y + neck * (below - y)
    source = to_canvas(np.dstack([x, y])).astype(np.float32)
    warped = cv2.remap(layer, source[..., 0], source[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    warped = np.dstack([warped[..., :3] * shade[..., None], warped[..., 3]]).astype(np.float32)
    return np.clip(warped[:, ::-1] if speaker.mirrored else warped, 0, 1)


def _curve(line: np.ndarray, speaker: Speaker) -> np.ndarray:
    points = to_canvas(face_position(line, speaker))
    if speaker.mirrored:
        points = np.stack([CANVAS_WIDTH - 1 - points[::-1, 0], points[::-1, 1]], axis=1)
    return points.astype(np.float32)


def _light(speaker: Speaker) -> np.ndarray:
    """Factor of a soft key light on a face that is taken for a ball, float32 (H, W)."""
    x, y = _portrait_grid()
    angle = np.deg2rad(speaker.light_angle_deg)
    towards = np.tanh(((x - 226) * np.cos(angle) - (y - 105) * np.sin(angle)) / 45)
    return (1 + speaker.light_strength * towards).astype(np.float32)


def _draw_glasses(curves: dict[str, np.ndarray], colour: tuple[int, int, int]) -> np.ndarray:
    centres = [
        np.concatenate([curves[f"{side}_eye_upper"], curves[f"{side}_eye_lower"]]).mean(axis=0)
        for side in ("left", "right")
    ]
    left, right = sorted(centres, key=lambda centre: float(centre[0]))
    span = float(right[0] - left[0])
    lines = np.zeros((CANVAS_HEIGHT, CANVAS_WIDTH), np.uint8)

    def fixed(x: float, y: float) -> tuple[int, int]:
        return round(x * 16), round(y * 16)

    axes = fixed(0.37 * span, 0.27 * span)
    for centre in (left, right):
        cv2.ellipse(lines, fixed(centre[0], centre[1] + 4), axes, 0, 0, 360, 255, 3, cv2.LINE_AA, 4)
    middle = (left + right) / 2
    bridge = fixed(0.135 * span, 0.09 * span)
    cv2.ellipse(lines, fixed(middle[0], middle[1] + 2), bridge, 0, 180, 360, 255, 3, cv2.LINE_AA, 4)
    for centre, side in ((left, -1), (right, 1)):
        start = fixed(centre[0] + side * 0.37 * span, centre[1])
        cv2.line(lines, start, fixed(centre[0] + side * 0.6 * span, centre[1] - 4), 255, 3, cv2.LINE_AA, 4)
    frame = np.full((CANVAS_HEIGHT, CANVAS_WIDTH, 3), colour, np.uint8)
    return np.dstack([frame, (lines * 0.9).astype(np.uint8)])
