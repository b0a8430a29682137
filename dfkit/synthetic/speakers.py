"""Eight people who do not exist: how each one's face, light, clothes and voice differ from the portrait's."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

RGB = tuple[int, int, int]


@dataclass(frozen=True)
class Speaker:
    """One synthetic speaker. Shape parameters are fractions of the portrait's own size; 0 leaves it as it is."""

    name: str
    mirrored: bool = False
    """Left and right of the portrait exchanged."""
    face_width: float = 0.0
    jaw_width: float = 0.0
    chin_length: float = 0.0
    nose_width: float = 0.0
    nose_length: float = 0.0
    eye_spacing: float = 0.0
    eye_size: float = 0.0
    mouth_width: float = 0.0
    lip_fullness: float = 0.0
    brow_height: float = 0.0
    hair_volume: float = 0.0
    neck_width: float = 0.0
    skin_lightness: float = 1.0
    """Factor on the skin's lightness L*."""
    skin_warmth: float = 0.0
    """Added to the skin's b*, and half of it to a*."""
    hair: RGB = (120, 95, 60)
    """Mean colour of the hair."""
    brow_strength: float = 0.0
    """0 keeps the portrait's thin brows, 1 paints dense ones in the colour of the hair."""
    beard: float = 0.0
    """0 none, 0.4 stubble, 1 full."""
    glasses: RGB | None = None
    long_hair: float = 0.0
    """0 none; 1 falls to the shoulders."""
    lip_colour: float = 0.0
    """Added to the a* of the lips: lipstick."""
    light_angle_deg: float = 0.0
    """Where the key light stands; 0 right, 90 above."""
    light_strength: float = 0.15
    light_warmth: float = 0.0
    """-1 cold, 1 warm colour of the whole picture."""
    garment: RGB = (60, 70, 90)
    collar: str = "crew"
    """`crew`, `shirt` or `turtle`."""
    background: RGB = (170, 165, 160)
    background_kind: str = "wall"
    """`wall`, `window`, `shelf` or `curtain`."""
    pitch_hz: float = 200.0
    """Mean pitch of the voice."""
    formant_scale: float = 1.0
    """Length of the vocal tract: above 1 is a smaller head."""
    syllables_per_s: float = 4.0
    breathiness: float = 0.1


