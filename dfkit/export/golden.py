"""Clips of the golden vectors: synthetic faces, so that a bundle ships nobody's face."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from dfkit.clip import ClipSpec
from dfkit.export.graph import ScoreGraph
from dfkit.export.parity import ParityClip, sound_arrays, worst_cases
from dfkit.models.mmms_ba import MMMSBA

NUM_CLIPS = 10
NUM_PICTURES = 4
PUSH_STEPS = 200
PUSH_RATE = {"features": 0.05, "landmarks": 0.5}
"""Step sizes: of features that are of the order of 1, and of landmarks in pixels."""
PUSH_MARGIN = 0.2
"""How far beyond the threshold a pushed clip should get, in logits: above what INT8 may change."""


def synthetic_clips(spec: ClipSpec) -> list[ParityClip]:
    """Clips of two synthetic speakers: as they are, with the other's sound, and with the sound shifted."""
    from dfkit.media.stream import read_clips
    from dfkit.synthetic.heads import make_heads

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
                arrays = {"face": clip.face, "lip": clip.lip, "landmarks": clip.landmarks}
                arrays |= sound_arrays(np.ascontiguousarray(pcm), spec)
                clips.append(ParityClip(f"speaker {speaker}, clip {number}, {what}", "real", arrays))
    return clips


def choose_golden(clips: list[ParityClip], margins: np.ndarray, spec: ClipSpec) -> list[ParityClip]:
    """Clips with margins of both signs as far as there are, largest first, then silence and black.

    Args:
        clips: Candidates.
        margins: (N,) of each, less the margin of the threshold: positive where it is called fake.
        spec: Of the clips.
    """
    order = np.argsort(margins)
    half = (NUM_CLIPS - 2) // 2
    places = dict.fromkeys([*order[:half].tolist(), *order[::-1][:half].tolist()])
    by_name = {clip.name: clip for clip in worst_cases(spec)}
    return [*(clips[n] for n in places), by_name["silence"], by_name["black"]]


def push_over(
    network: MMMSBA, spec: ClipSpec, inputs: dict[str, np.ndarray], *, towards_fake: bool, threshold_margin: float
) -> dict[str, np.ndarray]:
    """Features of a clip changed by gradient steps until the clip is decided the other way.

    Args:
        network: In eval mode.
        spec: Its clips.
        inputs: What `score` takes, by dfkit's names.
        towards_fake: Which way.
        threshold_margin: The margin, in logits, from which on a clip is called fake.
    Returns:
        The same inputs with other features (without pictures: other landmarks), no feature below zero, as a
        ReLU leaves them; where a few hundred steps
        do not get there, as far as they got.
    """
    score = ScoreGraph(network, spec).eval()
    arrays = {name: torch.from_numpy(value.copy()) for name, value in inputs.items()}
    features = [arrays[name].requires_grad_() for name in arrays if name.endswith("_features")]
    kind = "features" if features else "landmarks"
    pushed = features or [arrays["landmarks"].requires_grad_()]
    optimizer = torch.optim.Adam(pushed, lr=PUSH_RATE[kind])
    for _ in range(PUSH_STEPS):
        sound = [v[None] if name == "pcm" else v for name, v in arrays.items() if name in ("pcm", "mfcc")]
        by_modality = {"audio": sound[0] if sound else None, "motion": arrays.get("landmarks")} | {
            name.removesuffix("_features"): value for name, value in arrays.items() if name.endswith("_features")
        }
        clip_logits = score(*(by_modality[m] for m in score.modalities))[1]
        margin = (clip_logits[0, 1] - clip_logits[0, 0] - threshold_margin) * (1 if towards_fake else -1)
        if margin.item() > PUSH_MARGIN:
            break
        optimizer.zero_grad()
        (-margin).backward()
        optimizer.step()
        with torch.no_grad():
            for value in features:  # landmarks may lie anywhere
                value.clamp_(min=0)
    return {name: value.detach().numpy() for name, value in arrays.items()}
