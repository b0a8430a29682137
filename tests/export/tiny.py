"""A student small enough to be exported in seconds: six pictures of 64 px, eight GRU units, random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from dfkit.clip import ClipSpec, PictureSpec
from dfkit.config import Config, SplitConfig
from dfkit.data.splits import split_clips
from dfkit.data.storage import PreparedData
from dfkit.models import MMMSBA, NetworkSpec
from dfkit.training.checkpoints import save_checkpoint
from dfkit.training.scoring import split_facts
from tests.data.makers import make_prepared, make_row

SPEC = ClipSpec(num_frames=6, picture=PictureSpec(face_px=64, lip_px=32))
NETWORK = NetworkSpec(face_channels=(8, 8, 16), lip_channels=(8, 8, 8), gru_hidden=8, dense_dim=8)
CONFIG = Config.model_validate(
    {"name": "tiny", "clip": SPEC.model_dump(), "export": {"calibration_clips": 4, "parity_clips": 2}}
)
PARTS = ("train", "train", "val", "test")


def tiny_network() -> MMMSBA:
    """Random weights, loud enough that every input moves the answer."""
    torch.manual_seed(5)
    network = MMMSBA(NETWORK).eval()
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "feature_extractor" in name and name.endswith("weight"):
                weight.mul_(2.5)
    return network


def tiny_data(folder: Path, *, people: str = "person", more: int = 0) -> Path:
    """Videos of four persons and `more` training ones, each person's real and fake one in the same part."""
    rows = [
        make_row(2 * n + label, label, (f"{people}{n}",), split=part)
        for n, part in enumerate((*PARTS, *("train",) * more))
        for label in (0, 1)
    ]
    return make_prepared(folder, rows, spec=SPEC)


def tiny_checkpoint(path: Path, data_dir: Path, **changes: Any) -> Path:
    """A student as `dfkit distill` leaves it, as far as export looks at it."""
    data = PreparedData(data_dir)
    config = SplitConfig()
    facts = {
        "data": str(data_dir),
        "splits": split_facts(data, split_clips(data, config)),
        "split_config": config.model_dump(),
        "groups_known": True,
        "operating_point": {"threshold": 0.5, "review_low": 0.5, "review_high": 0.5, "name": "chosen by hand"},
        "calibration": {"calibration_temperature": 1.0},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    facts |= changes
    save_checkpoint(path, tiny_network(), SPEC, kind="student", facts={k: v for k, v in facts.items() if v is not None})
    return path


def tiny_clip(seed: int = 0, num_frames: int = SPEC.num_frames) -> dict[str, np.ndarray]:
    """One clip's arrays by dfkit's names."""
    rng = np.random.default_rng(seed)
    samples = (num_frames - 1) * SPEC.audio.hop_length + SPEC.audio.n_fft
    return {
        "face": rng.integers(0, 256, (num_frames, 64, 64, 3), dtype=np.uint8),
        "lip": rng.integers(0, 256, (num_frames, 32, 32, 3), dtype=np.uint8),
        "pcm": (0.1 * rng.standard_normal(samples)).astype(np.float32),
        "landmarks": rng.uniform(0, 60, (num_frames, 468, 2)).astype(np.float32),
    }
