"""Clips of the golden vectors: synthetic faces, so that a bundle ships nobody's face."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from dfkit.clip import ClipSpec
from dfkit.export.parity import ParityClip, sound_arrays, worst_cases

NUM_CLIPS = 10
NUM_PICTURES = 4


def synthetic_clips(spec: ClipSpec) -> list[ParityClip]:
    """Clips of two synthetic speakers: as they are, with the other's sound, and with the sound shifted."""
    from dfkit.demo.heads import make_heads
    from dfkit.media.stream import read_clips

    own = []
    dense = spec if spec.preset == "clip2s" else ClipSpec(picture=spec.picture)
    with tempfile.TemporaryDirectory() as folder:
        for path in make_heads(Path(folder), num_speakers=2, seconds=3.2, seed=7):
            own.append(list(read_clips(path, dense)))
    clips = []
    for speaker, mine in enumerate(own):
        other = own[1 - speaker]
        for number, clip in enumerate(mine[:2]):
            stolen = other[number % len(other)].waveform
            sounds = {
                "own sound": clip.waveform,
                "other's sound": stolen,
                "shifted sound": np.roll(clip.waveform, 8000),
            }
            for what, pcm in sounds.items():
                arrays = {"face": clip.face, "lip": clip.lip} | sound_arrays(np.ascontiguousarray(pcm), spec)
                clips.append(ParityClip(f"speaker {speaker}, clip {number}, {what}", "real", arrays))
    return clips


def choose_golden(clips: list[ParityClip], margins: np.ndarray, spec: ClipSpec) -> list[ParityClip]:
    """Clips with margins of both signs as far as there are, largest first, then silence and black.

    Args:
        clips: Candidates.
        margins: (N,) logit of fake minus logit of real of each.
        spec: Of the clips.
    """
    order = np.argsort(margins)
    half = (NUM_CLIPS - 2) // 2
    places = dict.fromkeys([*order[:half].tolist(), *order[::-1][:half].tolist()])
    by_name = {clip.name: clip for clip in worst_cases(spec)}
    return [*(clips[n] for n in places), by_name["silence"], by_name["black"]]
