"""Which videos the starter may know: none without a right to it, nobody that the demonstration holds out."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfkit.demo.grid import grid_clips
from tools import starter


@pytest.fixture
def no_heads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    names = [f"h{number}-0.mp4" for number in range(starter.HEADS)]
    monkeypatch.setattr(starter, "make_heads", lambda folder, **_: [folder / name for name in names])
    return tmp_path


def test_the_held_out_speakers_are_in_none_of_it(shared: Path, no_heads: Path) -> None:
    rows = starter.source_rows(shared, no_heads)
    groups = {row["group"] for row in rows}
    held_out = {clip.group for clip in grid_clips() if clip.part == "test"}
    assert len(held_out) == 2 and not groups & held_out
    tuned = {clip.group for clip in grid_clips() if clip.part == "val"}
    assert {row["group"] for row in rows if row["split"] == "val"} == tuned | {"head_h12", "head_h13"}
    # The demonstration's own heads are left to it.
    assert {name for name in groups if name.startswith("head_")} == {f"head_h{n}" for n in range(8, 14)}
    licences = {row["path"]: row["media_ok"] for table in starter.TABLES for row in starter.read_table(shared / table)}
    assert all(licences[Path(row["path"]).name] == "yes" for row in rows if not row["group"].startswith("head_"))


def test_it_is_judged_by_nobody_whom_it_knows(shared: Path, no_heads: Path) -> None:
    known = {row["group"] for row in starter.source_rows(shared, no_heads)}
    unknown = starter.unknown_rows(shared)
    assert not known & {row["group"] for row in unknown}
    assert {row["label"] for row in unknown} == {"real", "fake"} and len(unknown) == 104
