"""The original's YAML: every key honoured, without effect and said so, or refused by name."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from dfkit.errors import ConfigError
from dfkit.experiment import read_config, read_translation
from dfkit.original.configuration import data_folder, is_original, translate

# TEACHER, section 4: every key, with the original values.
THEIRS: dict[str, Any] = {
    "experiment": {"name": "teacher v1", "seed": 42, "device": "cpu", "num_gpus": 1},
    "model": {
        "name": "MMMS_BA",
        "gru": {"hidden_size": 300, "num_layers": 1, "dropout": 0.5, "recurrent_dropout": 0.3, "bidirectional": True},
        "dense": {"hidden_size": 100, "dropout": 0.7, "activation": "tanh"},
        "attention": {"type": "bi_modal", "num_heads": 12},
        "num_classes": 2,
    },
    "dataset": {
        "name": "Korean_Deepfake",
        "root_dir": "preprocessed_data",
        "modalities": ["audio", "visual", "lip"],
        "video": {
            "max_duration": 60,
            "min_duration": 10,
            "target_fps": 30,
            "max_frames": 50,
            "frame_size": [224, 224],
        },
        "audio": {"sample_rate": 16000, "n_mfcc": 40, "hop_length": 512, "n_fft": 2048},
        "lip": {"size": [112, 112], "detector": "haar_cascade"},
        "train_split": 0.7,
        "val_split": 0.15,
        "test_split": 0.15,
        "augmentation": {
            "enabled": True,
            "video_aug": [
                {"type": "compression", "params": {"codecs": ["h264"], "crf": [23, 28], "prob": 0.3}},
                {"noise": {"std": 0.02, "prob": 0.2}},
                {"type": "color_jitter", "brightness": 0.2, "contrast": 0.1, "hue": 0.05, "prob": 0.4},
            ],
            "audio_aug": [{"type": "noise", "params": {"snr_db": [15, 25], "prob": 0.2}}],
        },
    },
    "training": {
        "optimizer": {"type": "adam", "lr": 5e-4, "betas": [0.9, 0.99], "weight_decay": "1e-4"},
        "scheduler": {"type": "cosine", "T_max": 20, "eta_min": "1e-5"},
        "loss": {"type": "cross_entropy", "label_smoothing": 0.1},
        "epochs": 15,
        "batch_size": 16,
        "num_workers": 4,
        "gradient_accumulation_steps": 2,
        "grad_clip": {"enabled": True, "max_norm": 1.5},
        "mixed_precision": True,
        "checkpoint": {
            "save_best": True,
            "save_last": False,
            "monitor": "val_acc",
            "mode": "max",
            "save_dir": "models",
            "prefix": "mmms-ba_",
        },
        "early_stopping": {"enabled": True, "patience": 7, "monitor": "val_loss", "mode": "min"},
        "use_weighted_sampler": True,
        "use_weighted_loss": True,
        "class_weights": [1.0, 2.5],
    },
    "validation": {"interval": 1, "batch_size": 16},
    "metrics": ["accuracy", "precision", "recall", "f1_score", "auc"],
    "paths": {"data_dir": "preprocessed_data", "log_dir": "logs"},
}


def changed(**values: Any) -> dict[str, Any]:
    """THEIRS with some dotted keys set (`__` for the dot)."""
    content = copy.deepcopy(THEIRS)
    for path, value in values.items():
        *sections, last = path.split("__")
        current = content
        for name in sections:
            current = current[name]
        current[last] = value
    return content


def test_every_value_arrives() -> None:
    translation = translate(THEIRS, "theirs.yaml")
    config = translation.config
    train = config.train
    assert (config.name, train.seed, config.split.seed) == ("teacher-v1", 42, 42)
    assert (config.clip.preset, config.clip.picture.lip_px, config.clip.audio.hop_length) == ("uniform50", 112, 512)
    assert (train.widths.gru_hidden, train.dropout, train.dense_dim, train.dense_dropout) == (300, 0.5, 100, 0.7)
    assert (train.attention, train.modalities) == ("bi_modal", ("audio", "face", "lip"))
    assert (config.split.val_share, config.split.test_share) == (0.15, 0.15)
    optimizer = train.optimizer
    assert (optimizer.type, optimizer.learning_rate, optimizer.betas) == ("adam", 5e-4, (0.9, 0.99))
    assert (optimizer.weight_decay, optimizer.warmup_share, optimizer.max_norm) == (1e-4, 0.0, 1.5)
    schedule = train.schedule
    assert (schedule.type, schedule.cosine_epochs, schedule.min_learning_rate) == ("cosine", 20, 1e-5)
    # The original's loss looks at clips alone.
    assert (train.loss.type, train.loss.label_smoothing, train.loss.frame_weight) == ("cross_entropy", 0.1, 0.0)
    assert (train.loss.class_weights, train.sampling.type) == ((1.0, 2.5), "weighted")
    assert (train.epochs, train.batch_size, train.gradient_accumulation_steps, train.num_workers) == (15, 16, 2, 4)
    assert (train.monitor, train.mode, train.patience) == ("val_accuracy", "max", 7)
    assert (train.accelerator, train.devices, train.precision) == ("cpu", 1, "fp32")
    augment = train.augment
    assert (augment.h264.crf, augment.h264.prob) == ((23, 28), 0.3)
    assert (augment.noise.std, augment.noise.prob) == ((0.02, 0.02), 0.2)
    jitter = augment.color_jitter
    assert (jitter.brightness, jitter.contrast, jitter.hue, jitter.prob) == (0.2, 0.1, 0.05, 0.4)
    assert list(augment.active()) == ["color_jitter", "noise", "h264"]
    save = train.save
    assert (save.format, save.dir, save.prefix, save.best, save.last) == ("original", "models", "mmms-ba_", True, False)
    assert save.config == THEIRS
    assert data_folder(config) == Path("preprocessed_data")


def test_what_has_no_effect_is_said() -> None:
    lines = translate(THEIRS, "theirs.yaml").lines
    silent = {line.split(":")[0] for line in lines if "without effect" in line}
    assert silent >= {
        "model.attention.num_heads",
        "model.gru.recurrent_dropout",
        "training.early_stopping.monitor",
        "dataset.video.target_fps",
        "dataset.augmentation.audio_aug[0] (noise)",
        "paths.log_dir",
    }
    assert "training.optimizer.lr: -> train.optimizer.learning_rate = 0.0005" in lines
    assert "dataset.modalities: -> train.modalities = ['audio', 'face', 'lip'] (visual is face)" in lines


def test_defaults_are_the_originals() -> None:
    config = translate({"model": {}, "training": {"use_weighted_loss": False, "class_weights": [1, 2]}}, "x").config
    train = config.train
    assert (train.batch_size, train.epochs, train.optimizer.type, train.patience) == (16, 15, "adam", None)
    assert (train.schedule.cosine_epochs, train.loss.class_weights, train.sampling.type) == (15, None, "shuffled")
    assert not train.augment.active() and data_folder(config) is None


def test_the_checkpoints_own_configuration(shared: Path) -> None:
    """What stands in `fold4.pth` holds keys beyond the documents': logging, prefetch, compile."""
    content = torch.load(shared / "teacher" / "fold4.pth", weights_only=True)["config"]
    config = translate(content, "fold4.pth").config
    assert (config.train.epochs, config.train.monitor, config.train.save.dir) == (
        15,
        "val_accuracy",
        "models/kfold/fold_4",
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model__gru__num_layers": 2}, r"model\.gru\.num_layers: 2 cannot be had: .*has to be 1"),
        ({"model__dense__activation": "relu"}, r"model\.dense\.activation: 'relu' cannot be had"),
        ({"model__gru__hiden_size": 300}, r"model\.gru\.hiden_size: unknown key; known here: .*hidden_size"),
        ({"trainng": {}}, r"trainng: unknown key; known sections: experiment, model"),
        ({"dataset__audio__hop_length": 640}, r"dataset\.audio\.hop_length: 640 cannot be had: NPZ files hold MFCC"),
        ({"dataset__lip__size": [64, 64]}, r"dataset\.lip\.size: \[64, 64\]: the NPZ format knows"),
        ({"dataset__lip__detector": "dlib"}, r"dataset\.lip\.detector: 'dlib' cannot be had"),
        ({"dataset__modalities": ["audio", "depth"]}, r"dataset\.modalities: .* audio, visual and lip"),
        ({"dataset__test_split": 0.3}, r"dataset\.train_split: 0\.7 \+ 0\.15 \+ 0\.3 is not 1"),
        ({"training__scheduler__type": "step"}, r"training\.scheduler\.type: 'step' is not translated"),
        ({"training__scheduler__T_max": 10}, r"T_max: 10 with 15 epochs: .* Fix: T_max: 15"),
        ({"training__loss__type": "focal"}, r"training\.loss\.type: 'focal' cannot be had"),
        ({"training__checkpoint__monitor": "val_iou"}, r"monitor: 'val_iou' is not measured; there are val_acc"),
        ({"training__mixed_precision": "yes"}, r"training\.mixed_precision: 'yes': has to be true or false"),
        ({"training__optimizer__lr": "fast"}, r"training\.optimizer\.lr: 'fast' is not a value of this key"),
        ({"training__logging": {"wandb": {"enabled": True}}}, r"training\.logging\.wandb: wandb is not there"),
        ({"validation__interval": 2}, r"validation\.interval: 2 cannot be had"),
        ({"metrics": ["accuracy", "kappa"]}, r"metrics: \['accuracy', 'kappa'\]: unknown metric"),
        ({"experiment__device": "tpu"}, r"experiment\.device: 'tpu': has to be cuda or cpu"),
        ({"dataset__augmentation__video_aug": [{"blur": {}}]}, r"video_aug\[0\]: unknown augmentation 'blur'"),
        (
            {"dataset__augmentation__video_aug": [{"compression": {"codecs": ["vp9"]}}]},
            r"video_aug\[0\]\.codecs: \['vp9'\]: dfkit re-encodes with H\.264 alone",
        ),
        ({"training__epochs": -1}, r"train\.epochs: Input should be greater than 0"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        translate(changed(**values), "theirs.yaml")


def test_all_at_once(tmp_path: Path) -> None:
    path = tmp_path / "theirs.yaml"
    path.write_text(yaml.safe_dump(changed(model__num_classes=3, training__loss__type="focal", metrcs=[])))
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    message = str(caught.value)
    assert "theirs.yaml: 3 entries" in message
    assert all(name in message for name in ("model.num_classes", "training.loss.type", "metrcs"))
    assert caught.value.exit_code == 2


def test_one_monitor_with_two_directions_is_refused() -> None:
    stopping = {"enabled": True, "patience": 5, "monitor": "val_acc", "mode": "min"}
    with pytest.raises(ConfigError, match=r"early_stopping\.mode: 'min', and checkpoint\.mode is 'max'"):
        translate(changed(training__early_stopping=stopping), "x")


def test_a_gpu_gets_bf16_and_its_share_of_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    train = translate(changed(experiment__device="cuda", experiment__num_gpus=2), "x").config.train
    # The original shares one batch out; dfkit's is per device.
    assert (train.accelerator, train.devices, train.batch_size, train.precision) == ("auto", 2, 8, "bf16")
    with pytest.raises(ConfigError, match=r"experiment\.num_gpus: 4: this machine has 2"):
        translate(changed(experiment__device="cuda", experiment__num_gpus=4), "x")


def test_kinds_of_files_are_told_apart(tmp_path: Path) -> None:
    assert is_original(THEIRS) and is_original({"model": {}, "dataset": {}})
    assert not is_original({"training": {"epochs": 3}}) and not is_original({"train": {}, "model": {}, "dataset": {}})
    assert not is_original(None) and not is_original([])
    path = tmp_path / "own.yaml"
    path.write_text("training: {epochs: 3}\n")
    assert read_translation(path) is None
    with pytest.raises(ConfigError, match=r"training: unknown key; valid here: .*train"):
        read_config(path)


def test_a_runs_configuration_reads_back_as_it_was(tmp_path: Path) -> None:
    """`1e-05` is a number in JSON and text in YAML 1.1."""
    config = translate(changed(training__scheduler__eta_min=1e-5), "theirs.yaml").config
    (tmp_path / "config.json").write_text(config.model_dump_json(), encoding="utf-8")
    assert read_config(tmp_path / "config.json") == config
