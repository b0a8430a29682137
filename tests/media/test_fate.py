"""Files that exist as bytes are read as their references say: with any number of threads, and every time."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dfkit.media.faces import FaceModels

from . import fate


@pytest.fixture(scope="module")
def models() -> FaceModels:
    return FaceModels()


def reference(name: str) -> list[str]:
    return fate.reference_path(name).read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("name", fate.AWKWARD)
def test_awkward_files(shared: Path, models: FaceModels, name: str) -> None:
    found = fate.describe(fate.locate(name, shared), models)
    assert fate.differences(reference(name), found) == []


@pytest.mark.parametrize("name", [name for name in fate.EXAMPLES if "/" in name])
def test_example_clips(shared: Path, models: FaceModels, name: str) -> None:
    assert fate.differences(reference(name), fate.describe(fate.locate(name, shared), models)) == []


def test_the_golden_head(models: FaceModels, tmp_path: Path) -> None:
    # Shipped, so without the folder of real clips, too.
    found = fate.describe(fate.locate("golden_head.mp4", tmp_path), models)
    assert fate.differences(reference("golden_head.mp4"), found) == []


@pytest.mark.parametrize("name", fate.FILES)
def test_any_number_of_threads_and_every_time(shared: Path, name: str) -> None:
    # Not the reference but each other, bit by bit: also of codecs that other processors decode otherwise.
    path = fate.locate(name, shared)
    first = fate.describe_pictures(path, num_threads=1)
    for num_threads in (2, 0, 0):
        assert fate.describe_pictures(path, num_threads=num_threads) == first


def test_every_reference_has_its_file() -> None:
    assert {path.name for path in fate.GOLDEN.iterdir()} == {fate.reference_path(name).name for name in fate.FILES}
    assert len(fate.AWKWARD) >= 12
    for name in fate.FILES:
        assert fate.reference_path(name).stat().st_size < 16_000


def test_what_differs_is_found() -> None:
    lines = reference("reset.ts")
    assert fate.differences(lines, lines) == []
    assert fate.differences(lines, lines[:-1])
    changed = {
        "picture": lambda line: line[:-1] + ("0" if line[-1] != "0" else "1"),
        "segment": lambda line: line.replace("offset", "offset 1"),
        "sound": lambda line: line.replace("frames", "frames more"),
        "level": lambda line: re.sub(r"\S+$", lambda m: f"{float(m[0]) + 0.2:.2f}", line),
        "read": lambda line: line + "1",
        "face": lambda line: re.sub(r"boxes \S+", lambda m: f"boxes {float(m[0][6:]) + 20}", line),
    }
    for kind, change in changed.items():
        spoiled = [change(line) if line.startswith(kind) else line for line in lines]
        assert len(fate.differences(lines, spoiled)) == sum(line.startswith(kind) for line in lines) > 0, kind
    crop = [re.sub(r"\d+$", lambda m: str(int(m[0]) + 5), line) if line.startswith("face") else line for line in lines]
    assert fate.differences(lines, crop)


def test_what_is_near_is_the_same() -> None:
    lines = reference("base.wmv")
    near = [
        re.sub(r"[\d.]+$", lambda m: f"{float(m[0]) + 0.3:.2f}", line) if " means " in line else line for line in lines
    ]
    assert near != lines
    assert fate.differences(lines, near) == []
