"""The one rule from logits to a verdict: against answers computed apart from it, and on the cases that broke before."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression

from dfkit.measures.decision import (
    MAX_TEMPERATURE,
    Aggregation,
    Calibration,
    Decision,
    OperatingPoint,
    OperatingTarget,
    VideoScores,
    aggregate,
    compare_decisions,
    fit_decision,
    fit_temperature,
    judge,
    p_fake_of_margin,
    verdict_of,
    video_margin,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "decision" / "decision.json"


def one_clip(margin: float) -> VideoScores:
    return VideoScores.of_clip(np.array([0.0, margin]))


def video(margins: list[float], tracks: list[int] | None = None) -> VideoScores:
    logits = np.stack([np.zeros(len(margins)), margins], axis=1)
    return VideoScores(logits, np.array(tracks or [0] * len(margins)), np.arange(len(margins), dtype=float))


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def decision(threshold: float = 0.5, temperature: float = 1.0, aggregation: Aggregation | None = None) -> Decision:
    point = OperatingPoint(threshold=threshold, review_low=threshold, review_high=threshold, name="test")
    return Decision(Calibration(calibration_temperature=temperature), point, aggregation or Aggregation())


def test_golden_cases() -> None:
    cases = json.loads(GOLDEN.read_text(encoding="utf-8"))["cases"]
    assert len(cases) == 120
    for case in cases:
        clips, point = case["clips"], case["decision"]
        scores = VideoScores(
            np.array([clip["logits"] for clip in clips]),
            np.array([clip["track_id"] for clip in clips]),
            np.array([clip["start_s"] for clip in clips]),
        )
        rule = Decision(
            Calibration(calibration_temperature=point["temperature"]),
            OperatingPoint(
                threshold=point["threshold"],
                review_low=point["review_low"],
                review_high=point["review_high"],
                name="golden",
            ),
            Aggregation(**case["aggregation"]),
        )
        got, expected = judge(scores, rule), case["answer"]
        where = f"{case['name']}, {case['aggregation']}, {point}"
        assert (got.verdict, got.track_id) == (expected["verdict"], expected["track_id"]), where
        assert got.worst_clip_start_s == expected["worst_clip_start_s"], where
        tracks = {int(track): value for track, value in expected["track_p_fake"].items()}
        # Double precision in another order of operations.
        assert got.track_p_fake == pytest.approx(tracks, abs=1e-12), where
        assert got.p_fake == pytest.approx(expected["p_fake"], abs=1e-12), where
        assert got.worst_clip_p_fake == pytest.approx(expected["worst_clip_p_fake"], abs=1e-12), where


def test_the_golden_file_is_what_its_maker_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.measures import make_decision_golden

    monkeypatch.setattr(make_decision_golden, "PATH", tmp_path / "made.json")
    make_decision_golden.main()
    assert (tmp_path / "made.json").read_bytes() == GOLDEN.read_bytes()


def test_separated_classes_get_a_threshold_in_the_middle_of_the_gap() -> None:
    """It was 0.80, the lowest fake itself, at a temperature of 0.05, the bound, called fitted; the band was empty."""
    labels = np.array([0] * 12 + [1] * 12)
    p_fake = np.concatenate([np.linspace(0.02, 0.20, 12), np.linspace(0.80, 0.98, 12)])
    found = fit_decision([one_clip(logit(p)) for p in p_fake], labels)
    assert found.threshold == pytest.approx(0.50, abs=0.02)
    assert 0.3 < found.temperature < 3
    assert found.operating_point.review_low <= found.threshold - 0.05
    assert found.operating_point.review_high >= found.threshold + 0.05
    assert "bound" not in found.calibration.fitted_on
    # Twelve videos of each class leave both open: the intervals say how far.
    assert found.calibration.interval is not None and found.operating_point.interval is not None
    low, high = found.operating_point.interval
    assert low <= found.threshold <= high and high - low > 0
    low, high = found.calibration.interval
    assert low <= found.temperature <= high and high - low > 0


@pytest.mark.parametrize("point", ["eer", "youden", "max_fpr"])
def test_every_operating_point_lies_inside_of_a_gap(point: str) -> None:
    labels = np.array([0] * 12 + [1] * 12)
    p_fake = np.concatenate([np.linspace(0.02, 0.20, 12), np.linspace(0.80, 0.98, 12)])
    target = OperatingTarget(point=point, max_fpr=0.0)  # type: ignore[arg-type]
    found = fit_decision([one_clip(logit(p)) for p in p_fake], labels, target=target)
    assert found.threshold == pytest.approx(0.50, abs=0.02)


def test_temperature_is_platts_with_softened_targets() -> None:
    """Against scikit-learn: a weighted logistic regression without intercept on both targets of each video."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 30)
    margins = rng.normal(0, 2, 60) + np.where(labels == 1, 1.5, -1.5)
    found = fit_temperature(margins, labels)
    target = np.where(labels == 1, 31 / 32, 1 / 32)
    model = LogisticRegression(C=1e9, fit_intercept=False, tol=1e-10, max_iter=1000)
    model.fit(
        np.concatenate([margins, margins])[:, None],
        np.repeat([1, 0], 60),
        sample_weight=np.concatenate([target, 1 - target]),
    )
    assert found.temperature == pytest.approx(1 / model.coef_[0, 0], rel=1e-4)
    assert not found.at_bound


