"""What is chosen from measurements, by cases worked out by hand."""

from __future__ import annotations

import csv
import io

import pytest

from dfkit.clip import CLIP2S
from dfkit.config import SearchConfig
from dfkit.distill.search.candidates import Candidate, scale_widths
from dfkit.distill.search.measure import CandidateMeasurement, candidates_to_time
from dfkit.distill.search.points import (
    SearchPoint,
    noisy_measurements,
    points_within_noise,
    rank_points,
    rank_within_targets,
    slower_in_int8,
    spread_over_latency,
)
from dfkit.distill.search.report import plot_png, table_csv
from dfkit.errors import ConfigError
from dfkit.measures.spread import Spread, spread
from dfkit.models import NetworkSpec

PNG = b"\x89PNG\r\n\x1a\n"


def candidate(share: float, hidden: int, kept: float) -> Candidate:
    return Candidate(share, scale_widths(NetworkSpec(), share, hidden), kept, CLIP2S)


def measurement(label: str, model_mb: float, clip_ms: float) -> CandidateMeasurement:
    return CandidateMeasurement(
        label, model_mb, clip_ms, clip_ms * 1.1, clip_ms * 0.9, clip_ms * 0.1, 4 * model_mb, 2 * clip_ms
    )


CANDIDATES = [candidate(0.5, 192, 0.7), candidate(0.5, 64, 0.5), candidate(0.25, 128, 0.45), candidate(0.25, 64, 0.3)]
MEASUREMENTS = [
    measurement("cnn-0.5-gru-192", 1.3, 26.0),
    measurement("cnn-0.5-gru-64", 0.7, 25.0),
    measurement("cnn-0.25-gru-128", 0.9, 14.9),
    measurement("cnn-0.25-gru-64", 0.5, 14.2),
]


def point(place: int, val: tuple[float, ...], test: tuple[float, ...], *, meets: bool = True) -> SearchPoint:
    row = MEASUREMENTS[place]
    return SearchPoint(row, CANDIDATES[place], 1000, spread(val), spread(test), meets, f"{row.label}/best.pth")


def test_most_important_within_both_targets() -> None:
    found = rank_within_targets(CANDIDATES, MEASUREMENTS, SearchConfig(target_mb=1.0, target_ms=15))
    assert [c.label for c in found] == ["cnn-0.25-gru-128", "cnn-0.25-gru-64"]
    assert rank_within_targets(CANDIDATES, MEASUREMENTS, SearchConfig(target_mb=1.0))[0].label == "cnn-0.5-gru-64"
    assert rank_within_targets(CANDIDATES, MEASUREMENTS, SearchConfig(points=2))[0].label == "cnn-0.5-gru-192"


def test_unreachable_targets_name_the_nearest() -> None:
    # 0.9 MB is 1.8 times 0.5, 14.9 ms 1.49 times 10: 1.8. The narrowest: 1.0 and 1.42: the nearest.
    with pytest.raises(ConfigError, match=r"cnn-0.25-gru-64 with 0.500 MB and 14.20 ms") as error:
        rank_within_targets(CANDIDATES, MEASUREMENTS, SearchConfig(target_mb=0.5, target_ms=10))
    assert error.value.exit_code == 2
    assert "0.5 MB and 10 ms" in error.value.found


def test_points_are_spread_over_time_and_hold_the_wanted_one() -> None:
    assert spread_over_latency(MEASUREMENTS, 2, None) == ["cnn-0.25-gru-64", "cnn-0.5-gru-192"]
    assert spread_over_latency(MEASUREMENTS, 4, None) == [row.label for row in reversed(MEASUREMENTS)]
    # Second of four by time; the first place is nearer to it than the last.
    assert spread_over_latency(MEASUREMENTS, 2, "cnn-0.25-gru-128") == ["cnn-0.25-gru-128", "cnn-0.5-gru-192"]
    with pytest.raises(ConfigError, match="5 points wanted, and there are 4"):
        spread_over_latency(MEASUREMENTS, 5, None)


def test_validation_decides_and_the_test_part_does_not() -> None:
    points = [
        point(0, (0.99, 0.99), (0.99, 0.99), meets=False),
        point(1, (0.80, 0.82), (0.99, 0.99)),
        point(2, (0.84, 0.86), (0.10, 0.10)),
        point(3, (0.84, 0.86), (0.50, 0.50)),
    ]
    order = rank_points(points)
    # Equal on validation: the faster one first. What is beyond the targets is not taken however good.
    assert [p.measurement.label for p in order] == ["cnn-0.25-gru-64", "cnn-0.25-gru-128", "cnn-0.5-gru-64"]
    undefined = SearchPoint(MEASUREMENTS[1], CANDIDATES[1], 1, Spread(None, None, (None,)), spread((0.9,)), True, "x")
    assert rank_points([undefined, points[2]])[-1] is undefined


def test_noise_is_the_larger_standard_deviation() -> None:
    # std of (0.8, 0.9) is 0.0707 (ddof 1).
    best, near, far = point(2, (0.8, 0.9), (0, 0)), point(3, (0.79, 0.79), (0, 0)), point(1, (0.7, 0.7), (0, 0))
    assert points_within_noise([best, near, far], best) == ["cnn-0.25-gru-64"]
    assert points_within_noise([point(3, (0.5,), (0.5,))], point(2, (0.5,), (0.5,))) == []


def test_scatter_is_named() -> None:
    calm, noisy = measurement("calm", 1.0, 10.0), CandidateMeasurement("noisy", 1.0, 10.0, 12.6, 9.0, 1.0, 4.0, 9.9)
    assert noisy_measurements([calm, noisy]) == ["noisy"]
    assert slower_in_int8([calm, noisy]) == ["noisy"]


def test_wider_than_too_heavy_is_never_exported() -> None:
    asked: list[str] = []
    sizes = {row.label: int(row.model_mb * 1e6) for row in MEASUREMENTS}

    def bytes_of(c: Candidate) -> int:
        asked.append(c.label)
        return sizes[c.label]

    assert [c.label for c in candidates_to_time(CANDIDATES, bytes_of, 0.6)] == ["cnn-0.25-gru-64"]
    # 0.25/128 (0.9 MB) and 0.5/64 (0.7 MB) were too heavy; 0.5/192 is wider than either.
    assert asked == ["cnn-0.25-gru-64", "cnn-0.25-gru-128", "cnn-0.5-gru-64"]
    # Nothing fits: the narrowest is timed, so that the refusal can say what is reached.
    assert [c.label for c in candidates_to_time(CANDIDATES, bytes_of, 0.1)] == ["cnn-0.25-gru-64"]
    assert len(candidates_to_time(CANDIDATES, bytes_of, None)) == 4


def test_table_and_plot() -> None:
    points = [point(2, (0.84, 0.86), (0.7, 0.8)), point(3, (0.9, 0.8), (0.6, 0.6))]
    rows = list(csv.DictReader(io.StringIO(table_csv(points, MEASUREMENTS, "cnn-0.25-gru-128", processor="P 1"))))
    assert [row["label"] for row in rows][:2] == ["cnn-0.25-gru-64", "cnn-0.25-gru-128"]
    assert rows[1]["taken"] == "yes" and rows[0]["taken"] == "no"
    assert (rows[1]["val_auc_mean"], rows[1]["val_auc_std"], rows[1]["seeds"]) == ("0.8500", "0.0141", "2")
    assert rows[3]["val_auc_mean"] == ""
    assert plot_png(points, "cnn-0.25-gru-128", SearchConfig(target_ms=15)).startswith(PNG)
