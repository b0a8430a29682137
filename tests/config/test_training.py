"""Sections `train` and `distill`: every file of configs/ works, and what cannot be meant is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from dfkit.config import Config, TrainConfig
from dfkit.errors import ConfigError
from dfkit.experiment import read_config
from dfkit.models import NetworkOutput
from dfkit.pipeline import export_recipe
from dfkit.training.balance import class_weights
from dfkit.training.objective import label_loss

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yaml"))


def test_there_are_configurations() -> None:
    assert {"alike", "default", "demo", "focal", "robust"} <= {path.stem for path in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_is_read_and_says_its_command(path: Path) -> None:
    config = read_config(path)
    assert config.name == path.stem
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# dfkit ")
    assert f"--config configs/{path.name}" in first or first.startswith(f"# dfkit {path.stem}")


@pytest.mark.parametrize("section", ["train", "distill"])
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configured_loss_has_a_gradient(path: Path, section: str) -> None:
    config = getattr(read_config(path), section)
    generator = torch.Generator().manual_seed(0)
    clip, frame, merged = (
        torch.randn(*shape, generator=generator, requires_grad=True) for shape in ((4, 2), (4, 3, 2), (4, 6))
    )
    labels = torch.tensor([0, 1, 1, 1])
    batch = {"label": labels, "frame_labels": labels[:, None].expand(4, 3)}
    output = NetworkOutput(clip, frame, {"merged": merged})
    loss = label_loss(output, batch, config.loss, class_weights(labels.tolist(), config))
    loss.backward()
    assert torch.isfinite(loss)
    used = [clip, frame] + ([merged] if config.loss.contrastive_weight else [])
    assert all(value.grad is not None and float(value.grad.abs().min()) > 0 for value in used)


def test_the_configurations_use_every_loss() -> None:
    losses = [getattr(read_config(path), name).loss for path in CONFIGS for name in ("train", "distill")]
    assert {loss.type for loss in losses} == {"cross_entropy", "focal"}
    assert {"balanced", "effective_number", None} <= {loss.class_weights for loss in losses}
    for term in ("label_smoothing", "frame_weight", "temporal_weight", "contrastive_weight", "focal_alpha"):
        assert any(getattr(loss, term) for loss in losses), term


def test_every_wrong_entry_is_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(
        "train:\n"
        "  monitor: val_acc\n"
        "  schedule: {type: plateau, monitor: loss}\n"
        "  loss: {focal_alpha: 0.25, focal_gama: 2}\n"
        "  optimizer: {betas: [0.9, 1.0]}\n"
        "  devices: 0\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    message = str(caught.value)
    assert "6 wrong entries" in message
    assert "'val_acc' is not logged; logged are train_loss, val_loss, val_auc" in message
    assert "'loss' is not logged" in message
    assert "focal_alpha 0.25: one number re-balances nothing; give [real, fake]" in message
    assert "train.loss.focal_gama: unknown key; valid here: class_weights" in message
    assert "betas [0.9, 1.0]: each must be in [0, 1)" in message
    assert "train.devices" in message


def test_a_metric_knows_its_direction() -> None:
    assert TrainConfig().monitor_mode == "min"
    assert TrainConfig(monitor="val_auc").monitor_mode == "max"
    assert TrainConfig(monitor="val_eer").monitor_mode == "min"
    assert TrainConfig(monitor="val_auc", mode="min").monitor_mode == "min"


def test_a_configuration_survives_its_own_json() -> None:
    for path in CONFIGS:
        config = read_config(path)
        assert Config.model_validate_json(config.model_dump_json()) == config


def test_older_files_are_read_with_a_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before the experiment had one split, `train` and `distill` had one each."""
    path = tmp_path / "older.yaml"
    path.write_text("train: {split: {val_share: 0.3}}\ndistill: {split: {val_share: 0.3}, epochs: 2}\n", "utf-8")
    config = read_config(path)
    read_config(path)
    assert (config.split.val_share, config.distill.epochs) == (0.3, 2)
    assert capsys.readouterr().err.count("train.split is now split") == 1
    path.write_text("train: {split: {val_share: 0.3}}\ndistill: {split: {val_share: 0.2}}\n", "utf-8")
    with pytest.raises(ConfigError, match=r"train\.split and distill\.split differ"):
        read_config(path)


def test_the_frame_weight_of_distillation_has_a_name_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was `distill.frame_weight`, beside the label loss's `distill.loss.frame_weight`."""
    path = tmp_path / "older.yaml"
    path.write_text("distill: {frame_weight: 0.25, loss: {frame_weight: 0.75}}\n", "utf-8")
    config = read_config(path)
    read_config(path)
    assert (config.distill.frame_distillation_weight, config.distill.loss.frame_weight) == (0.25, 0.75)
    assert capsys.readouterr().err.count("distill.frame_weight is now distill.frame_distillation_weight") == 1
    # The stored configuration of a run is read without a file of its own.
    assert Config.model_validate({"distill": {"frame_weight": 0.25}}).distill.frame_distillation_weight == 0.25
    path.write_text("distill: {frame_weight: 0.25, frame_distillation_weight: 0.5}\n", "utf-8")
    with pytest.raises(ConfigError, match=r"keep distill\.frame_distillation_weight"):
        read_config(path)
    path.write_text("train: {frame_weight: 0.25}\n", "utf-8")
    with pytest.raises(ConfigError, match=r"train\.frame_weight: unknown key"):
        read_config(path)


def test_a_wrong_key_of_forge_is_refused_with_all_others(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text("forge: {method: [audio_swap]}\n", "utf-8")
    with pytest.raises(ConfigError, match=r"forge\.method: unknown key; valid here: .*methods"):
        read_config(path)


@pytest.mark.parametrize(
    ("configured", "recipe", "int8", "expected"),
    [
        (None, None, False, "fp32"),
        (None, None, True, "mixed_int8"),
        ("dynamic_int8", None, False, "dynamic_int8"),
        ("dynamic_int8", None, True, "dynamic_int8"),
        ("fp16", None, True, "mixed_int8"),
        ("dynamic_int8", "fp16", True, "fp16"),
    ],
)
def test_the_recipe_of_the_file_counts(configured: str | None, recipe: str | None, int8: bool, expected: str) -> None:
    """`export.recipe` was read and then ignored by the command."""
    config = Config.model_validate({"export": {"recipe": configured}})
    assert export_recipe(config, recipe, int8=int8) == expected


def test_a_folder_whose_name_is_no_unicode_is_kept() -> None:
    config = Config.model_validate({"train": {"save": {"dir": "\udcb0", "format": "original"}}})
    assert Config.from_json_text(config.to_json_text()) == config
    assert config.to_json_text().isascii()
    for text in ("{", '{"nothing": 1}'):
        with pytest.raises(ValidationError):
            Config.from_json_text(text)