def test_a_bound_that_is_hit_is_said() -> None:
    labels = np.array([0] * 12 + [1] * 12)
    backwards = [one_clip(-1.0 if label else 1.0) for label in labels]
    found = fit_decision(backwards, labels)
    assert found.temperature == MAX_TEMPERATURE and "at the bound" in found.calibration.fitted_on


def test_too_few_videos_fit_nothing_and_say_so() -> None:
    labels = np.array([0] * 30 + [1] * 9)
    found = fit_decision([one_clip(float(label)) for label in labels], labels)
    assert (found.temperature, found.threshold) == (1.0, 0.5)
    assert "at least 10 of each" in found.operating_point.name and found.calibration.interval is None
    assert verdict_of(0.5, found.operating_point) == "review"


def test_one_fake_clip_of_ten_does_not_drown() -> None:
    """By the mean alone a clip at 0.98 gave its video 0.09."""
    assert (
        float(p_fake_of_margin(video_margin(video([4.0] + [-3.0] * 9), Aggregation()), calibration_temperature=1.0))
        < 0.1
    )
    partly, real, labels = [], [], []
    rng = np.random.default_rng(1)
    for n in range(15):
        margins = rng.normal(-3, 1.2, 10)
        partly.append(video([*margins[: n % 9], 3.0, *margins[n % 9 + 1 :]]))
        real.append(video(list(rng.normal(-3, 1.2, 10))))
        labels += [1]
    labels += [0] * 15
    flags = np.array([True] * 15 + [False] * 15)
    found = fit_decision([*partly, *real], np.array(labels), partly_fake=flags)
    assert found.aggregation.name in ("top_k", "noisy_or") and "15 of them fake in part" in found.aggregation.chosen_on
    assert all(judge(scores, found).verdict == "fake" for scores in partly)
    assert all(judge(scores, found).verdict == "real" for scores in real)
    # With few partial fakes too little tells the candidates apart, and the mean is taken.
    few = fit_decision([*partly, *real], np.array(labels), partly_fake=np.arange(30) < 4)
    assert few.aggregation.name == "mean" and "4, fewer than 5," in few.aggregation.chosen_on
    assert fit_decision([*partly, *real], np.array(labels)).aggregation.name == "mean"


def test_mean_stays_where_another_aggregation_gains_nothing() -> None:
    labels = np.array([1] * 12 + [0] * 12)
    scores = [video([2.0, 1.5, 2.5]) if label else video([-2.0, -1.5, -2.5]) for label in labels]
    found = fit_decision(scores, labels, partly_fake=labels == 1)
    assert found.aggregation.name == "mean" and "1.000" in found.aggregation.chosen_on


def test_a_change_is_judged_at_the_threshold_that_ships() -> None:
    """Parity judged flips at 0.5: at a threshold of 0.9 twelve of twelve verdicts flipped, and it said none."""
    before = np.linspace(2.10, 2.30, 12)
    after = before + np.where(before < logit(0.9), 0.13, -0.13)
    change = compare_decisions([one_clip(m) for m in before], [one_clip(m) for m in after], decision(threshold=0.9))
    # logit(0.9) is 2.197: of the twelve only 2.30 lies further than 0.1 from it.
    assert (change.num, change.num_flips, change.num_flips_above_margin) == (12, 12, 1)


def test_a_change_is_measured_under_the_calibration_that_ships() -> None:
    """It saw 0.02 where the calibrated probabilities moved by 0.26."""
    before, after = [one_clip(0.02)] * 4, [one_clip(0.02 + 0.09)] * 4
    change = compare_decisions(before, after, decision(temperature=0.05))
    by_hand = 1 / (1 + math.exp(-0.11 / 0.05)) - 1 / (1 + math.exp(-0.02 / 0.05))
    assert change.max_p_change == pytest.approx(by_hand, abs=1e-12) and by_hand > 0.25
    assert compare_decisions(before, after, decision()).max_p_change < 0.03


