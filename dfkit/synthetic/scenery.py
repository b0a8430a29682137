"""What is behind and below a synthetic head: a room, long hair, a garment."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from dfkit.synthetic.face_shape import smoothstep
from dfkit.synthetic.portrait import CANVAS_HEIGHT, CANVAS_WIDTH, SCALE, Head
from dfkit.synthetic.speakers import Speaker

# The camera moves: the scenery is larger than the canvas by this much on every side.
MARGIN = 48
WIDTH, HEIGHT = CANVAS_WIDTH + 2 * MARGIN, CANVAS_HEIGHT + 2 * MARGIN
NECK_TOP_Y = 372.0
NECK_HALF_WIDTH = 70.0


@dataclass(frozen=True)
class Scenery:
    """Layers on the canvas with `MARGIN` pixels more on each side, uint8."""

    background: np.ndarray
    """(HEIGHT, WIDTH, 3)."""
    back_hair: np.ndarray
    """(HEIGHT, WIDTH, 4); goes with the head, behind it."""
    garment: np.ndarray
    """(HEIGHT, WIDTH, 4); before the neck."""


def make_scenery(speaker: Speaker, head: Head, *, seed: int) -> Scenery:
    """Paints the layers around one head.

    Args:
        speaker: Colours and kinds.
        head: Says where the neck stands.
        seed: Of textures.
    Returns:
        The layers.
    """
    rng = np.random.default_rng([seed, 2])
    neck_x = float(head.curves["chin"][0, 0]) + (4 if speaker.mirrored else -4)
    garment = _garment(speaker, neck_x + MARGIN, NECK_TOP_Y + MARGIN + head.chin_drop_px, rng)
    return Scenery(_background(speaker, rng), _back_hair(speaker, head, rng), garment)


def _noise(rng: np.random.Generator, sigma_x: float, sigma_y: float) -> np.ndarray:
    """Smooth noise of unit variance over the scenery, float32."""
    noise = rng.standard_normal((HEIGHT, WIDTH)).astype(np.float32)
    grain = cv2.GaussianBlur(noise, (0, 0), sigmaX=sigma_x, sigmaY=sigma_y)
    return grain / grain.std()


def _background(speaker: Speaker, rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    base = np.array(speaker.background, np.float32)
    light = 1 + 0.16 * np.tanh((x - WIDTH / 2) / WIDTH * 2) - 0.1 * (y / HEIGHT)
    picture = base * light[..., None] * (1 + 0.03 * _noise(rng, 30, 30))[..., None]
    if speaker.background_kind == "window":
        picture = _window(picture, rng)
    elif speaker.background_kind == "shelf":
        picture = _shelf(picture, rng)
    elif speaker.background_kind == "curtain":
        folds = np.sin(x / 15 + 2.5 * _noise(rng, 25, 200)) * 0.09
        picture = picture * (1 + folds[..., None])
    # A room behind a speaker is out of focus.
    blurred = cv2.GaussianBlur(picture, (0, 0), 4)
    return np.clip(blurred + rng.normal(0, 1.5, picture.shape), 0, 255).astype(np.uint8)


def _window(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    left = int(rng.integers(20, 60)) if rng.random() < 0.5 else int(rng.integers(WIDTH - 230, WIDTH - 190))
    picture = picture.copy()
    pane = picture[40:330, left : left + 170]
    rows = np.linspace(0, 1, pane.shape[0], dtype=np.float32)[:, None, None]
    pane[:] = np.array([205, 222, 240], np.float32) * (1 - rows) + np.array([150, 170, 140], np.float32) * rows
    for x in (0, 82, 160):
        pane[:, x : x + 10] = 226
    for y in (0, 140, 280):
        pane[y : y + 10] = 226
    return picture


def _shelf(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    picture = picture.copy()
    for shelf in range(20, HEIGHT, 130):
        x = 0
        while x < WIDTH:
            thickness, tall = int(rng.integers(14, 34)), int(rng.integers(80, 112))
            colour = rng.uniform(40, 170, size=3) * 0.35 + np.array(picture[0, 0]) * 0.4
            picture[shelf + 118 - tall : shelf + 118, x : x + thickness] = colour * rng.uniform(0.7, 1.1)
            x += thickness + int(rng.integers(0, 4))
        picture[shelf + 118 : shelf + 130] = picture[shelf + 118 : shelf + 130] * 0.55
    return picture


def _layer(colour: np.ndarray, outline: np.ndarray, feather_px: float) -> np.ndarray:
    """A coloured polygon as an RGBA layer, uint8; `colour` (HEIGHT, WIDTH, 3) in [0, 255]."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.fillPoly(mask, [np.round(outline * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    soft = cv2.GaussianBlur(mask, (0, 0), feather_px)
    return np.dstack([np.clip(colour, 0, 255).astype(np.uint8), soft])


