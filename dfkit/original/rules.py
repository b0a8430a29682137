"""What each key of the original's YAML means here; see `configuration.translate`."""

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
"""By family and kind: dfkit's step (None: NPZ data cannot have it) and the keys of an entry."""
LIP_SIDES_PX = (96, 112)


class RefusedError(Exception):
    """Why a value is refused; becomes one line of the error."""


@dataclass(frozen=True)
class Rule:
    """What becomes of a key."""

    to: tuple[str, ...] = ()
    """dfkit's keys that get the value; empty: it is read together with others."""
    convert: Callable[[Any], Any] | None = None
    remark: str = ""
    allowed: tuple[Any, ...] | None = None
    """The values that dfkit's code stands for; others are refused."""
    why: str = ""
    unused: str | None = None
    """Why the key changes nothing."""


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


IGNORED_THERE = "the original ignores it, too"
MADE_ALREADY = "it is about making NPZ files, which are there already; 50 frames are taken whatever rate and length"
PLACES = "dfkit keeps logs, figures and results in runs/<name>/"
HAAR = "videos are later judged with the lips of OpenCV's Haar face"
TOGETHER = Rule()
MFCC = "NPZ files hold MFCC made with this value"

RULES: dict[str, Rule] = {
    "experiment.name": Rule(to=("name",), convert=_name),
    "experiment.seed": Rule(to=("train.seed", "train.split.seed", "distill.seed"), remark=" and the split's"),
    "experiment.device": TOGETHER,
    "experiment.num_gpus": TOGETHER,
    "model.name": Rule(allowed=("MMMS_BA", "MMMS-BA", "mmms_ba"), why="dfkit has the one network"),
    "model.gru.hidden_size": Rule(to=("train.widths.gru_hidden",)),
    "model.gru.num_layers": Rule(allowed=(1,), why="dfkit's GRUs have one layer, as the published network's"),
    "model.gru.dropout": Rule(to=("train.dropout",)),
    "model.gru.recurrent_dropout": Rule(unused=IGNORED_THERE),
    "model.gru.bidirectional": Rule(allowed=(True,), why="dfkit's GRUs run both ways, as the published network's"),
    "model.dense.hidden_size": Rule(to=("train.dense_dim",)),
    "model.dense.dropout": Rule(to=("train.dense_dropout",)),
    "model.dense.activation": Rule(allowed=("tanh",), why="the dense layers end in tanh"),
    "model.attention.type": Rule(
        to=("train.attention",), convert=_attention, remark=" (other names mean no attention, as there)"
    ),
    "model.attention.num_heads": Rule(unused=IGNORED_THERE),
    "model.num_classes": Rule(allowed=(2,), why="real and fake"),
    "dataset.name": Rule(unused="it only names the data"),
    "dataset.root_dir": Rule(remark=" (data)"),
    "dataset.modalities": Rule(to=("train.modalities",), convert=_modalities, remark=" (visual is face)"),
    "dataset.video.max_duration": Rule(unused=MADE_ALREADY),
    "dataset.video.min_duration": Rule(unused=MADE_ALREADY),
    "dataset.video.target_fps": Rule(unused=MADE_ALREADY),
    "dataset.video.max_frames": Rule(allowed=(50,), why="uniform50 has 50 frames of a video"),
    "dataset.video.frame_size": Rule(allowed=([224, 224], 224), why="NPZ files hold frames of this size"),
    "dataset.audio.sample_rate": Rule(allowed=(16000,), why=MFCC),
    "dataset.audio.n_mfcc": Rule(allowed=(40,), why=MFCC),
    "dataset.audio.hop_length": Rule(allowed=(512,), why=MFCC),
    "dataset.audio.n_fft": Rule(allowed=(2048,), why=MFCC),
    "dataset.lip.size": Rule(to=("clip.picture.lip_px",), convert=_side),
    "dataset.lip.detector": Rule(allowed=("haar_cascade", "haar", "haarcascade"), why=HAAR),
    "dataset.train_split": Rule(convert=float),
    "dataset.val_split": Rule(convert=float),
    "dataset.test_split": Rule(convert=float),
    "dataset.augmentation.enabled": Rule(convert=_flag),
    "dataset.augmentation.video_aug": TOGETHER,
    "dataset.augmentation.audio_aug": TOGETHER,
    "training.optimizer.type": Rule(to=("train.optimizer.type",), convert=_optimizer),
    "training.optimizer.lr": Rule(to=("train.optimizer.learning_rate",), convert=float),
    "training.optimizer.betas": Rule(to=("train.optimizer.betas",)),
    "training.optimizer.weight_decay": Rule(to=("train.optimizer.weight_decay",), convert=float),
    "training.scheduler.type": Rule(to=("train.schedule.type",), convert=_schedule),
    "training.scheduler.T_max": TOGETHER,
    "training.scheduler.eta_min": Rule(to=("train.schedule.min_learning_rate",), convert=float),
    "training.loss.type": Rule(
        allowed=("cross_entropy", "ce"), why="for others dfkit's own YAML has train.loss, with factors per class"
    ),
    "training.loss.label_smoothing": Rule(to=("train.loss.label_smoothing",)),
    "training.epochs": Rule(to=("train.epochs",)),
    "training.batch_size": TOGETHER,
    "training.num_workers": Rule(to=("train.num_workers",)),
    "training.gradient_accumulation_steps": Rule(to=("train.gradient_accumulation_steps",)),
    "training.grad_clip.enabled": Rule(convert=_flag),
    "training.grad_clip.max_norm": Rule(to=("train.optimizer.max_norm",)),
    "training.mixed_precision": Rule(convert=_flag),
    "training.checkpoint.save_best": Rule(to=("train.save.best",), convert=_flag),
    "training.checkpoint.save_last": Rule(to=("train.save.last",), convert=_flag),
    "training.checkpoint.monitor": Rule(to=("train.monitor",), convert=_monitor),
    "training.checkpoint.mode": Rule(to=("train.mode",)),
    "training.checkpoint.save_dir": Rule(to=("train.save.dir",)),
    "training.checkpoint.prefix": Rule(to=("train.save.prefix",)),
    "training.early_stopping.enabled": Rule(convert=_flag),
    "training.early_stopping.patience": TOGETHER,
    "training.early_stopping.monitor": Rule(convert=_monitor),
    "training.early_stopping.mode": TOGETHER,
    "training.use_weighted_sampler": Rule(
        to=("train.sampling.type",), convert=lambda value: "weighted" if _flag(value) else "shuffled"
    ),
    "training.use_weighted_loss": Rule(convert=_flag),
    "training.class_weights": TOGETHER,
    "training.use_compile": Rule(unused="it is about speed alone"),
    "training.use_prefetch": Rule(unused="it is about speed alone"),
    "training.logging.interval": Rule(unused="every epoch is logged"),
    "training.logging.wandb": Rule(convert=_wandb),
    "validation.interval": Rule(allowed=(1,), why="stopping and the best checkpoint look at every epoch"),
    "validation.batch_size": Rule(unused="each clip is scored by itself: masks keep neighbours out of its answer"),
    "metrics": Rule(convert=_metrics),
    "paths.data_dir": TOGETHER,
    "paths.*": Rule(unused=PLACES),
}
