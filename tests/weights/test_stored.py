"""Weights as people's checkpoints hold them: every wrapper, container and number format gives the same network."""

from __future__ import annotations

import itertools
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dfkit.clip import ClipSpec
from dfkit.errors import CheckpointError
from dfkit.models import MMMSBA, NetworkSpec
from dfkit.models.checkpoint import Checkpoint, load_checkpoint
from dfkit.models.original import load_teacher
from dfkit.training.checkpoints import save_checkpoint

NARROW = NetworkSpec(face_channels=(8, 8, 8), lip_channels=(8, 8, 8), gru_hidden=8, dense_dim=6)
Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def weights() -> Weights:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return dict(MMMSBA(NARROW).state_dict())


def saved(path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def prefixed(weights: Weights, prefix: str) -> Weights:
    return {f"{prefix}{name}": value for name, value in weights.items()}


def moved(weights: Weights) -> Weights:
    """Another set: as an average that lags behind."""
    return {name: value * 0.5 for name, value in weights.items()}


def holds(checkpoint: Checkpoint, weights: Weights) -> bool:
    found = checkpoint.network.state_dict()
    return found.keys() == weights.keys() and all(torch.equal(found[name], weights[name]) for name in weights)


def nested(content: Any, keys: tuple[str, ...]) -> Any:
    for key in reversed(keys):
        content = {"epoch": 3, key: content, "best_val_acc": 0.9}
    return content


PREFIXES = [
    "".join(f"{part}." for part in order)
    for length in (1, 2, 3)
    for order in itertools.permutations(("module", "_orig_mod", "model"), length)
]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_wrappers_in_any_order(tmp_path: Path, weights: Weights, prefix: str) -> None:
    path = saved(tmp_path / "x.pth", {"model_state_dict": prefixed(weights, prefix)})
    assert holds(load_checkpoint(path), weights)


CONTAINERS = ("state_dict", "model", "net", "model_state_dict", "network")


@pytest.mark.parametrize("keys", [*itertools.permutations(CONTAINERS, 1), *itertools.permutations(CONTAINERS, 2), ()])
def test_containers_in_any_order(tmp_path: Path, weights: Weights, keys: tuple[str, ...]) -> None:
    checkpoint = load_checkpoint(saved(tmp_path / "x.pth", nested(OrderedDict(weights), keys)))
    assert holds(checkpoint, weights)
    assert checkpoint.facts == ({"epoch": 3, "best_val_acc": 0.9} if keys else {})


def test_a_compiled_part_of_a_network(tmp_path: Path, weights: Weights) -> None:
    content = {
        name.replace("audio_encoder.", "audio_encoder._orig_mod.").replace("lip_dense.", "lip_dense.module."): value
        for name, value in weights.items()
    }
    assert holds(load_checkpoint(saved(tmp_path / "x.pth", content)), weights)


def test_what_a_wrapper_holds_besides_is_left_out_and_said(
    tmp_path: Path, weights: Weights, capsys: pytest.CaptureFixture[str]
) -> None:
    content = {"state_dict": {**prefixed(weights, "model."), "criterion.weight": torch.ones(2)}}
    path = saved(tmp_path / "lightning.ckpt", content)
    checkpoint = load_checkpoint(path)
    assert holds(checkpoint, weights)
    said = "1 tensors are outside of the network and were left out: criterion.weight"
    assert checkpoint.notes == (said,)
    assert capsys.readouterr().err == f"{path}: {said}\n"


AVERAGES: dict[str, Callable[[Weights, Weights], Any]] = {
    "two keys": lambda raw, ema: {"model_state_dict": raw, "ema_state_dict": ema},
    "average first": lambda raw, ema: {"ema": ema, "model": raw},
    "timm": lambda raw, ema: {"state_dict": raw, "state_dict_ema": prefixed(ema, "module.")},
    "shadow": lambda raw, ema: {"net": raw, "ema": {"decay": 0.999, "num_updates": 7, "shadow": ema}},
    "prefix": lambda raw, ema: {"state_dict": {**prefixed(raw, "model."), **prefixed(ema, "model_ema.")}},
    "averaged model": lambda raw, ema: {
        "model": raw,
        "ema_model": {"n_averaged": torch.tensor(5), **prefixed(ema, "module.")},
    },
    "flat": lambda raw, ema: {
        **prefixed(raw, "online_model."),
        **prefixed(ema, "ema_model."),
        "initted": torch.tensor(True),
        "step": torch.tensor(9),
    },
}


@pytest.mark.parametrize("case", AVERAGES)
def test_of_plain_and_averaged_weights_is_said_which_were_taken(
    tmp_path: Path, weights: Weights, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ema = moved(weights)
    path = saved(tmp_path / "x.pth", AVERAGES[case](weights, ema))
    for choice, expected, kind, other in (
        (None, weights, "raw", "ema"),
        ("raw", weights, "raw", "ema"),
        ("ema", ema, "ema", "raw"),
    ):
        checkpoint = load_checkpoint(path, choice)  # type: ignore[arg-type]
        assert holds(checkpoint, expected)
        assert checkpoint.weights == kind
        assert len(checkpoint.notes) == 1
        assert f"--weights {other} takes" in checkpoint.notes[0]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2  # once for either choice
    assert ["plain weights were taken" in said[0], "EMA weights were taken" in said[1]] == [True, True]


def test_an_average_alone_is_taken_and_said(tmp_path: Path, weights: Weights) -> None:
    path = saved(tmp_path / "x.pth", {"model_ema": weights})
    checkpoint = load_checkpoint(path)
    assert checkpoint.weights == "ema"
    assert checkpoint.notes == ("the EMA weights were taken (model_ema); there are no plain ones",)
    with pytest.raises(CheckpointError, match="holds no plain weights\n  Fix: --weights ema"):
        load_checkpoint(path, "raw")


def test_a_choice_that_is_not_there_is_refused(original_checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no EMA weights\n  Fix: --weights raw"):
        load_teacher(original_checkpoint, weights="ema")


def test_several_plain_sets_are_named(tmp_path: Path, weights: Weights) -> None:
    path = saved(tmp_path / "x.pth", {"net": weights, "network": moved(weights)})
    checkpoint = load_checkpoint(path)
    assert holds(checkpoint, weights)
    assert checkpoint.notes == ("holds several sets of plain weights ('net', 'network'): 'net' was taken",)
    same = saved(tmp_path / "same.pth", {"net": weights, "network": weights})
    assert load_checkpoint(same).notes == ()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_other_number_formats_become_float32(tmp_path: Path, weights: Weights, dtype: torch.dtype, suffix: str) -> None:
    stored = {name: value.to(dtype) for name, value in weights.items()}
    path = tmp_path / f"x{suffix}"
    if suffix == ".pth":
        saved(path, {"state_dict": stored})
    else:
        save_file(stored, path)
    checkpoint = load_checkpoint(path)
    assert holds(checkpoint, {name: value.float() for name, value in stored.items()})
    name = str(dtype).removeprefix("torch.")
    assert checkpoint.notes == (f"tensors converted to float32: {len(weights)} of {name}",)


def test_safetensors_under_any_name(tmp_path: Path, weights: Weights) -> None:
    for name in ("x.safetensors", "x.pth"):
        save_file(prefixed(weights, "module."), tmp_path / name, metadata={"format": "pt"})
        assert holds(load_checkpoint(tmp_path / name), weights)


def test_torchs_older_format(tmp_path: Path, weights: Weights) -> None:
    content = {"model_state_dict": weights, "best_val_f1": np.float64(0.5)}
    path = saved(tmp_path / "old.pth", content, _use_new_zipfile_serialization=False)
    checkpoint = load_checkpoint(path)
    assert holds(checkpoint, weights)
    assert checkpoint.facts == {"best_val_f1": 0.5}


@pytest.mark.parametrize("module", ["numpy._core.multiarray", "numpy.core.multiarray"])
def test_numbers_of_numpy_2_and_1(tmp_path: Path, weights: Weights, module: str) -> None:
    numbers = {
        "best_val_f1": np.float64(0.25),
        "best_val_acc": np.float32(0.5),
        "epoch": np.int64(3),
        "stopped": np.bool_(True),
        "name": np.str_("fold 4"),
    }
    there = saved(tmp_path / "numpy2.pth", {"model_state_dict": weights, **numbers, "best_val_loss": torch.tensor(2.0)})
    path = tmp_path / "numpy.pth"
    with zipfile.ZipFile(there) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("data.pkl"):
                assert b"numpy._core.multiarray" in content
                content = content.replace(b"numpy._core.multiarray", module.encode())
            new.writestr(name, content)
    checkpoint = load_checkpoint(path)
    assert holds(checkpoint, weights)
    expected = {"best_val_f1": 0.25, "best_val_acc": 0.5, "epoch": 3, "stopped": True, "best_val_loss": 2.0}
    assert checkpoint.facts == expected | {"name": "fold 4"}
    assert {type(value) for value in checkpoint.facts.values()} == {float, int, bool, str}


def test_tensors_without_plain_numbers_are_refused(tmp_path: Path, weights: Weights) -> None:
    sparse = {**weights, "classifier.0.weight": weights["classifier.0.weight"].to_sparse()}
    with pytest.raises(CheckpointError, match=r"sparse or without data: classifier\.0\.weight\n  Fix: "):
        load_checkpoint(saved(tmp_path / "x.pth", sparse))


def test_weights_of_another_network_are_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pth", {"model": nn.Linear(2, 2).state_dict(), "epoch": 1})
    with pytest.raises(CheckpointError, match="no weights among its keys \\(model, epoch\\)"):
        load_checkpoint(path)
    path = saved(tmp_path / "y.pth", {"model": {"layer.weight": torch.ones(2)}})
    with pytest.raises(CheckpointError, match=r"not an MMMS-BA checkpoint: found layer\.weight"):
        load_checkpoint(path)


def test_dfkits_own_checkpoint_has_nothing_to_say(tmp_path: Path, weights: Weights) -> None:
    network = MMMSBA(NARROW)
    network.load_state_dict(weights)
    save_checkpoint(tmp_path / "best.pth", network, ClipSpec(), kind="teacher", facts={"epoch": 2})
    checkpoint = load_checkpoint(tmp_path / "best.pth")
    assert holds(checkpoint, weights)
    assert (checkpoint.kind, checkpoint.weights, checkpoint.notes) == ("teacher", "raw", ())


def test_what_a_run_goes_on_from_is_not_taken_for_an_original(tmp_path: Path, weights: Weights) -> None:
    """Under Lightning's names its weights would open, and its clips would be taken for `uniform50`."""
    content = {"state_dict": prefixed(weights, "model.network."), "callbacks": {"RunRecorder": {}}}
    path = saved(tmp_path / "last.ckpt", content)
    with pytest.raises(CheckpointError, match=r"without its clip contract\n  Fix: give .*best\.pth"):
        load_checkpoint(path)


@pytest.mark.parametrize(("name", "notes"), [("numpy_scalar", 0), ("orig_mod", 0), ("state_dict", 0), ("ema", 1)])
def test_handed_checkpoints(shared: Path, name: str, notes: int) -> None:
    path = shared / "cases" / f"{name}.pth"
    checkpoint = load_checkpoint(path)
    content = torch.load(path, weights_only=False)
    plain = content.get("model_state_dict", content.get("state_dict"))
    assert holds(checkpoint, {key.removeprefix("_orig_mod."): value for key, value in plain.items()})
    assert len(checkpoint.notes) == notes
    if name == "numpy_scalar":
        assert checkpoint.facts["best_val_f1"] == float(content["best_val_f1"])
    if name == "ema":
        assert holds(load_checkpoint(path, "ema"), content["ema_state_dict"])
