"""A graph that was never opened here is opened in a process of its own first, once."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from dfkit.errors import BundleError, DfkitError
from dfkit.files import CACHE_VARIABLE, cache_folder
from dfkit.measures.child_process import crash_name, run_for_json
from dfkit.runtime import backends, first_open
from dfkit.runtime.backends import open_backend
from dfkit.runtime.bundle import Bundle, open_bundle
from dfkit.runtime.tflite_file import read_tables
from tests.runtime.bundles import reseal
from tests.runtime.test_graph_check import pack

RUNTIME = Path(first_open.__file__).parent


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every process that is started to open a graph first."""
    started: list[str] = []

    def run(command: list[str], **options: Any) -> dict[str, Any]:
        started.append(command[2])
        return run_for_json(command, **options)

    monkeypatch.setattr(first_open, "run_for_json", run)
    return started


def test_each_backend_is_opened_first_once(tiny_bundle: Bundle, cache: Path, children: list[str]) -> None:
    for _ in range(2):
        for name in ("tflite", "onnx"):
            assert open_backend(tiny_bundle, name).name == name  # type: ignore[arg-type]
    assert children == [first_open.CHILD] * 2
    kept = sorted(path.read_text(encoding="utf-8") for path in (cache / "opened").iterdir())
    assert kept == ["onnx: encode.onnx, score.onnx\n", "tflite: model.tflite\n"]


def test_another_file_or_runtime_is_another_matter(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first_open.remember("tflite", {"a": b"one", "b": b"two"})
    assert first_open.opened_before("tflite", {"a": b"one", "b": b"two"})
    assert not first_open.opened_before("tflite", {"a": b"one", "b": b"2"})
    assert not first_open.opened_before("tflite", {"a": b"one"})
    assert not first_open.opened_before("onnx", {"a": b"one", "b": b"two"})
    monkeypatch.setattr(first_open.metadata, "version", lambda _: "9.9.9")
    assert not first_open.opened_before("tflite", {"a": b"one", "b": b"two"})


def test_without_a_cache_it_is_asked_again(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, children: list[str]
) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    monkeypatch.setenv(CACHE_VARIABLE, str(blocked))
    for _ in range(2):
        open_backend(tiny_bundle, "tflite")
    assert len(children) == 2 and blocked.read_bytes() == b""


DEATHS: dict[str, tuple[str, str]] = {
    "crash": ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed: SIGSEGV"),
    "exit": ("raise SystemExit(3)", "failed: 3"),
    "silence": ("pass", "gave no answer"),
    "hang": ("import time; time.sleep(60)", "timed out after 1 seconds"),
    "error": ("raise RuntimeError('Segment 7')", "failed: RuntimeError: Segment 7"),
}


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("death", DEATHS)
def test_the_death_of_the_first_process_is_an_error_that_names_the_file(
    tiny_bundle: Bundle, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, death: str
) -> None:
    program, message = DEATHS[death]
    (tmp_path / "dies.py").write_text(program, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(first_open, "TIMEOUT_S", 1 if death == "hang" else 60)
    name, backend = "tflite", tiny_bundle.manifest.backends["tflite"]
    content = {"model.tflite": tiny_bundle.read("model.tflite")}
    with pytest.raises(BundleError, match=rf"here: model\.tflite cannot be opened safely: .*{message}") as caught:
        first_open.open_in_child(name, backend, content, where="here", module="dies")
    assert "do not use it" in str(caught.value)
    assert not cache.exists()


def test_what_the_first_process_finds_is_said_as_it_is(
    tiny_bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = tiny_bundle.manifest.backends["tflite"]
    other = backend.score.model_copy(update={"key": "nothing"})
    content = {"model.tflite": tiny_bundle.read("model.tflite")}
    with pytest.raises(BundleError, match=r"^here: model\.tflite cannot be loaded: (.|\n)*nothing(.|\n)*Fix: copy"):
        first_open.open_first("tflite", backend.model_copy(update={"score": other}), content, where="here")
    assert not cache.exists()


def test_cache_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def set_to(name: str, path: Path) -> None:
        monkeypatch.setenv(name, str(path))

    set_to(CACHE_VARIABLE, tmp_path / "own")
    assert cache_folder("opened") == tmp_path / "own" / "opened"
    monkeypatch.delenv(CACHE_VARIABLE)
    set_to("XDG_CACHE_HOME", tmp_path / "xdg")
    set_to("LOCALAPPDATA", tmp_path / "local")
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache_folder("opened") == tmp_path / "xdg" / "dfkit" / "opened"
    monkeypatch.setattr(sys, "platform", "win32")
    assert cache_folder("opened") == tmp_path / "local" / "dfkit" / "opened"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder("opened") == Path.home() / "Library" / "Caches" / "dfkit" / "opened"


def test_crashes_by_name() -> None:
    assert crash_name(-signal.SIGSEGV) == "SIGSEGV"
    assert crash_name(3221225477) == "0xC0000005"
    assert crash_name(0) is None and crash_name(1) is None and crash_name(137) is None
    with pytest.raises(DfkitError, match="here failed: 7"):
        run_for_json([sys.executable, "-c", "raise SystemExit(7)"], name="here", no_answer="none", timeout_s=60)


def test_what_passed_is_not_checked_again(
    tiny_bundle: Bundle, cache: Path, children: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check runs in the first process; this one would only find what that one did."""
    looked: list[str] = []
    monkeypatch.setattr(backends, "check_tflite", lambda content, *, where: looked.append(where))
    for _ in range(2):
        open_backend(tiny_bundle, "tflite")
    assert (len(children), looked) == (1, [])
    content = {"model.tflite": tiny_bundle.read("model.tflite")}
    backends.load_graphs("tflite", tiny_bundle.manifest.backends["tflite"], content, num_threads=1, where="here")
    assert looked == ["here: model.tflite"]


def test_a_file_that_fails_the_check_is_refused_by_every_start(
    own_folder: Path, cache: Path, children: list[str]
) -> None:
    path = own_folder / "model.tflite"
    tables = read_tables(path.read_bytes(), where="test")
    tables.subgraphs[0].operators[0].outputs = [0]
    path.write_bytes(pack(tables))
    reseal(own_folder)
    for _ in range(2):
        with pytest.raises(BundleError, match="not as dfkit makes its files"):
            open_backend(open_bundle(own_folder), "tflite")
    assert len(children) == 2 and not cache.exists()


def test_a_note_stands_for_one_check(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that an older dfkit let pass is held against this one's rules."""
    content = {"model.tflite": b"one"}
    first_open.remember("tflite", content)
    monkeypatch.setattr(first_open, "__file__", str(tmp_path / "first_open.py"))
    for source in first_open.CHECK_SOURCES:
        (tmp_path / source).write_bytes((RUNTIME / source).read_bytes())
    assert first_open.opened_before("tflite", content)
    (tmp_path / first_open.CHECK_SOURCES[1]).write_bytes(b"stricter")
    assert not first_open.opened_before("tflite", content)


def test_the_check_is_made_of_these_files() -> None:
    needed = {"graph_check.py"}
    for source in first_open.CHECK_SOURCES:
        text = (RUNTIME / source).read_text(encoding="utf-8")
        needed |= {f"{module}.py" for module in re.findall(r"^from dfkit\.runtime\.(\w+) import", text, re.MULTILINE)}
    # Of that one the check takes two names: a file's first bytes, and what an error advises.
    assert set(first_open.CHECK_SOURCES) == needed - {"tflite_file.py"}
