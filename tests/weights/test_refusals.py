"""Files that are no checkpoint of plain weights: each is named for what it is, and the fix works for it."""

from __future__ import annotations

import argparse
import os
import pickle
import re
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dfkit.errors import CheckpointError
from dfkit.models.original import load_teacher
from tests.cli.stand_ins import run
from tests.models.original_weights import original_weights


class Detector(nn.Module):
    """A model of somebody's own, pickled whole."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({"conv": nn.Conv2d(3, 4, 3), "gru": nn.GRU(4, 4)})

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return original_weights()


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return original_weights()


def refused(path: Path) -> str:
    """The message; without colours, and nothing of torch's advice to run the file's code unseen."""
    with pytest.raises(CheckpointError) as caught:
        load_teacher(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n  Fix: " in message
    assert "\x1b" not in message
    assert "WeightsUnpickler" not in message
    return message


def contents(weights: dict[str, Tensor]) -> dict[str, tuple[Any, str]]:
    return {
        "namespace": (
            {"model_state_dict": weights, "args": argparse.Namespace(lr=0.1), "epoch": 3},
            "objects of argparse.Namespace",
        ),
        "path": ({"state_dict": {"model": weights}, "out": PurePosixPath("runs/a")}, "objects of pathlib"),
        "array": ({"model": weights, "history": np.arange(3.0)}, r"objects of numpy\.\S*multiarray"),
        "model": (Detector(), r"a whole pickled model \(tests.weights.test_refusals.Detector\)"),
        "model among others": (
            {"model": Detector(), "optimizer": None, "epoch": 3},
            r"a whole pickled model \(tests.weights.test_refusals.Detector\)",
        ),
    }


@pytest.mark.parametrize("old_format", [False, True], ids=["zip", "older"])
@pytest.mark.parametrize("case", ["namespace", "path", "array", "model", "model among others"])
def test_more_than_weights_is_refused_and_the_lines_of_the_fix_save_them(
    tmp_path: Path, weights: dict[str, Tensor], case: str, old_format: bool
) -> None:
    content, named = contents(weights)[case]
    path = tmp_path / "x.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not old_format)
    message = refused(path)
    assert re.search(named, message), message
    run_fix(message)
    assert torch.equal(
        load_teacher(tmp_path / "x-plain.pth").state_dict()["classifier.0.weight"], weights["classifier.0.weight"]
    )


def test_a_pickle_without_torch_save(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"model": {name: value.numpy() for name, value in weights.items()}}))
    message = refused(path)
    assert re.search(r"a pickle of Python, with numpy\.\S*multiarray\._reconstruct", message), message
    run_fix(message)
    load_teacher(tmp_path / "x-plain.pth")


def run_fix(message: str) -> None:
    """Runs the lines of Python that a message gives."""
    lines = [line.strip() for line in message.splitlines()]
    start = lines.index("import pickle, torch")
    exec("\n".join(lines[start:]), {})


def test_a_torchscript_program(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "x.pt")
    message = refused(tmp_path / "x.pt")
    assert "a TorchScript program" in message
    run_fix(message)
    assert torch.load(tmp_path / "x-plain.pth", weights_only=True).keys() == {"weight", "bias"}


FOREIGN = {
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "a Git LFS pointer", "git lfs pull"),
    "page": (b"<!DOCTYPE html>\n<html><head>", "a web page", "in a browser"),
    "error": (b'{"error": "Invalid username or password."}', "Invalid username or password", "download the file"),
    "empty": (b"", "an empty file", "again"),
    "zeros": (bytes(9000), "all its 9000 bytes are zeros", "again"),
    "video": (b"\0\0\0\x18ftypisom\0\0\2\0isomiso2\0\0\0\x08moov", "a video (MP4)", "give a checkpoint"),
    "yaml": (b"train:\n  epochs: 3\n", "begins with 'train: epochs: 3'", "give a checkpoint"),
    "noise": (bytes(range(1, 256)) * 40, "neither a checkpoint of torch nor", "model_state_dict"),
}  # fmt: skip


@pytest.mark.parametrize("case", FOREIGN)
def test_foreign_files_are_named(tmp_path: Path, case: str) -> None:
    content, found, fix = FOREIGN[case]
    path = tmp_path / "fold.pth"
    path.write_bytes(content)
    message = refused(path)
    assert found in message
    assert fix in message.split("Fix: ")[1]


def test_an_archive_with_a_checkpoint_inside(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("weights/fold4.pth", b"x")
    message = refused(tmp_path / "x.zip")
    assert "a zip archive of 1 files" in message
    assert "unpack it, and give weights/fold4.pth" in message


@pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["zip", "older", "safetensors"])
def test_cut_off_files_are_named(tmp_path: Path, weights: dict[str, Tensor], kind: str, share: float) -> None:
    whole, path = tmp_path / "whole", tmp_path / ("x.safetensors" if kind == "safetensors" else "x.pth")
    if kind == "safetensors":
        save_file(weights, whole)
    else:
        torch.save({"model_state_dict": weights}, whole, _use_new_zipfile_serialization=kind == "zip")
    data = whole.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    message = refused(path)
    assert re.search("of which the end is missing|damaged", message), message
    assert "copy" in message.split("Fix: ")[1]


def test_folders_and_pipes(tmp_path: Path, original_checkpoint: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "best.pth").write_bytes(original_checkpoint.read_bytes())
    assert "a folder, not a checkpoint\n  Fix: name a file in it: best.pth" in refused(tmp_path / "run")
    assert "no such checkpoint" in refused(tmp_path / "gone.pth")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        assert "no file but a device or pipe" in refused(tmp_path / "pipe")


def test_no_code_of_a_file_runs(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    for name, old_format in (("x.pth", False), ("y.pth", True)):
        torch.save({"model": Harm()}, tmp_path / name, _use_new_zipfile_serialization=not old_format)
        assert "pathlib.Path" in refused(tmp_path / name)
    (tmp_path / "z.pkl").write_bytes(pickle.dumps(Harm()))
    refused(tmp_path / "z.pkl")
    assert not (tmp_path / "ran").exists()


def test_an_object_dressed_as_a_number_of_numpy_is_refused(tmp_path: Path) -> None:
    torch.save({"model": np.array([PurePosixPath("a")], object)[0:1].dtype}, tmp_path / "x.pth")
    assert "objects of numpy.dtypes.ObjectDType" in refused(tmp_path / "x.pth")


def test_names_in_a_file_do_not_move_the_terminal(tmp_path: Path) -> None:
    weights = {**original_weights(), "classifier\x1b[31m.weight": torch.zeros(2)}
    torch.save(weights, tmp_path / "x.pth")
    done = run("predict", "a.mp4", "--checkpoint", tmp_path / "x.pth")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "unknown classifier\\x1b[31m.weight" in done.stderr and "\x1b" not in done.stderr
