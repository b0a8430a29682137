"""Translation rule of each key of the original's YAML; see `configuration.translate`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dfkit.config import Config

SECTIONS = ("experiment", "model", "dataset", "training", "validation", "metrics", "paths")
OWN_SECTIONS = tuple(Config.model_fields)
METRICS = ("accuracy", "precision", "recall", "f1_score", "auc")
MONITORS = {
    **dict.fromkeys(("val_acc", "acc", "accuracy", "val_accuracy"), "val_accuracy"),
    **dict.fromkeys(("val_loss", "loss"), "val_loss"),
    **dict.fromkeys(("val_f1", "f1", "f1_score", "val_f1_score"), "val_f1"),
    **dict.fromkeys(("val_auc", "auc"), "val_auc"),
    **dict.fromkeys(("val_precision", "precision"), "val_precision"),
    **dict.fromkeys(("val_recall", "recall"), "val_recall"),
}
AUGMENTATIONS: dict[str, dict[str, tuple[str | None, tuple[str, ...]]]] = {
    "video_aug": {
        "compression": ("h264", ("codecs", "crf", "prob")),
        "noise": ("noise", ("std", "prob")),
        "color_jitter": ("color_jitter", ("brightness", "contrast", "saturation", "hue", "prob")),
    },
    "audio_aug": {"noise": (None, ("snr_db", "prob"))},
}
"""By family and type: dfkit's augmentation (None: NPZ data cannot have it) and the keys of an entry."""
LIP_SIDES_PX = (96, 112)


class RefusedError(Exception):
    """A value that dfkit cannot honour; its message becomes one line of the configuration's error."""


@dataclass(frozen=True)
class Rule:
    """How one key of the original is translated."""

    targets: tuple[str, ...] = ()
    """dfkit's keys that get the value; empty where it is read together with other keys."""
    convert: Callable[[Any], Any] | None = None
    """Converts the value, or raises RefusedError; None keeps it."""
    remark: str = ""
    """Added to the line about the key."""
    allowed: tuple[Any, ...] | None = None
    """The values that dfkit's code implements; others are refused."""
    allowed_reason: str = ""
    """Why only those are allowed."""
    ignored_reason: str | None = None
    """Why the key changes nothing; None where it does."""


def _name(value: Any) -> str:
    return re.sub(r"[^\w.-]+", "-", str(value)).strip("-.") or "default"


def _modalities(value: Any) -> list[str]:
    names = ["face" if name == "visual" else name for name in value]
    unknown = [str(name) for name in names if name not in ("audio", "face", "lip", "motion")]
    if unknown or not names or isinstance(value, str):
        raise RefusedError(f"{value!r}: has to be a list of audio, visual and lip")
    return names


def _monitor(value: Any) -> str:
    if value not in MONITORS:
        raise RefusedError(f"{value!r} is not measured; there are {', '.join(MONITORS)}")
    return MONITORS[value]


def _metrics(value: Any) -> list[Any]:
    unknown = [name for name in value if name not in METRICS]
    if unknown or isinstance(value, str):
        raise RefusedError(f"{value!r}: unknown metric; there are {', '.join(METRICS)}, and all are always measured")
    return list(value)


def _attention(value: Any) -> str:
    return value if value in ("bi_modal", "self") else "none"


def _side(value: Any) -> int:
    sides = set(value) if isinstance(value, (list, tuple)) else {value}
    if len(sides) != 1 or not sides <= set(LIP_SIDES_PX):
        raise RefusedError(f"{value!r}: the NPZ format knows lip pictures of 96 and of 112 pixels")
    return int(sides.pop())


def _optimizer(value: Any) -> str:
    if str(value).lower() not in ("adam", "adamw"):
        raise RefusedError(f"{value!r} cannot be had; there are adam and adamw")
    return str(value).lower()


