"""What the repository itself has to keep: files that are copies of each other, and no links."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_the_demos_configuration_is_the_one_that_the_package_ships() -> None:
    ours, packaged = ROOT / "configs" / "demo.yaml", ROOT / "dfkit" / "demo" / "demo.yaml"
    assert ours.read_bytes() == packaged.read_bytes(), f"copy {packaged} over {ours}"


def test_no_tracked_file_is_a_link() -> None:
    """Windows checks links out as text files that hold a path."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "--stage"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    entries = [line.split("\t") for line in listed.splitlines()]
    assert len(entries) > 300
    # Git's mode of a symbolic link.
    assert [path for facts, path in entries if facts.startswith("120000")] == []
    assert [path for _, path in entries if (ROOT / path).is_symlink()] == []
