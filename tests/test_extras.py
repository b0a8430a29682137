"""What each command says in an environment that lacks the optional packages."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import dfkit.demo.run
from dfkit import extras, pipeline
from dfkit.config import Config
from dfkit.demo.run import DemoRun
from dfkit.distill.search.run import search_student
from dfkit.doctor.versions import extra_checks
from dfkit.errors import ConfigError, DataError, MissingExtraError
from dfkit.extras import CONTAINS, PACKAGES, TFLITE_CONVERTER, missing_extra, require_extra
from dfkit.workspace import Workspace

ROOT = Path(__file__).parents[1]
SCRIPT = """
import importlib.abc, json, sys
blocked = set(json.loads(sys.argv[1]))

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from typer.testing import CliRunner
from dfkit.cli import app
answers = []
for arguments in json.loads(sys.argv[2]):
    result = CliRunner().invoke(app, arguments)
    kind = type(result.exception).__name__
    answers.append([result.exit_code, result.stdout, result.stderr, kind])
print(json.dumps(answers))
"""
NEEDS_EXTRA = {
    "prepare": (["prepare", "videos"], "train"),
    "audit": (["audit"], "train"),
    "baseline": (["baseline"], "train"),
    "forge": (["forge"], "train"),
    "train": (["train"], "train"),
    "distill": (["distill", "--teacher", "fold4.pth"], "train"),
    "evaluate": (["evaluate"], "train"),
    "export": (["export", "--int8"], "export"),
    "demo": (["demo"], "export"),
    "visualize": (["visualize", "a.mp4", "--out", "pictures"], "plot"),
    "predict from a checkpoint": (["predict", "a.mp4", "--checkpoint", "fold4.pth"], "train"),
}
SERVES = {
    "verify": ["verify"],
    "inspect": ["inspect"],
    "bench": ["bench"],
}
STARTER_ANSWERS = {"predict": ["predict", "a.mp4"]}
READS_REPORTS = {
    "compare": ["compare", "a", "b"],
    "evaluate from scores": ["evaluate", "--from", "a"],
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, str, str]]:
    """Exit code, stdout, stderr and exception of every command, none of whose extras can be imported."""
    calls = {name: call for name, (call, _) in NEEDS_EXTRA.items()} | SERVES | STARTER_ANSWERS | READS_REPORTS
    calls["doctor"] = ["doctor"]
    absent = sorted({name for packages in PACKAGES.values() for name in packages})
    command = [sys.executable, "-c", SCRIPT, json.dumps(absent), json.dumps(list(calls.values()))]
    folder = tmp_path_factory.mktemp("empty")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return dict(zip(calls, map(tuple, json.loads(done.stdout)), strict=True))  # type: ignore[arg-type]


def test_every_command_is_tried() -> None:
    from dfkit.cli import app

    names = {info.name or info.callback.__name__ for info in app.registered_commands if info.callback is not None}
    bare = [*SERVES.values(), *STARTER_ANSWERS.values(), *READS_REPORTS.values()]
    assert names == {call[0] for call, _ in NEEDS_EXTRA.values()} | {call[0] for call in bare} | {"doctor"}


def test_the_doctor_needs_no_extra(answers: dict[str, tuple[int, str, str, str]]) -> None:
    code, out, err, _ = answers["doctor"]
    assert (code, err) == (0, "") and "everything that dfkit needs is in order" in out


@pytest.mark.parametrize("name", NEEDS_EXTRA)
def test_the_install_command_is_printed(answers: dict[str, tuple[int, str, str, str]], name: str) -> None:
    code, out, err, kind = answers[name]
    assert (code, out, kind) == (2, "", "SystemExit"), err
    assert f'pip install "dfkit[{NEEDS_EXTRA[name][1]}]"' in err
    assert "Traceback" not in err


@pytest.mark.parametrize("name", READS_REPORTS)
def test_reports_are_read_without_any_extra(answers: dict[str, tuple[int, str, str, str]], name: str) -> None:
    code, _, err, _ = answers[name]
    assert code == 2
    assert "a: no such file" in err and "dfkit evaluate writes one" in err


@pytest.mark.parametrize("name", SERVES)
def test_serving_and_measuring_need_no_extra(answers: dict[str, tuple[int, str, str, str]], name: str) -> None:
    code, _, err, _ = answers[name]
    assert code == 2
    assert "no bundle" in err and "dfkit export" in err


def test_the_starter_answers_without_any_extra(answers: dict[str, tuple[int, str, str, str]]) -> None:
    """Where no bundle is at hand; that there is no such video is its answer to that video."""
    code, out, err, _ = answers["predict"]
    assert code == 2 and "a.mp4: unreadable" in out and "starter" in err


def test_extras_are_those_of_pyproject() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for extra, packages in PACKAGES.items():
        lines = declared[extra]
        named = {re.split(r"[<>=\[ ]", line)[0] for line in lines}
        assert set(packages.values()) <= named, extra
        contained = {name for line in lines for name in re.findall(r"dfkit\[([\w,]+)\]", line)}
        assert contained <= set(CONTAINS.get(extra, ())), extra


def test_a_module_of_ours_is_no_extra() -> None:
    assert missing_extra(ModuleNotFoundError("no", name="dfkit.gone")) is None
    found = missing_extra(ModuleNotFoundError("no", name="sklearn.ensemble"))
    assert isinstance(found, MissingExtraError) and "scikit-learn" in str(found)
    require_extra("export")


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as the choice of converters is concerned."""
    monkeypatch.setattr(extras, "has_tflite_converter", lambda: False)
    monkeypatch.setattr("dfkit.demo.run.has_tflite_converter", lambda: False)


