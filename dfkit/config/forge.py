"""Section `forge`: which manipulations `dfkit forge` makes, and how their files are written."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import BaseModel, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from dfkit.clip import CLIP2S

Method = Literal[
    "self_blend",
    "face_swap",
    "lip_time",
    "lip_swap",
    "audio_swap",
    "audio_shift",
    "voice_resynth",
    "mouth_freeze",
    "audio_retime",
    "lip_blend",
    "tts_voice",
    "still_drive",
    "lip_render",
    "face_render",
]
METHODS: tuple[Method, ...] = get_args(Method)
PACKAGE_METHODS: frozenset[str] = frozenset({"tts_voice"})
"""Methods that need a package of the extra `voices`; made only where they are named."""
DEFAULT_METHODS: tuple[Method, ...] = tuple(method for method in METHODS if method not in PACKAGE_METHODS)
PICTURE_METHODS: frozenset[str] = frozenset(
    {
        "self_blend",
        "face_swap",
        "lip_time",
        "lip_swap",
        "mouth_freeze",
        "lip_blend",
        "still_drive",
        "lip_render",
        "face_render",
    }
)
DONOR_METHODS: frozenset[str] = frozenset({"face_swap", "lip_swap", "audio_swap"})
FAMILIES: dict[str, tuple[Method, ...]] = {
    "face": ("self_blend", "face_swap", "still_drive", "face_render"),
    "lips": ("lip_time", "lip_swap", "mouth_freeze", "lip_blend", "lip_render"),
    "voice": ("audio_swap", "voice_resynth", "tts_voice"),
    "sync": ("audio_shift", "audio_retime"),
}
"""Kinds of forgery: of the whole face, of the mouth, of the voice alone (another's, or from a vocoder; every picture is
the twin's), and of the time between own voice and own lips."""
TWIN = "twin"
SCHEMA_VERSION = 1


class ForgeConfig(BaseModel, frozen=True, extra="forbid"):
    """Settings of one forging run; the same settings, seed and sources give the same files."""

    schema_version: NonNegativeInt = SCHEMA_VERSION
    """Of this section."""
    methods: tuple[Method, ...] = DEFAULT_METHODS
    """What is done to each video, once per method; the name of a family stands for all of its methods but those that
    need a further package: `tts_voice` (speech from a neural voice; extra `voices`) is named on its own."""
    seed: NonNegativeInt = 0
    """Decides cells, donors, stretches and all parameters."""
    groups_per_cell: int = Field(default=2, ge=2)
    """Groups that lend each other faces, lips and voices; the cell is the group of all that it yields."""
    voice_match: Literal["like", "unlike", "any"] = "any"
    """Whose voices are exchanged: groups share a cell, and a voice is lent, by how alike voices are (cosine of GE2E
    speaker embeddings, package Resemblyzer); `any`: at random. Without the package voices are drawn, and the run says
    so."""
    part_share: float = Field(default=0.5, ge=0, le=1)
    """Share of the forgeries in which only a part of the video is changed."""
    part_s: tuple[PositiveFloat, PositiveFloat] = (0.5, 1.5)
    """Shortest and longest changed part, seconds."""
    fade_s: tuple[NonNegativeFloat, PositiveFloat] = (0.08, 0.24)
    """Shortest and longest time over which the pictures of a part are faded in, and out again, seconds."""
    seam_s: tuple[PositiveFloat, PositiveFloat] = (0.02, 0.05)
    """Shortest and longest time over which the spectra of two pieces of sound are blended where they meet, seconds."""
    shift_s: tuple[PositiveFloat, PositiveFloat] = (0.2, 1.0)
    """Smallest and largest shift of the sound, seconds, either way."""
    max_seconds: PositiveFloat = 12.0
    """Longer videos are cut to their first seconds, twin and forgery alike; bounds the memory."""
    max_side_px: PositiveInt = 640
    """Larger pictures are scaled down to this longer side, twin and forgery alike."""
    min_face_px: PositiveInt = 64
    """Videos whose face is narrower than this, after scaling, are left out."""
    fps: PositiveFloat = CLIP2S.fps
    """Pictures per second of all that is written; the clip contract's, so that frame labels fall on its grid."""
    sample_rate: PositiveInt = CLIP2S.audio.sample_rate
    """Hz of all that is written, so that a donor's bandwidth does not give it away."""
    loudness_dbfs: float = Field(default=-26.0, le=-15.0)
    """RMS level that every sound track is brought to, dBFS."""
    bits_per_pixel: PositiveFloat = 0.25
    """Bit rate of the pictures divided by pixels per second; 0.25 keeps what is not forged within 38 dB of the
    twin on noisy recordings too, 0.12 does so on clean ones."""
    gop_frames: PositiveInt = 50
    """Pictures from one key picture to the next, at most."""
    preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium"] = "veryfast"
    """Of x264."""
    audio_kbps: PositiveInt = 64
    """Bit rate of the sound."""

    @field_validator("part_s", "shift_s", "fade_s", "seam_s")
    @classmethod
    def _rises(cls, limits: tuple[float, float]) -> tuple[float, float]:
        if not limits[0] < limits[1]:
            raise ValueError(f"({limits[0]:g}, {limits[1]:g}): the first number has to be the smaller one")
        return limits

    @field_validator("methods", mode="before")
    @classmethod
    def _expand(cls, names: object) -> object:
        if not isinstance(names, list | tuple):
            return names
        return tuple(method for name in names for method in _named(name))

    @field_validator("methods")
    @classmethod
    def _once(cls, methods: tuple[Method, ...]) -> tuple[Method, ...]:
        if not methods:
            raise ValueError(f"at least one of {', '.join(METHODS)}")
        return tuple(method for method in METHODS if method in methods)


def _named(name: str) -> tuple[str, ...]:
    """Methods that a family stands for, or one method."""
    if name not in FAMILIES:
        return (name,)
    return tuple(method for method in FAMILIES[name] if method not in PACKAGE_METHODS)


def family_of(method: str) -> str:
    """The family of a method; empty for a twin."""
    return next((family for family, methods in FAMILIES.items() if method in methods), "")


def fake_part_of(method: str) -> str:
    """What of a forgery is fake: `picture`, `sound`, or `sync`, where both are the recording's and only their time
    is not; empty for a twin."""
    if method in PICTURE_METHODS:
        return "picture"
    return {"voice": "sound", "sync": "sync"}.get(family_of(method), "")
