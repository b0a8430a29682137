"""How long a file may take: by its size, unless the user says otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfkit.time_limits import given_up, time_limit_s


def test_the_limit_grows_with_the_file_up_to_six_hours(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    for size_bytes, limit_s in ((0, 120.0), (500_000, 150.0), (10_000_000, 720.0), (1_000_000_000, 21600.0)):
        with path.open("wb") as file:
            file.truncate(size_bytes)
        assert time_limit_s(path) == pytest.approx(limit_s)
    assert time_limit_s(tmp_path / "gone.mp4") == 120.0


def test_what_the_user_says_goes_first() -> None:
    assert time_limit_s(Path("gone.mp4"), 7.5) == 7.5
    assert time_limit_s(Path("gone.mp4"), 0.0) is None, "no limit"
    assert "after 8 s" in given_up(7.5) and "--timeout-s" in given_up(7.5)
