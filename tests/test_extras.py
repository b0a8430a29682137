"""What each command says in an environment that lacks the optional packages."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from dfkit.errors import MissingExtraError
from dfkit.extras import CONTAINS, PACKAGES, missing_extra, require_extra

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
    "predict": ["predict", "a.mp4"],
    "verify": ["verify"],
    "inspect": ["inspect"],
    "bench": ["bench"],
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, str, str]]:
    """Exit code, stdout, stderr and exception of every command, none of whose extras can be imported."""
    calls = {name: call for name, (call, _) in NEEDS_EXTRA.items()} | SERVES
    absent = sorted({name for packages in PACKAGES.values() for name in packages})
    command = [sys.executable, "-c", SCRIPT, json.dumps(absent), json.dumps(list(calls.values()))]
    folder = tmp_path_factory.mktemp("empty")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return dict(zip(calls, map(tuple, json.loads(done.stdout)), strict=True))  # type: ignore[arg-type]


def test_every_command_is_tried() -> None:
    from dfkit.cli import app

    names = {info.name or info.callback.__name__ for info in app.registered_commands if info.callback is not None}
    assert names == {call[0] for call, _ in NEEDS_EXTRA.values()} | {call[0] for call in SERVES.values()}


@pytest.mark.parametrize("name", NEEDS_EXTRA)
def test_the_install_command_is_printed(answers: dict[str, tuple[int, str, str, str]], name: str) -> None:
    code, out, err, kind = answers[name]
    assert (code, out, kind) == (2, "", "SystemExit"), err
    assert f'pip install "dfkit[{NEEDS_EXTRA[name][1]}]"' in err
    assert "Traceback" not in err


@pytest.mark.parametrize("name", SERVES)
def test_serving_and_measuring_need_no_extra(answers: dict[str, tuple[int, str, str, str]], name: str) -> None:
    code, _, err, _ = answers[name]
    assert code == 2
    assert "no bundle" in err and "dfkit export" in err


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
