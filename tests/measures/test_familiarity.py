"""How far features lie from those of real training videos: by hand, and on made features with known directions."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dfkit.measures.evidence import Evidence, thin_evidence
from dfkit.measures.familiarity import (
    MIN_GROUPS,
    Familiarity,
    FeatureSpread,
    fit_familiarity,
    fit_spreads,
    limit_of,
    student_quantile,
    video_distance,
)

SIZE = 12


def made_videos(count: int, *, seed: int = 0) -> list[list[dict[str, np.ndarray]]]:
    """Two clips a video; features around 5 that differ by 1 along one direction, by 0.5 along another, by 0.01 else."""
    rng = np.random.default_rng(seed)
    videos = []
    for _ in range(count):
        features = {}
        for name in ("face_features", "lip_features"):
            center = 5 + 0.01 * rng.standard_normal(SIZE)
            center[:2] += rng.standard_normal(2) * (1, 0.5)
            features[name] = center
        clip = {name: center + 0.01 * rng.standard_normal((4, SIZE)) for name, center in features.items()}
        videos.append([clip, {name: values[::-1] for name, values in clip.items()}])
    return videos


def groups(count: int) -> list[str]:
    return [f"person {n}" for n in range(count)]


def test_distance_by_hand() -> None:
    spread = FeatureSpread(mean=(1.0, 1.0, 1.0), axes=((1000, 0, 0),), scales=(2.0, 0.5))
    # 4 along the axis are 2 of its units; 3 and 4 off it are 5, ten units: sqrt((2^2 + 10^2) / 2).
    pictures = np.array([[3.0, 4.0, 5.0], [7.0, 4.0, 5.0]])
    assert spread.distance(pictures) == pytest.approx(np.sqrt((2**2 + 10**2) / 2))
    assert spread.distance(np.ones((2, 3))) == 0
    assert np.isnan(spread.distance(np.full((2, 3), np.nan)))


def test_directions_are_found_and_what_lies_off_them_is_far() -> None:
    fitted = fit_familiarity(made_videos(40), groups(40), made_videos(5, seed=1))
    assert fitted.max_distance is not None
    spread = fitted.spreads["face_features"]
    assert np.abs(np.array(spread.axes)[:2, :2]) == pytest.approx(1000 * np.eye(2), abs=100)
    assert spread.scales[:2] == pytest.approx((1, 0.5), rel=0.3) and max(spread.scales[2:]) < 0.05
    others = [video_distance(fitted.spreads, video) for video in made_videos(200, seed=2)]
    assert np.mean(np.array(others) <= fitted.max_distance) >= 0.9
    # As far as real ones go along the first direction, but along one that they do not know; of lips alone, too.
    for name in fitted.spreads:
        (clip, _) = made_videos(1, seed=3)[0]
        moved = {**clip, name: clip[name] + np.eye(SIZE)[7]}
        found = fitted.distance(moved)
        assert found is not None and found > 2 * fitted.max_distance


def test_the_limit_by_hand() -> None:
    # Logarithms 0, 1, 2: mean 1, deviation 1 (of a sample); of eight persons exp(1 + 1.8946 sqrt(9 / 8)) = 20.27.
    assert limit_of([1.0, np.e, np.e**2], 8) == (20.3, 0)
    # 95 % of a log-normal distribution: exp(0.5 + 0.3 * 1.645) = 2.70.
    many = np.exp(np.random.default_rng(0).normal(0.5, 0.3, 20_000))
    limit, num_far = limit_of(many.tolist(), 20_000)
    assert limit == pytest.approx(2.70, abs=0.02) and num_far / 20_000 == pytest.approx(0.05, abs=0.005)
    # A single odd one does not set it.
    assert limit_of([*many[:40].tolist(), 50.0], 41)[0] < 10
    # Closer than the clips of the fit themselves is no distance.
    assert limit_of([0.01] * 30, 30) == (1.0, 0)


def test_the_quantile_is_that_of_tables() -> None:
    # Quantiles of 95 % for 5, 7, 19 and 120 degrees of freedom, as every table has them.
    found = [student_quantile(degrees) for degrees in (5, 7, 19, 120)]
    assert found == pytest.approx([2.015, 1.895, 1.729, 1.658], abs=1e-3)


def test_the_limit_comes_from_videos_that_had_no_part_in_the_fit() -> None:
    videos = made_videos(MIN_GROUPS)
    odd = [{name: values + np.eye(SIZE)[5] for name, values in clip.items()} for clip in videos[0]]
    calm, by_training = (fit_familiarity(part, groups(MIN_GROUPS), []) for part in (videos, [odd, *videos[1:]]))
    by_validation = fit_familiarity(videos, groups(MIN_GROUPS), [odd])
    assert calm.max_distance is not None and "8 real training videos of 8 groups" in calm.fitted_on
    rest = [video_distance(fit_spreads([v for v in videos if v is not video]), video) for video in videos]
    assert calm.max_distance == limit_of(rest, MIN_GROUPS)[0]
    with_odd, _ = limit_of([*rest, video_distance(calm.spreads, odd)], MIN_GROUPS)
    assert by_validation.max_distance == with_odd > calm.max_distance
    assert by_training.max_distance is not None and by_training.max_distance > calm.max_distance
    assert "9 held out (8 left out with their groups, 1 real validation videos)" in by_validation.fitted_on


def test_few_persons_judge_nothing() -> None:
    videos = made_videos(30)
    few = fit_familiarity(videos, [f"person {n % (MIN_GROUPS - 1)}" for n in range(30)], made_videos(3, seed=1))
    assert few == Familiarity(fitted_on="not fitted: 30 real training videos of 7 groups, at least 8 groups are needed")
    assert few.distance(videos[0][0]) is None
    assert thin_evidence(Evidence(distance=None, max_distance=None)) == ()


def test_videos_that_are_all_alike_and_features_that_are_always_zero() -> None:
    same = [[{"face_features": np.zeros((3, 4))}] for _ in range(MIN_GROUPS)]
    fitted = fit_familiarity(same, groups(MIN_GROUPS), [])
    assert fitted.max_distance == 1 and fitted.distance(same[0][0]) == 0
    assert fitted.distance({"face_features": np.ones((3, 4))}) > 1  # type: ignore[operator]


@pytest.mark.parametrize("distance", [3.01, float("nan"), float("inf")])
def test_far_and_unknown_distances_are_reasons(distance: float) -> None:
    (reason,) = thin_evidence(Evidence(distance=distance, max_distance=3.0))
    assert "unlike" in reason and "at most 3.00" in reason
    assert thin_evidence(Evidence(distance=3.0, max_distance=3.0)) == ()


def test_what_is_stored_is_small_and_reads_back() -> None:
    rng = np.random.default_rng(0)
    videos = [
        [{"face_features": rng.normal(3, 1, (5, 128)), "lip_features": rng.normal(0, 1e-3, (5, 64))}]
        for _ in range(MIN_GROUPS)
    ]
    fitted = fit_familiarity(videos, groups(MIN_GROUPS), [])
    text = fitted.model_dump_json()
    assert len(text) < 7500
    assert Familiarity.model_validate(json.loads(text)) == fitted