PRESETS: tuple[Speaker, ...] = (
    Speaker(
        "ada",
        mouth_width=-0.10,
        hair=(96, 66, 40),
        garment=(50, 74, 118),
        background=(176, 170, 160),
        light_angle_deg=150,
        pitch_hz=205,
        formant_scale=1.12,
        syllables_per_s=4.2,
        lip_colour=6,
        collar="shirt",
    ),
    Speaker(
        "ben",
        mirrored=True,
        face_width=0.05,
        jaw_width=0.17,
        chin_length=0.09,
        nose_width=0.16,
        eye_size=-0.10,
        brow_strength=0.9,
        brow_height=-0.05,
        beard=0.85,
        hair=(40, 30, 26),
        hair_volume=-0.16,
        neck_width=0.16,
        skin_lightness=0.88,
        skin_warmth=5,
        garment=(92, 34, 38),
        background=(112, 122, 128),
        background_kind="shelf",
        light_angle_deg=30,
        light_strength=0.25,
        pitch_hz=108,
        formant_scale=0.96,
        syllables_per_s=3.8,
        lip_fullness=-0.10,
    ),
    Speaker(
        "chidi",
        face_width=-0.02,
        jaw_width=0.08,
        chin_length=0.05,
        nose_width=0.26,
        nose_length=-0.03,
        lip_fullness=0.22,
        eye_spacing=0.05,
        hair=(24, 20, 20),
        hair_volume=-0.22,
        neck_width=0.12,
        brow_strength=0.8,
        skin_lightness=0.55,
        skin_warmth=9,
        garment=(206, 196, 172),
        collar="shirt",
        background=(150, 168, 158),
        background_kind="window",
        light_angle_deg=60,
        light_strength=0.2,
        pitch_hz=122,
        formant_scale=1.0,
        syllables_per_s=4.4,
        beard=0.3,
    ),
    Speaker(
        "dora",
        mirrored=True,
        face_width=-0.08,
        jaw_width=-0.09,
        chin_length=0.05,
        nose_width=-0.14,
        eye_size=0.12,
        mouth_width=-0.06,
        hair=(178, 146, 92),
        long_hair=1.0,
        hair_volume=0.06,
        skin_lightness=1.03,
        garment=(36, 112, 100),
        background=(206, 196, 188),
        background_kind="curtain",
        light_angle_deg=120,
        light_strength=0.2,
        glasses=(28, 26, 30),
        pitch_hz=228,
        formant_scale=1.16,
        syllables_per_s=4.6,
        lip_colour=10,
    ),
    Speaker(
        "emil",
        face_width=0.13,
        jaw_width=0.10,
        chin_length=-0.09,
        nose_length=0.10,
        nose_width=0.10,
        eye_spacing=-0.03,
        eye_size=-0.12,
        brow_strength=0.5,
        hair=(150, 150, 150),
        hair_volume=-0.14,
        neck_width=0.18,
        skin_lightness=0.95,
        skin_warmth=-3,
        garment=(58, 60, 64),
        collar="shirt",
        background=(96, 88, 82),
        background_kind="shelf",
        light_angle_deg=200,
        light_strength=0.25,
        glasses=(120, 96, 56),
        pitch_hz=98,
        formant_scale=0.93,
        syllables_per_s=3.4,
        breathiness=0.2,
    ),
    Speaker(
        "fatima",
        mirrored=True,
        face_width=0.05,
        jaw_width=-0.05,
        chin_length=-0.05,
        eye_size=0.20,
        eye_spacing=0.04,
        brow_strength=0.7,
        mouth_width=-0.12,
        lip_fullness=0.12,
        hair=(32, 24, 22),
        long_hair=0.8,
        hair_volume=0.10,
        skin_lightness=0.78,
        skin_warmth=10,
        garment=(190, 90, 60),
        background=(190, 178, 150),
        background_kind="wall",
        light_angle_deg=60,
        light_strength=0.15,
        light_warmth=0.5,
        pitch_hz=188,
        formant_scale=1.10,
        syllables_per_s=4.8,
        lip_colour=12,
    ),
    Speaker(
        "goran",
        face_width=-0.10,
        jaw_width=0.02,
        chin_length=0.15,
        nose_length=0.14,
        nose_width=-0.06,
        mouth_width=0.06,
        brow_height=-0.07,
        brow_strength=1.0,
        beard=0.45,
        hair=(140, 74, 36),
        hair_volume=-0.05,
        neck_width=0.06,
        skin_lightness=1.0,
        skin_warmth=-2,
        garment=(44, 80, 48),
        collar="turtle",
        background=(128, 140, 160),
        background_kind="window",
        light_angle_deg=170,
        light_strength=0.3,
        light_warmth=-0.5,
        pitch_hz=132,
        formant_scale=0.98,
        syllables_per_s=4.0,
    ),
    Speaker(
        "hana",
        mirrored=True,
        face_width=0.09,
        jaw_width=0.0,
        chin_length=-0.02,
        nose_width=0.06,
        nose_length=-0.09,
        eye_spacing=0.07,
        eye_size=-0.02,
        mouth_width=-0.14,
        hair=(18, 17, 22),
        long_hair=0.35,
        hair_volume=-0.02,
        brow_strength=0.4,
        skin_lightness=0.93,
        skin_warmth=6,
        garment=(226, 222, 220),
        collar="turtle",
        background=(140, 108, 120),
        background_kind="curtain",
        light_angle_deg=90,
        light_strength=0.2,
        pitch_hz=246,
        formant_scale=1.20,
        syllables_per_s=4.4,
    ),
)

_VARIED = (
    "face_width",
    "jaw_width",
    "chin_length",
    "nose_width",
    "nose_length",
    "eye_spacing",
    "eye_size",
    "mouth_width",
    "brow_height",
    "hair_volume",
)


def make_speakers(num_speakers: int, *, seed: int) -> list[Speaker]:
    """Speakers by number: the eight presets first, then variations of them.

    Args:
        num_speakers: How many, > 0.
        seed: Decides the variations from the ninth speaker on; the presets do not depend on it.
    Returns:
        Speakers with names of their own.
    """
    speakers = list(PRESETS[:num_speakers])
    for index in range(len(PRESETS), num_speakers):
        rng = np.random.default_rng([seed, index])
        base = PRESETS[index % len(PRESETS)]
        shape = {field: getattr(base, field) + float(rng.uniform(-0.09, 0.09)) for field in _VARIED}
        speakers.append(
            replace(
                replace(base, **shape),
                name=f"{base.name}{index}",
                mirrored=not base.mirrored,
                hair=_random_colour(rng),
                garment=_random_colour(rng),
                background=_random_colour(rng),
                skin_lightness=float(rng.uniform(0.55, 1.03)),
                pitch_hz=base.pitch_hz * float(rng.uniform(0.85, 1.18)),
                glasses=None if base.glasses else (30, 30, 34),
            )
        )
    return speakers


def _random_colour(rng: np.random.Generator) -> RGB:
    level, tint = rng.uniform(30, 190), rng.uniform(-30, 30, size=3)
    red, green, blue = np.clip(level + tint, 10, 235).astype(int)
    return int(red), int(green), int(blue)