def _schedule(value: Any) -> str:
    names = {"cosine": "cosine", "none": "constant", "constant": "constant"}
    if str(value).lower() not in names:
        raise RefusedError(
            f"{value!r} is not translated; there are cosine and none, and in dfkit's own YAML train.schedule"
        )
    return names[str(value).lower()]


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise RefusedError(f"{value!r}: has to be true or false")
    return value


def _wandb(value: Any) -> None:
    if isinstance(value, dict) and value.get("enabled"):
        raise RefusedError(
            "wandb is not there; every run writes metrics.jsonl and TensorBoard files. Fix: enabled: false"
        )


IGNORED_BY_ORIGINAL = "the original ignores it, too"
NPZ_MADE_ALREADY = "it is about making NPZ files, which are there already; 50 frames are taken whatever rate and length"
FIXED_FOLDERS = "dfkit keeps logs, figures and results in runs/<name>/"
HAAR_LIPS = "videos are later judged with the lips of OpenCV's Haar face"
READ_WITH_OTHERS = Rule()
FIXED_MFCC = "NPZ files hold MFCC made with this value"

RULES: dict[str, Rule] = {
    "experiment.name": Rule(targets=("name",), convert=_name),
    "experiment.seed": Rule(targets=("train.seed", "split.seed", "distill.seed"), remark=" and the split's"),
    "experiment.device": READ_WITH_OTHERS,
    "experiment.num_gpus": READ_WITH_OTHERS,
    "model.name": Rule(allowed=("MMMS_BA", "MMMS-BA", "mmms_ba"), allowed_reason="dfkit has the one network"),
    "model.gru.hidden_size": Rule(targets=("train.widths.gru_hidden",)),
    "model.gru.num_layers": Rule(
        allowed=(1,), allowed_reason="dfkit's GRUs have one layer, as the published network's"
    ),
    "model.gru.dropout": Rule(targets=("train.dropout",)),
    "model.gru.recurrent_dropout": Rule(ignored_reason=IGNORED_BY_ORIGINAL),
    "model.gru.bidirectional": Rule(
        allowed=(True,), allowed_reason="dfkit's GRUs run both ways, as the published network's"
    ),
    "model.dense.hidden_size": Rule(targets=("train.dense_dim",)),
    "model.dense.dropout": Rule(targets=("train.dense_dropout",)),
    "model.dense.activation": Rule(allowed=("tanh",), allowed_reason="the dense layers end in tanh"),
    "model.attention.type": Rule(
        targets=("train.attention",), convert=_attention, remark=" (other names mean no attention, as there)"
    ),
    "model.attention.num_heads": Rule(ignored_reason=IGNORED_BY_ORIGINAL),
    "model.num_classes": Rule(allowed=(2,), allowed_reason="real and fake"),
    "dataset.name": Rule(ignored_reason="it only names the data"),
    "dataset.root_dir": Rule(remark=" (data)"),
    "dataset.modalities": Rule(targets=("train.modalities",), convert=_modalities, remark=" (visual is face)"),
    "dataset.video.max_duration": Rule(ignored_reason=NPZ_MADE_ALREADY),
    "dataset.video.min_duration": Rule(ignored_reason=NPZ_MADE_ALREADY),
    "dataset.video.target_fps": Rule(ignored_reason=NPZ_MADE_ALREADY),
    "dataset.video.max_frames": Rule(allowed=(50,), allowed_reason="uniform50 has 50 frames of a video"),
    "dataset.video.frame_size": Rule(allowed=([224, 224], 224), allowed_reason="NPZ files hold frames of this size"),
    "dataset.audio.sample_rate": Rule(allowed=(16000,), allowed_reason=FIXED_MFCC),
    "dataset.audio.n_mfcc": Rule(allowed=(40,), allowed_reason=FIXED_MFCC),
    "dataset.audio.hop_length": Rule(allowed=(512,), allowed_reason=FIXED_MFCC),
    "dataset.audio.n_fft": Rule(allowed=(2048,), allowed_reason=FIXED_MFCC),
    "dataset.lip.size": Rule(targets=("clip.picture.lip_px",), convert=_side),
    "dataset.lip.detector": Rule(allowed=("haar_cascade", "haar", "haarcascade"), allowed_reason=HAAR_LIPS),
    "dataset.train_split": Rule(convert=float),
    "dataset.val_split": Rule(convert=float),
    "dataset.test_split": Rule(convert=float),
    "dataset.augmentation.enabled": Rule(convert=_flag),
    "dataset.augmentation.video_aug": READ_WITH_OTHERS,
    "dataset.augmentation.audio_aug": READ_WITH_OTHERS,
    "training.optimizer.type": Rule(targets=("train.optimizer.type",), convert=_optimizer),
    "training.optimizer.lr": Rule(targets=("train.optimizer.learning_rate",), convert=float),
    "training.optimizer.betas": Rule(targets=("train.optimizer.betas",)),
    "training.optimizer.weight_decay": Rule(targets=("train.optimizer.weight_decay",), convert=float),
    "training.scheduler.type": Rule(targets=("train.schedule.type",), convert=_schedule),
    "training.scheduler.T_max": READ_WITH_OTHERS,
    "training.scheduler.eta_min": Rule(targets=("train.schedule.min_learning_rate",), convert=float),
    "training.loss.type": Rule(
        allowed=("cross_entropy", "ce"),
        allowed_reason="for others dfkit's own YAML has train.loss, with factors per class",
    ),
    "training.loss.label_smoothing": Rule(targets=("train.loss.label_smoothing",)),
    "training.epochs": Rule(targets=("train.epochs",)),
    "training.batch_size": READ_WITH_OTHERS,
    "training.num_workers": Rule(targets=("train.num_workers",)),
    "training.gradient_accumulation_steps": Rule(targets=("train.gradient_accumulation_steps",)),
    "training.grad_clip.enabled": Rule(convert=_flag),
    "training.grad_clip.max_norm": Rule(targets=("train.optimizer.max_norm",)),
    "training.mixed_precision": Rule(convert=_flag),
    "training.checkpoint.save_best": Rule(targets=("train.save.best",), convert=_flag),
    "training.checkpoint.save_last": Rule(targets=("train.save.last",), convert=_flag),
    "training.checkpoint.monitor": Rule(targets=("train.monitor",), convert=_monitor),
    "training.checkpoint.mode": Rule(targets=("train.mode",)),
    "training.checkpoint.save_dir": Rule(targets=("train.save.dir",)),
    "training.checkpoint.prefix": Rule(targets=("train.save.prefix",)),
    "training.early_stopping.enabled": Rule(convert=_flag),
    "training.early_stopping.patience": READ_WITH_OTHERS,
    "training.early_stopping.monitor": Rule(convert=_monitor),
    "training.early_stopping.mode": READ_WITH_OTHERS,
    "training.use_weighted_sampler": Rule(
        targets=("train.sampling.type",), convert=lambda value: "weighted" if _flag(value) else "shuffled"
    ),
    "training.use_weighted_loss": Rule(convert=_flag),
    "training.class_weights": READ_WITH_OTHERS,
    "training.use_compile": Rule(ignored_reason="it is about speed alone"),
    "training.use_prefetch": Rule(ignored_reason="it is about speed alone"),
    "training.logging.interval": Rule(ignored_reason="every epoch is logged"),
    "training.logging.wandb": Rule(convert=_wandb),
    "validation.interval": Rule(allowed=(1,), allowed_reason="stopping and the best checkpoint look at every epoch"),
    "validation.batch_size": Rule(
        ignored_reason="each clip is scored by itself: masks keep neighbours out of its answer"
    ),
    "metrics": Rule(convert=_metrics),
    "paths.data_dir": READ_WITH_OTHERS,
    "paths.*": Rule(ignored_reason=FIXED_FOLDERS),
}
