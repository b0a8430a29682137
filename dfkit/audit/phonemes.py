"""Phoneme posteriors of sound, by the recogniser inside the package hama.

Its CTC network takes 16 kHz and answers every 320 samples, two steps per picture of a clip; step k is centred on
sample 320 k. 191 tokens: phonemes of Korean and English, a word boundary, a blank.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfkit.clip import ClipSpec
from dfkit.errors import DfkitError, MissingExtraError

PACKAGE, EXTRA = "hama", "baselines"
SAMPLE_RATE = 16000
STEP_SAMPLES = 320
STEPS_PER_PICTURE = 2
CONTEXT_STEPS = 3
"""Steps on either side of a picture's own; with the default contract exactly the sound that a clip holds."""
WINDOW_STEPS = 2 * CONTEXT_STEPS + 1


def unsuitable_contract(spec: ClipSpec) -> str | None:
    """Why clips of a contract have no phonemes for every picture; None where they have."""
    if spec.preset != "clip2s":
        return "needs the landmarks and PCM of clip2s; this is uniform50 data"
    audio = spec.audio
    if audio.sample_rate != SAMPLE_RATE or audio.hop_length != STEPS_PER_PICTURE * STEP_SAMPLES:
        found = f"{audio.sample_rate} Hz with {audio.hop_length} samples a picture"
        return (
            f"needs {SAMPLE_RATE} Hz and {STEPS_PER_PICTURE * STEP_SAMPLES} samples a picture; the clips have {found}"
        )
    if spec.lead_samples < CONTEXT_STEPS * STEP_SAMPLES:
        return f"needs {CONTEXT_STEPS * STEP_SAMPLES} samples of sound around a clip; it has {spec.lead_samples}"
    return None


class PhonemeRecogniser:
    """The recogniser, loaded once."""

    def __init__(self) -> None:
        """Loads it.

        Raises:
            MissingExtraError: The package is not installed.
            DfkitError: It has no library for this system.
        """
        if sys.platform == "win32":
            raise _no_library("there is no build for Windows")
        try:
            from hama import ASRModel
        except ImportError as error:
            raise MissingExtraError(PACKAGE, EXTRA) from error
        try:
            self._session: Any = ASRModel().session
        except RuntimeError as error:
            raise _no_library(str(error)) from error

    def posteriors(self, waveform: NDArray[np.float32], spec: ClipSpec) -> NDArray[np.float32]:
        """Posteriors around every picture of a clip.

        Args:
            waveform: (num_samples,) of the clip.
            spec: Its contract.
        Returns:
            (2 (T - 1) + 7, 191) probabilities; row 2 t + 3 is centred on picture t.
        """
        start = spec.lead_samples - CONTEXT_STEPS * STEP_SAMPLES
        sound = np.clip(waveform[start:], -1, 1)
        feeds = {"waveform": sound[None], "waveform_lengths": np.array([len(sound)])}
        (log_posteriors,) = self._session.run(["log_probs"], feeds)
        steps = STEPS_PER_PICTURE * (spec.num_frames - 1) + WINDOW_STEPS
        return np.asarray(np.exp(log_posteriors[0, :steps]), np.float32)


def _no_library(reason: str) -> DfkitError:
    return DfkitError(
        f"phonemes need the library of the Python package '{PACKAGE}', which is for Linux and macOS: {reason}",
        fix="dfkit baseline --of features --of facts --of texture, or dfkit baseline in WSL (Linux on Windows)",
    )
