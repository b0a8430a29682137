"""The inputs of the exported graphs: names, order, shapes and types, for every format."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from dfkit.clip import NUM_LANDMARKS, ClipSpec
from dfkit.export.recipes import Recipe
from dfkit.models.mmms_ba import MMMSBA

SIDE_PX = {"face": "face_px", "lip": "lip_px"}


def score_inputs(network: MMMSBA, spec: ClipSpec) -> list[str]:
    """dfkit's names of what `score` takes, in the modalities' order."""
    sound = "pcm" if spec.preset == "clip2s" else "mfcc"
    return [{"audio": sound, "motion": "landmarks"}.get(m, f"{m}_features") for m in network.spec.modalities]


def encode_example(network: MMMSBA, spec: ClipSpec) -> tuple[torch.Tensor, ...]:
    """Example inputs of `encode`: one picture per modality, in [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    sides = [getattr(spec.picture, SIDE_PX[m]) for m in network.spec.pictures]
    return tuple(torch.rand(1, side, side, 3, generator=generator) for side in sides)


def score_example(network: MMMSBA, spec: ClipSpec) -> tuple[torch.Tensor, ...]:
    """Example inputs of `score`, one per modality, in order."""
    generator = torch.Generator().manual_seed(0)
    inputs = []
    for name in network.spec.modalities:
        if name == "motion":
            # Points on a face-like scale: the alignment divides by their extent.
            inputs.append(torch.rand(spec.num_frames, NUM_LANDMARKS, 2, generator=generator) * 200)
            continue
        if name != "audio":
            shape: tuple[int, ...] = (spec.num_frames, network.spec.feature_dim(name))
        elif spec.preset == "clip2s":
            shape = (1, spec.num_samples)
        else:
            shape = (spec.num_frames, spec.audio.n_mfcc)
        inputs.append(torch.rand(*shape, generator=generator) * 0.1)
    return tuple(inputs)


def calibration_inputs(
    network: MMMSBA, recipe: Recipe, clips: Sequence[dict[str, np.ndarray]]
) -> dict[str, list[dict[str, np.ndarray]]]:
    """Calibration clips under the graphs' own argument names."""
    pictures = network.spec.pictures
    data: dict[str, list[dict[str, np.ndarray]]] = {}
    if pictures:
        data["encode"] = [
            {f"args_{place}": clip[m][n : n + 1].astype(np.float32) / 255 for place, m in enumerate(pictures)}
            for clip in clips
            for n in range(len(clip[pictures[0]]))
        ]
    if recipe.calibrates_score:
        data["score"] = [
            {f"args_{place}": score_input(name, clip) for place, name in enumerate(network.spec.modalities)}
            for clip in clips
        ]
    return data


def score_input(modality: str, clip: dict[str, np.ndarray]) -> np.ndarray:
    """The array that `score` takes for a modality, out of a clip's arrays by dfkit's names."""
    if modality == "motion":
        return clip["landmarks"]
    if modality != "audio":
        return clip[f"{modality}_features"]
    return clip["pcm"][None] if "pcm" in clip else clip["mfcc"]
