"""Imports point one way: from the rooms above to those below, never back, never round in a circle.

The list of floors stands once, in CONTRIBUTING.md; this file reads it there.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import SHARED

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "dfkit"
ANYWHERE = {"__init__", "__main__"}
"""The package's own root: the version below everything, the entry point above it."""


def read_floors(text: str) -> list[list[str]]:
    """Rooms of each floor from the top down: the indented block behind the line that ends in `Floors:`."""
    block = re.search(r"Floors[^\n]*:\n\n((?: {4}[^\n]+\n)+)", text)
    assert block is not None, "CONTRIBUTING.md has no list of floors"
    return [line.split("#")[0].split() for line in block[1].splitlines()]


FLOORS = read_floors((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


@cache
def imports() -> list[tuple[str, str, int]]:
    """(importing module, imported module, line) within dfkit, at the top of files and inside functions alike."""
    modules = {module_name(path): path for path in PACKAGE.rglob("*.py")}
    found = []
    for name, path in modules.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}, line {node.lineno}: relative import"
                full = [f"{node.module}.{alias.name}" for alias in node.names]
                targets = [each if each in modules else str(node.module) for each in full]
            else:
                continue
            found += [(name, target, node.lineno) for target in targets if target.split(".")[0] == "dfkit"]
    return found


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str | None:
    """The room that a module is in; None for the package's root."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] not in ANYWHERE else None


def test_every_room_stands_on_one_floor() -> None:
    there = {path.stem if path.is_file() else path.name for path in PACKAGE.iterdir() if not path.name.startswith("_")}
    listed = [each for rooms in FLOORS for each in rooms]
    assert len(listed) == len(set(listed))
    assert set(listed) == there


def test_imports_go_down() -> None:
    upward = [
        f"{source} line {line} imports {target}"
        for source, target, line in imports()
        if room(source) and room(target) and room(source) != room(target)
        and FLOOR_OF[str(room(source))] >= FLOOR_OF[str(room(target))]
    ]  # fmt: skip
    assert not upward, "\n".join(upward)


def test_no_circle() -> None:
    """Among modules, too: within a room everything imports one way."""
    graph: dict[str, set[str]] = {}
    for source, target, _ in imports():
        if source != target and not is_parent(target, source):
            graph.setdefault(source, set()).add(target)
    done: set[str] = set()
    path: list[str] = []

    def visit(module: str) -> None:
        if module in path:
            pytest.fail(" -> ".join([*path[path.index(module) :], module]))
        if module in done:
            return
        path.append(module)
        for target in sorted(graph.get(module, ())):
            visit(target)
        done.add(path.pop())

    for module in sorted(graph):
        visit(module)


def is_parent(package: str, module: str) -> bool:
    """A package's `__init__` is run before its modules; it names them and they do not import it."""
    return module.startswith(f"{package}.")


def test_networks_know_the_contract_alone() -> None:
    allowed = {"models", "clip", "errors", "mel", "weights"}
    strangers = {t for s, t, _ in imports() if room(s) == "models" and room(t) not in allowed}
    assert not strangers


@pytest.mark.skipif(not (SHARED / "DESIGN.md").is_file(), reason="DESIGN.md is not in the shared folder")
def test_design_has_the_same_order() -> None:
    design = (SHARED / "DESIGN.md").read_text(encoding="utf-8")
    block = design[design.index("    dfkit/\n") : design.index("    android_demo/")]
    named: list[str] = []
    for line in block.splitlines()[1:]:
        names = re.match(r"\s+((?:[a-z_]+(?:/|\.py)\s+)+)", line + " ")
        named += re.findall(r"[a-z_]+(?=/|\.py)", names[1] if names else "")
    numbers = [FLOOR_OF[name] for name in named]
    assert len(numbers) > 20
    assert numbers == sorted(numbers), [name for name in named]
