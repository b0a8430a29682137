"""Mean and standard deviation over runs, by hand arithmetic."""

from __future__ import annotations

import pytest

from dfkit.measures.spread import Spread, spread


def test_spread_by_hand() -> None:
    # (0.7, 0.8, 0.9): mean 0.8, squared deviations 0.01 + 0 + 0.01 over 2.
    found = spread([0.7, 0.8, 0.9])
    assert (found.mean, found.std) == (pytest.approx(0.8), pytest.approx(0.1))
    assert found.text() == "0.800 ± 0.100"
    assert spread([0.7]).text() == "0.700"
    assert spread([0.7, None]).text() == spread([0.7, float("nan")]).text() == spread([]).text() == "not defined"
    assert spread([1.0, float("nan")]).to_json()["mean"] is None
    # Mean 2; deviations -1, 0, 1; (1 + 1) / (3 - 1) = 1.
    assert spread([1.0, 2.0, 3.0]) == Spread(2.0, 1.0, (1.0, 2.0, 3.0))
