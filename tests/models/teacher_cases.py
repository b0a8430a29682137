"""The original's golden tensors (GOLDEN.md of the shared folder): inputs, outputs, stressed weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

CASES = ("A", "B", "C", "E", "F")
FRAMES_OF = {"E": "A", "F": "A"}
LIPS_OF = {"E": "A"}
SOUND_OF = {"F": "A"}


def stress(network: nn.Module) -> None:
    """Multiplies weights by powers of two, so that pictures and attention move the logits (GOLDEN.md)."""
    factors: dict[str, float] = {"classifier.0.weight": 8}
    for prefix in ("visual", "lip"):
        for place, factor in ((0, 2), (3, 2), (6, 4)):
            factors[f"{prefix}_feature_extractor.{place}.weight"] = factor
        for end in ("", "_reverse"):
            factors[f"{prefix}_encoder.gru.weight_ih_l0{end}"] = 4
    factors |= {f"{prefix}_dense.1.weight": 4 for prefix in ("audio", "visual", "lip")}
    state = network.state_dict()
    with torch.no_grad():
        for name, factor in factors.items():
            state[name].mul_(factor)


def golden(shared: Path) -> dict[str, np.ndarray]:
    """All arrays of golden.npz."""
    with np.load(shared / "teacher" / "golden.npz", allow_pickle=False) as stored:
        return dict(stored)


def inputs(arrays: dict[str, np.ndarray], case: str) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """Audio, frames, lips and masks of a case, as the original takes them."""

    def floats(name: str, scale: float) -> Tensor:
        return torch.from_numpy(arrays[name].astype(np.float32)) / scale

    audio = floats(f"{SOUND_OF.get(case, case)}_audio_f16", 1)
    frames = floats(f"{FRAMES_OF.get(case, case)}_frames_u8", 255)
    lips = floats(f"{LIPS_OF.get(case, case)}_lip_u8", 255)
    masks = (None, None)
    if case == "B":
        masks = (torch.from_numpy(arrays["B_audio_mask"]), torch.from_numpy(arrays["B_frames_mask"]))
    return audio, frames, lips, *masks


def golden_clip(arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A 2 s clip out of golden pictures and a made-up voice: faces and lips (50, side, side, 3) uint8, PCM."""
    faces = np.concatenate([arrays["A_frames_u8"][0], arrays["B_frames_u8"][0], arrays["B_frames_u8"][1]])
    lips = np.concatenate([arrays["A_lip_u8"][0], arrays["B_lip_u8"][0], arrays["B_lip_u8"][1]])
    times_s = np.arange(33408) / 16000
    pitch_hz = 150 + 40 * np.sin(2 * np.pi * 1.5 * times_s)
    voice = 0.3 * np.sin(2 * np.pi * np.cumsum(pitch_hz) / 16000) * (0.5 + 0.5 * np.sin(2 * np.pi * 3 * times_s))
    noise = 0.02 * np.random.default_rng(0).standard_normal(len(times_s))
    pictures = (np.ascontiguousarray(p[:50].transpose(0, 2, 3, 1)) for p in (faces, lips))
    return *pictures, (voice + noise).astype(np.float32)