def _back_hair(speaker: Speaker, head: Head, rng: np.random.Generator) -> np.ndarray:
    if not speaker.long_hair:
        return np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    outline = head.curves["head_outline"] + MARGIN
    left, right = float(outline[:, 0].min()), float(outline[:, 0].max())
    top, end = float(outline[:, 1].min()) + 120, 330 + MARGIN + 150 * speaker.long_hair
    turn = np.linspace(0, np.pi, 30)
    fall = np.stack([(left + right) / 2 - np.cos(turn) * (right - left) * 0.44, end + 40 * np.sin(turn)], 1)
    shape = np.concatenate([[[left + 14, top]], fall, [[right - 14, top]]])
    strands = 1 + 0.22 * _noise(rng, 1.6, 60) + 0.1 * _noise(rng, 9, 80)
    y = np.arange(HEIGHT, dtype=np.float32)[:, None]
    shade = 0.85 - 0.25 * smoothstep(y, top, end)
    return _layer(np.array(speaker.hair, np.float32) * (strands * shade)[..., None], shape, 2.0)


def _garment(speaker: Speaker, neck_x: float, neck_y: float, rng: np.random.Generator) -> np.ndarray:
    half = NECK_HALF_WIDTH * (1 + 0.8 * speaker.neck_width + 0.5 * speaker.face_width)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    folds = 0.09 * _noise(rng, 26, 40) + 0.025 * _noise(rng, 1.0, 1.0)
    round_body = 1 - 0.28 * ((x - neck_x) / 280) ** 2 - 0.15 * np.exp(-((np.hypot(x - neck_x, y - neck_y) / 95) ** 2))
    colour = np.array(speaker.garment, np.float32) * (round_body * (1 + folds))[..., None]
    if speaker.collar == "turtle":
        colour *= (1 + 0.07 * np.sin((x - neck_x) * 0.75) * (y < neck_y + 55))[..., None]
    layer = _layer(colour, _torso(speaker, neck_x, neck_y, half), 1.4)
    return _collar(layer, speaker, neck_x, neck_y, half)


def _torso(speaker: Speaker, neck_x: float, neck_y: float, half: float) -> np.ndarray:
    turn = np.linspace(0, np.pi, 25)
    drop, rise = {"turtle": (9.0, 12.0), "shirt": (62.0, 0.0)}.get(speaker.collar, (24.0, 0.0))
    neckline = np.stack([neck_x + np.cos(turn) * (half + 3), neck_y + rise + drop * np.sin(turn)], axis=1)
    if speaker.collar == "shirt":
        neckline[:, 1] = neck_y + drop * (1 - np.abs(neckline[:, 0] - neck_x) / (half + 3))
    sides = np.array([[half + 6, 14], [half + 50, 34], [half + 130, 62], [half + 190, 110], [half + 215, 260]])
    neck = np.array([neck_x, neck_y])
    left, right = sides * np.array([-1, 1]) + neck, sides[::-1] + neck
    return np.concatenate([neckline, left, right])


def _collar(layer: np.ndarray, speaker: Speaker, neck_x: float, neck_y: float, half: float) -> np.ndarray:
    tone = np.array(speaker.garment, np.float32) * 0.72
    if speaker.collar == "crew":
        axes = (round((half + 6) * 16), 30 * 16)
        centre = (round(neck_x * 16), round((neck_y + 4) * 16))
        band = np.zeros((HEIGHT, WIDTH), np.uint8)
        cv2.ellipse(band, centre, axes, 0, 0, 180, 255, 9, cv2.LINE_AA, 4)
        return _over(layer, tone, band)
    if speaker.collar == "shirt":
        for side in (-1, 1):
            flap = np.array([[half + 8, -4], [half + 26, 22], [30, 96], [2, 62]]) * np.array([side, 1]) + np.array(
                [neck_x, neck_y]
            )
            mask = np.zeros((HEIGHT, WIDTH), np.uint8)
            cv2.fillPoly(mask, [np.round(flap * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
            shadow = cv2.GaussianBlur(np.roll(mask, 5, axis=0), (0, 0), 4) // 2
            layer = _over(layer, tone * 0.4, np.minimum(shadow, layer[..., 3]))
            layer = _over(layer, np.array(speaker.garment, np.float32) * (1.0 if side < 0 else 0.9), mask)
    return layer


def _over(layer: np.ndarray, colour: np.ndarray, mask: np.ndarray) -> np.ndarray:
    mask = cv2.GaussianBlur(mask, (0, 0), 1.2)
    cover = (mask.astype(np.float32) / 255)[..., None]
    rgb = layer[..., :3] * (1 - cover) + colour * cover
    return np.dstack([np.clip(rgb, 0, 255).astype(np.uint8), np.maximum(layer[..., 3], mask)])


assert SCALE == 2.0, "lengths in this file are canvas pixels at twice the portrait's size"