@pytest.mark.parametrize(
    ("margin", "num", "expected"),
    [
        (-40.0, 1, -40.0),
        (-37.0, 1, -37.0),
        (-18.5, 1, -18.5),
        (-800.0, 1, -800.0),
        (-60.0, 10_000, -60.0 + math.log(10_000)),
        (5.0, 10_000, 10_000 * math.log1p(math.exp(5.0))),
        (math.inf, 1, math.inf),
        (-math.inf, 1, -math.inf),
    ],
)
def test_noisy_or_of_sure_clips(margin: float, num: int, expected: float) -> None:
    """A clip at -40 stopped it with a math domain error, and one at -37 was -36.74."""
    assert aggregate(np.full(num, margin), Aggregation(name="noisy_or")) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("name", ["mean", "top_k", "noisy_or"])
def test_a_clip_without_a_number_is_not_outvoted(name: str) -> None:
    rule = Aggregation(name=name, k=2)  # type: ignore[arg-type]
    assert math.isnan(aggregate(np.array([math.nan, 5.0, 6.0]), rule))
    assert math.isnan(video_margin(video([math.nan, 5.0], [0, 1]), rule))
    change = compare_decisions([one_clip(1.0)], [one_clip(math.nan)], Decision(aggregation=rule))
    assert not change.is_finite


def test_margins_that_are_no_numbers_fit_nothing() -> None:
    margins = np.array([math.nan] + [1.0] * 23)
    with pytest.raises(ValueError, match="1 of 24 margins are not finite, the first at place 0"):
        fit_decision([one_clip(margin) for margin in margins], np.array([0] * 12 + [1] * 12))


def test_the_least_band_does_not_hold_every_video() -> None:
    """Margins far from 0 ask for a high temperature: every p_fake then lies within 0.05 of the threshold."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 50)
    margins = rng.normal(2.0, 0.2, 100) + labels
    found = fit_decision([one_clip(margin) for margin in margins], labels)
    verdicts = [judge(one_clip(margin), found).verdict for margin in margins]
    assert verdicts == ["fake" if label else "real" for label in labels]
    assert "100 of 100 would lie within 0.05 to either side" in found.operating_point.name


def test_the_name_counts_what_the_band_that_ships_holds() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], 40)
    margins = rng.normal(0, 2, 80) + np.where(labels == 1, 2.5, -2.5)
    found = fit_decision([one_clip(margin) for margin in margins], labels)
    verdicts = [judge(one_clip(margin), found).verdict for margin in margins]
    wrong = sum(v != "review" and (v == "fake") != (y == 1) for v, y in zip(verdicts, labels, strict=True))
    inside = verdicts.count("review")
    counts = f"{inside} of 80 inside, {wrong} of {80 - inside} verdicts wrong outside"
    assert inside > 0 and found.operating_point.name.endswith(counts)


def test_one_group_has_no_interval() -> None:
    labels = np.repeat([0, 1], 12)
    scores = [one_clip(3.0 if label else -3.0) for label in labels]
    found = fit_decision(scores, labels, groups=["one"] * 24)
    assert found.calibration.interval is None and found.operating_point.interval is None


@pytest.mark.parametrize("interval", [(math.nan, 1.0), (0.0, math.inf)])
def test_impossible_intervals_are_refused(interval: tuple[float, float]) -> None:
    with pytest.raises(ValidationError):
        Calibration(interval=interval)


def test_numbers_that_are_none_pass_nothing() -> None:
    change = compare_decisions([one_clip(1.0), one_clip(math.nan)], [one_clip(1.0), one_clip(1.0)], decision())
    assert not change.is_finite and math.isnan(change.max_p_change)
    two = video([math.nan, 5.0], [0, 1])
    assert math.isnan(video_margin(two, Aggregation()))
    with pytest.raises(ValueError, match="at least one"):
        compare_decisions([], [], decision())


@pytest.mark.parametrize("value", [math.inf, math.nan, 0.0, -1.0])
def test_impossible_temperatures_are_refused(value: float) -> None:
    with pytest.raises(ValidationError):
        Calibration(calibration_temperature=value)


@pytest.mark.parametrize("name", ["mean", "top_k", "noisy_or"])
def test_order_and_other_tracks_change_nothing(name: str) -> None:
    rule = Aggregation(name=name, k=2)  # type: ignore[arg-type]
    rng = np.random.default_rng(3)
    margins = rng.normal(0, 2, 9)
    whole = video_margin(video(list(margins)), rule)
    assert video_margin(video(list(margins[::-1])), rule) == pytest.approx(whole, abs=1e-12)
    # A second face that is less suspicious in every clip adds nothing; one that is more suspicious decides.
    both = video([*margins, *(margins - 9)], [0] * 9 + [1] * 9)
    assert video_margin(both, rule) == pytest.approx(whole, abs=1e-12)
    assert video_margin(video([*margins, *(margins + 9)], [0] * 9 + [1] * 9), rule) > whole
