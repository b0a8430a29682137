"""What export made runs in a fresh process, and is all that was asked for, before a bundle is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dfkit.errors import ConversionError
from dfkit.export import export, first_run
from dfkit.export.export import export_student
from dfkit.files import CACHE_VARIABLE
from dfkit.runtime import first_open
from dfkit.runtime.backends import open_backend
from dfkit.runtime.bundle import Bundle, open_bundle
from dfkit.runtime.replay import replay
from tests.export import tiny

Files = dict[str, bytes]


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("student")
    return tiny.tiny_checkpoint(root / "best.pth", tiny.tiny_data(root / "data"))


@pytest.fixture(scope="module")
def exported(converted_once: None, student: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Path]:
    """An ONNX bundle, and the cache folder as its export left it."""
    root = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(root / "cache"))
        done = export_student(student, root / "exports", tiny.CONFIG, formats="onnx", recipe="fp32")
    return open_bundle(done.archive), root / "cache"


def test_an_own_export_was_opened_already(exported: tuple[Bundle, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, cache = exported
    # The bundle's graphs, and those of the stressed model whose golden vectors it has.
    stressed = [name for name in bundle.manifest.files if name.startswith("golden/stressed/")]
    assert len(list((cache / "opened").iterdir())) == (2 if stressed else 1)
    monkeypatch.setenv(CACHE_VARIABLE, str(cache))
    monkeypatch.setattr(first_open, "open_in_child", None)  # calling it would fail
    assert open_backend(bundle).name == "onnx"
    assert replay(bundle).passed


def cut(files: Files) -> None:
    files["score.onnx"] = files["score.onnx"][:5000]


def remove(files: Files) -> None:
    del files["encode.onnx"]


def empty(files: Files) -> None:
    files["score.onnx"] = b""


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut, r"onnx: what was made does not run in a fresh process: (.|\n)*score\.onnx"),
        (remove, r"onnx was asked for, and encode\.onnx was not made"),
        (empty, r"onnx was asked for, and score\.onnx was not made"),
    ],
)
def test_files_that_lack_or_do_not_run(
    exported: tuple[Bundle, Path], spoil: Callable[[Files], None], message: str
) -> None:
    bundle, _ = exported
    files = {name: bundle.read(name) for name in bundle.manifest.files}
    made = {name: (backend, ()) for name, backend in bundle.manifest.backends.items()}
    first_run.run_first(("onnx",), made, files)
    spoil(files)
    with pytest.raises(ConversionError, match=message):
        first_run.run_first(("onnx",), made, files)
    with pytest.raises(ConversionError, match="tflite was asked for, and no graph of it was made"):
        first_run.run_first(("tflite",), made, files)


def test_no_bundle_is_written_then(
    converted_once: None, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(asked: Any, made: Any, files: Files) -> None:
        cut(files)
        first_run.run_first(asked, made, files)

    monkeypatch.setattr(export, "run_first", run)
    with pytest.raises(ConversionError, match="fresh process"):
        export_student(student, tmp_path / "exports", tiny.CONFIG, formats="onnx", recipe="fp32")
    assert not (tmp_path / "exports").exists()
