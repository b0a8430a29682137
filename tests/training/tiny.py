"""Small networks on small made clips, for tests that train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dfkit.clip import ClipSpec, PictureSpec
from dfkit.config import Config
from dfkit.data.storage import PreparedData
from dfkit.models.mmms_ba import NetworkSpec
from tests.data.makers import make_prepared, make_row

SPEC = ClipSpec(picture=PictureSpec(face_px=48, lip_px=32))
WIDTHS = {"face_channels": (8, 8, 16), "lip_channels": (8, 8, 16), "gru_hidden": 16}
CUT = {"face_channels": (8, 8, 8), "lip_channels": (8, 8, 8), "gru_hidden": 8}
ORIGINAL: dict[str, Any] = {"face_trunk": "mmms_ba", "standardised_start": False, "clip_statistics": False}
COUNTING = NetworkSpec(
    modalities=("audio", "lip", "motion"),
    lip_channels=(8, 8, 8),
    gru_hidden=8,
    dense_dim=8,
    clip_statistics=True,
    sound_deviation=True,
)
"""A network with clip statistics."""
EVERYTHING: dict[str, Any] = {
    "epochs": 4,
    "batch_size": 2,
    "gradient_accumulation_steps": 2,
    "modality_dropout": 0.3,
    "loss": {"type": "focal", "focal_alpha": [1.2, 0.8], "temporal_weight": 0.15, "contrastive_weight": 0.1},
    "sampling": {"type": "weighted", "hard_share": 0.5},
    "augment": {"flip": {"prob": 0.5}, "noise": {"prob": 0.5}, "sound_noise": {"prob": 0.5}},
    "schedule": {"type": "plateau", "monitor": "train_loss", "patience": 1, "min_delta": 5.0, "factor": 0.5},
    "monitor": "val_auc",
}
"""All that a run may have to remember: draws, mining, augmentation, a plateau, accumulated gradients."""


def tiny_config(*, split: dict[str, Any] | None = None, teacher: dict[str, Any] | None = None, **train: Any) -> Config:
    """An experiment of seconds.

    Args:
        split: The experiment's, which trains once where it does not say; thirds where left out.
        teacher: Keys of `train` that `distill` has not.
        train: Keys of `train`, over small defaults; `distill` has them too.
    """
    shared = {
        "epochs": 2,
        "batch_size": 4,
        "num_threads": 1,
        "accelerator": "cpu",
        **train,
    }
    content = {
        "name": "tiny",
        "clip": SPEC.model_dump(),
        "split": {"refit": False, **({"val_share": 0.34, "test_share": 0.34} if split is None else split)},
        "train": {"augment": {}, **shared, "widths": WIDTHS, **ORIGINAL, **(teacher or {})},
        "distill": {**shared, "widths": CUT},
    }
    return Config.model_validate(content)


def eight_videos(folder: Path) -> PreparedData:
    """Eight videos of two clips, every second a fake; faces stand still in all of them, so that motion says nothing."""
    rows = [make_row(n, n % 2, [f"g{n}"]) for n in range(8)]
    return PreparedData(make_prepared(folder, rows, clips=2, spec=SPEC))
