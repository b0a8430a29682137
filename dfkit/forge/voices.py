"""How alike the voices of recordings are, for the choice of who lends a voice to whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dfkit.config.forge import ForgeConfig
from dfkit.errors import MediaError
from dfkit.forge.speech import speech_runs
from dfkit.media.audio import read_waveform

INSTALL = "pip install --no-deps Resemblyzer==0.1.4"
"""Without its dependencies: one of them needs a compiler, and of the package only the weights are read."""
SAMPLE_RATE = 16_000
MIN_SPEECH_S = 0.5


@dataclass(frozen=True)
class VoiceMatch:
    """How the voices of a run were matched."""

    asked: str
    """`like`, `unlike` or `any`."""
    likeness: np.ndarray | None = None
    """(N, N) cosine similarity of the sources' voices, NaN where one is not known; None where none was measured."""
    reason: str = ""
    """Why voices were not matched though it was asked for."""

    @property
    def used(self) -> str:
        """What was done."""
        return "any" if self.likeness is None else self.asked

    def to_json(self) -> dict[str, object]:
        """A JSON object without the similarities."""
        unknown = 0 if self.likeness is None else int(np.isnan(np.diag(self.likeness)).sum())
        return {"asked": self.asked, "used": self.used, "reason": self.reason or None, "voices_unknown": unknown}


def match_voices(paths: Sequence[Path], config: ForgeConfig) -> VoiceMatch:
    """Measures voices where the configuration asks for like or unlike ones, and the weights are installed.

    Args:
        paths: The sources.
        config: `voice_match`, and how much of each source is used.
    Returns:
        Similarities, or why there are none.
    """
    if config.voice_match == "any":
        return VoiceMatch("any")
    from dfkit.models.speaker_encoder import load_encoder, packaged_encoder

    weights = packaged_encoder()
    if weights is None:
        return VoiceMatch(config.voice_match, reason=f"the package Resemblyzer is not installed ({INSTALL})")
    encoder = load_encoder(weights)
    speeches = [_speech(path, config.max_seconds) for path in paths]
    voices = [np.full(256, np.nan) if speech is None else encoder.embed(speech) for speech in speeches]
    stacked = np.stack(voices).astype(np.float64)
    return VoiceMatch(config.voice_match, likeness=stacked @ stacked.T)


def _speech(path: Path, max_seconds: float) -> np.ndarray | None:
    """The sound of a recording without its pauses; None where it has too little."""
    num_samples = round(max_seconds * SAMPLE_RATE)
    try:
        waveform = read_waveform(path, sample_rate=SAMPLE_RATE, first_picture_s=0.0, num_samples=num_samples)
    except MediaError:  # said when the source is forged
        return None
    heard = np.flatnonzero(waveform)
    waveform = waveform[: heard[-1] + 1] if len(heard) else waveform[:0]
    if len(waveform) < MIN_SPEECH_S * SAMPLE_RATE:
        return None
    speech = np.concatenate(
        [waveform[start:end] for start, end in speech_runs(waveform, SAMPLE_RATE)] or [waveform[:0]]
    )
    return speech if len(speech) >= MIN_SPEECH_S * SAMPLE_RATE else None