@pytest.mark.parametrize("formats", ["tflite", "all", "executorch", "coreai"])
def test_on_windows_tflite_is_refused_before_any_work(windows: None, tmp_path: Path, formats: Any) -> None:
    """The workspace is empty: nothing was looked for yet. ONNX is asked for what it needs."""
    with pytest.raises(
        ConfigError, match=rf"--format {formats} (.|\n)*Windows(.|\n)*dfkit export --format onnx(.|\n)*WSL"
    ):
        pipeline.export(Workspace(tmp_path), formats=formats)
    with pytest.raises(ConfigError, match="--reference needs litert-torch"):
        pipeline.export(Workspace(tmp_path), formats="onnx", straight=True)
    with pytest.raises(DataError, match="student"):
        pipeline.export(Workspace(tmp_path), formats="onnx")
    with pytest.raises(ConfigError, match="a search for widths needs litert-torch"):
        search_student("no", "no", Workspace(tmp_path), Config(), make_view=None, report_progress=None)  # type: ignore[arg-type]


def test_on_windows_the_extra_installs_without_it(windows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "_is_installed", lambda name: name != TFLITE_CONVERTER)
    require_extra("export")
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (line,) = [line for line in declared["export"] if line.startswith("litert-torch")]
    assert line.endswith("; sys_platform != 'win32'")
    monkeypatch.setattr(extras, "has_tflite_converter", lambda: True)
    with pytest.raises(MissingExtraError, match="litert-torch"):
        require_extra("export")


def test_this_systems_converter(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, there in (("win32", False), ("linux", True), ("darwin", True)):
        monkeypatch.setattr(sys, "platform", name)
        assert extras.has_tflite_converter() is there


def test_on_windows_the_baselines_install_without_phonemes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "_is_installed", lambda name: name not in ("hama", TFLITE_CONVERTER))
    with pytest.raises(MissingExtraError, match="hama"):
        require_extra("baselines")
    monkeypatch.setattr(sys, "platform", "win32")
    require_extra("baselines")
    (check,) = [check for check in extra_checks() if check.name == "baselines"]
    assert "hama" not in check.found
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert [line for line in declared["baselines"] if "win32" in line] == ["hama==1.7.0; sys_platform != 'win32'"]


def test_on_windows_the_demonstration_exports_onnx_and_says_so(
    windows: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def export(workspace: Workspace, **options: Any) -> Any:
        asked.update(options)
        return SimpleNamespace(model_bytes={"score.onnx": 1_000_000}, bundle="exports/demo")

    monkeypatch.setattr(pipeline, "export", export)
    run = DemoRun("synthetic", tmp_path, Path(dfkit.demo.run.__file__).with_name("demo.yaml"))
    run.export(tmp_path, tmp_path)
    assert asked["formats"] == "onnx"
    assert run.clock.stages[-1].outcome == "score.onnx 1.000 MB; no .tflite: its converter does not run on Windows"
