"""Inputs of the golden vectors: synthetic faces, so that a bundle ships nobody's face, and what is made of them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from dfkit.clip import ClipSpec
from dfkit.export.graph import ScoreGraph
from dfkit.export.parity import ParityClip, sound_arrays, worst_cases
from dfkit.models.mmms_ba import MMMSBA

NUM_PICTURES = 4
"""Pictures are most of a bundle's bytes."""
NUM_SCORE_CASES = 8
NUM_MIXTURES = 150
FORCED = ("silence", "black")
PUSH_STEPS = 200
PUSH_RATE = {"features": 0.05, "landmarks": 0.5}
"""Step sizes: of features that are of the order of 1, and of landmarks in pixels."""
PUSH_MARGIN = 0.2
"""How far beyond the threshold a pushed clip should get, in logits: above what INT8 may change."""
Arrays = dict[str, np.ndarray]


def base_clips(spec: ClipSpec) -> list[ParityClip]:
    """Two clips of each of two synthetic speakers, and the worst cases."""
    from dfkit.media.stream import read_clips
    from dfkit.synthetic.heads import make_heads

    dense = spec if spec.preset == "clip2s" else ClipSpec(picture=spec.picture)
    clips = []
    with tempfile.TemporaryDirectory() as folder:
        for speaker, path in enumerate(make_heads(Path(folder), num_speakers=2, seconds=3.2, seed=7)):
            for number, clip in enumerate(list(read_clips(path, dense))[:2]):
                arrays = {"face": clip.face, "lip": clip.lip, "landmarks": clip.landmarks}
                arrays |= sound_arrays(clip.waveform, spec)
                clips.append(ParityClip(f"speaker {speaker}, clip {number}", "real", arrays))
    return [*clips, *worst_cases(spec)]


def picture_candidates(clips: Sequence[ParityClip], kinds: Sequence[str]) -> list[tuple[str, Arrays]]:
    """One picture of each kind, (1, side, side, 3): three places of each real clip, one of each worst case."""
    found = []
    for clip in clips:
        length = len(clip.arrays[kinds[0]])
        places = (0, length // 3, length // 2) if clip.kind == "real" else (0,)
        for place in dict.fromkeys(places):
            pictures = {m: np.ascontiguousarray(clip.arrays[m][place : place + 1]) for m in kinds}
            found.append((f"{clip.name}, picture {place}", pictures))
    return found


def mixtures(cases: Sequence[tuple[str, Arrays]]) -> list[tuple[str, Arrays]]:
    """The cases as they are, and others that take each of their inputs from a case of its own.

    Args:
        cases: Name and what `score` takes, by dfkit's names.
    """
    rng = np.random.default_rng(7)
    mixed = list(cases)
    for _ in range(NUM_MIXTURES):
        picked = {key: int(rng.integers(len(cases))) for key in cases[0][1]}
        name = "; ".join(f"{key} of {cases[number][0]}" for key, number in picked.items())
        mixed.append((name, {key: cases[number][1][key] for key, number in picked.items()}))
    return list({name: (name, arrays) for name, arrays in mixed}.values())


def differences(answers: Sequence[Mapping[str, np.ndarray]], output: str) -> np.ndarray:
    """Root mean square difference of an output between each two cases: (N, N) float64."""
    values = np.stack([answer[output].ravel().astype(np.float64) for answer in answers])
    return np.sqrt(((values[:, None] - values[None]) ** 2).mean(axis=-1))


def far_apart(answers: Sequence[Mapping[str, np.ndarray]], first: Sequence[int], count: int) -> list[int]:
    """Cases whose answers differ from each other as much as they can, in every output.

    Each next case is the one that is farthest from those before it (Gonzalez 1985). The distance of two cases is the
    smallest over the outputs, each in parts of its own largest one. Of candidates that answer alike in every output,
    such as silence without sound among the inputs, one is taken: two would leave no tolerance between them.

    Args:
        answers: Outputs by name, of every candidate.
        first: Those that are taken before others.
        count: How many are wanted.
    Returns:
        Numbers of the candidates; fewer than `count` where no more differ.
    """
    parts = []
    for output in answers[0]:
        table = differences(answers, output)
        parts.append(table / max(float(table.max()), np.finfo(np.float32).tiny))
    distances, alike = np.min(parts, axis=0), np.max(parts, axis=0) == 0
    chosen: list[int] = []
    for number in first:
        if not alike[number, chosen].any():
            chosen.append(number)
    while len(chosen) < count and not (taken := alike[:, chosen].any(axis=1)).all():
        nearest = distances[:, chosen].min(axis=1)
        nearest[taken] = -1
        chosen.append(int(nearest.argmax()))
    return chosen


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
        The same inputs with other features (without pictures: other landmarks), none below zero that a ReLU leaves;
        where a few hundred steps do not get there, as far as they got.
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
            for name in network.spec.plain_cnns:  # a texture's means and landmarks may lie anywhere
                arrays[f"{name}_features"].clamp_(min=0)
    return {name: value.detach().numpy() for name, value in arrays.items()}
