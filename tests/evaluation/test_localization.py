from __future__ import annotations

import numpy as np
import pytest

from dfkit.evaluation.localization import Detection, average_precision, find_intervals, temporal_iou


def test_runs_above_the_threshold_with_gaps() -> None:
    times = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 1.0, 1.1])
    p = np.array([0.9, 0.8, 0.1, 0.6, 0.6, 0.6, 0.2])
    found = find_intervals("v", times, p, threshold=0.6)
    assert [(d.start_s, pytest.approx(d.end_s), pytest.approx(d.confidence)) for d in found] == [
        (0.0, 0.2, 0.85),
        (0.3, 0.5, 0.6),
        (1.0, 1.1, 0.6),
    ]
    assert find_intervals("v", times[:0], p[:0], threshold=0.5) == []


def test_iou_by_hand() -> None:
    assert temporal_iou((0, 2), (1, 3)) == pytest.approx(1 / 3)
    assert temporal_iou((0, 1), (2, 3)) == 0 and temporal_iou((1, 1), (1, 1)) == 0


def test_average_precision_by_hand() -> None:
    truth = {"a": [(0.0, 10.0), (20.0, 30.0)], "b": [(5.0, 6.0)]}
    ranked = [
        Detection("a", 0.0, 10.0, 0.9),  # right
        Detection("real", 0.0, 5.0, 0.8),  # false alarm on a video without intervals
        Detection("a", 1.0, 9.0, 0.7),  # the same one again: false alarm
        Detection("a", 20.0, 26.0, 0.6),  # IoU 0.6
    ]
    # At 0.5: right at ranks 1 and 4; precision 1 and 2/4, each a third of the recall; b is never found.
    assert average_precision(ranked, truth, min_iou=0.5) == pytest.approx((1 + 0.5) / 3)
    assert average_precision(ranked, truth, min_iou=0.75) == pytest.approx(1 / 3)
    # Interpolation: a better precision further on lifts what comes before. Hits at ranks 2 and 3: 2/3 for both.
    late = [Detection("real", 0, 1, 0.9), Detection("a", 0, 10, 0.8), Detection("a", 20, 30, 0.7)]
    assert average_precision(late, truth, min_iou=0.5) == pytest.approx(2 * (2 / 3) / 3)
    assert average_precision([], truth, min_iou=0.5) == 0.0
    assert np.isnan(average_precision(ranked, {}, min_iou=0.5))
