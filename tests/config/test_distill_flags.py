"""Flags of `dfkit distill` over a configuration."""

from __future__ import annotations

import pytest

from dfkit.config import Config
from dfkit.config.flags import DistillFlags
from dfkit.errors import ConfigError


def test_flags_go_before_the_configuration_and_are_named() -> None:
    config = DistillFlags(target_mb=1.0, target_ms=15, points=6, seeds=3).apply_to(Config())
    search = config.distill.search
    assert (search.target_mb, search.target_ms, search.points, config.distill.seeds) == (1.0, 15.0, 6, 3)
    assert config.flags == ("--target-mb 1", "--target-ms 15", "--points 6", "--seeds 3")


def test_a_search_is_asked_for_by_targets_or_points_alone() -> None:
    assert not DistillFlags(seeds=3).apply_to(Config()).distill.search.wanted
    for flags in (DistillFlags(target_mb=1.0), DistillFlags(target_ms=1.0), DistillFlags(points=1)):
        assert flags.apply_to(Config()).distill.search.wanted
    assert DistillFlags().apply_to(Config()) == Config()


def test_refuses_what_is_no_target() -> None:
    with pytest.raises(ConfigError, match=r"--target-mb 0: 1 wrong values:\n.*distill.search.target_mb"):
        DistillFlags(target_mb=0).apply_to(Config())
