from __future__ import annotations

import json

import numpy as np
import pytest

from dfkit.errors import BundleError
from dfkit.measures.decision import Aggregation, Calibration, OperatingPoint, judge, p_fake_of, verdict_of
from dfkit.runtime.bundle import Bundle
from dfkit.runtime.results import ClipScore, VideoResult, judge_clips, require_finite, result_without_score, scores_of


def clip(
    track: int, start: int, gap: float, *, frames: float | None = None, length: int = 50, temperature: float = 1.0
) -> ClipScore:
    """A clip whose logits are (0, gap), its frames' (0, frames)."""
    frame_logits = np.zeros((length, 2), np.float32)
    frame_logits[:, 1] = gap if frames is None else frames
    logits = np.array([0, gap], np.float32)
    return ClipScore(
        track,
        start,
        start / 25,
        start / 25 + 2,
        logits,
        frame_logits,
        float(p_fake_of(logits, calibration_temperature=temperature)),
    )


def test_p_fake_by_hand() -> None:
    # softmax of (0, ln 3) is (1/4, 3/4); at temperature 2 it is 1 / (1 + 3^-0.5).
    logits = np.array([0, np.log(3)])
    assert p_fake_of(logits, calibration_temperature=1.0) == pytest.approx(0.75, abs=1e-12)
    assert p_fake_of(logits, calibration_temperature=2.0) == pytest.approx(1 / (1 + 3**-0.5), abs=1e-12)
    with np.errstate(over="raise", invalid="raise"):
        extreme = p_fake_of(np.array([[1e4, -1e4], [-1e4, 1e4]]), calibration_temperature=0.1)
    assert extreme[0] == pytest.approx(0, abs=1e-300) and extreme[1] == 1


def test_frames_of_overlapping_clips_are_joined_in_logits(tiny_bundle: Bundle) -> None:
    manifest = tiny_bundle.manifest.model_copy(update={"calibration": Calibration()})
    (track,) = judge_clips("v", [clip(0, 25, 3, frames=4), clip(0, 0, 1, frames=2)], manifest).tracks
    # Track: mean of 1 and 3 is 2. Frames 0-24 see 2, 25-49 the mean of 2 and 4, 50-74 see 4.
    assert track.p_fake == pytest.approx(1 / (1 + np.exp(-2)))
    values = np.array([p for _, p in track.frames])
    assert len(values) == 75
    for part, logit in ((values[:25], 2), (values[25:50], 3), (values[50:], 4)):
        assert part == pytest.approx(1 / (1 + np.exp(-logit)))
    # Not the mean of probabilities, which differs.
    assert values[30] != pytest.approx((1 / (1 + np.exp(-2)) + 1 / (1 + np.exp(-4))) / 2, abs=1e-4)
    assert [t for t, _ in track.frames[:3]] == pytest.approx([0, 0.04, 0.08])
    assert [c[0] for c in track.clips] == [0.0, 1.0]


def test_a_video_is_as_suspicious_as_its_worst_track(tiny_bundle: Bundle) -> None:
    manifest = tiny_bundle.manifest
    result = judge_clips("v.mp4", [clip(3, 0, -4), clip(1, 0, 2), clip(1, 25, 2)], manifest)
    assert [track.track_id for track in result.tracks] == [1, 3]
    assert result.worst_track is result.tracks[0]
    # The fixture's calibration temperature is 1.5.
    assert result.p_fake == pytest.approx(1 / (1 + np.exp(-2 / 1.5)))
    assert result.verdict == "fake"


@pytest.mark.parametrize(
    ("p_fake", "verdict"), [(0.0, "real"), (0.39, "real"), (0.4, "review"), (0.5, "review"), (0.6, "fake"), (1, "fake")]
)
def test_verdicts_around_the_band(p_fake: float, verdict: str) -> None:
    point = OperatingPoint(threshold=0.5, review_low=0.4, review_high=0.6, name="test")
    assert verdict_of(p_fake, point) == verdict


def test_without_a_band_the_threshold_decides() -> None:
    point = OperatingPoint(threshold=0.5, review_low=0.5, review_high=0.5, name="test")
    assert [verdict_of(p, point) for p in (0.499, 0.5, 0.501)] == ["real", "fake", "fake"]


def test_json_has_exactly_the_fields_of_the_contract(tiny_bundle: Bundle) -> None:
    data = judge_clips("a b.mp4", [clip(0, 0, 1)], tiny_bundle.manifest).to_json()
    assert list(data) == [
        "video",
        "status",
        "verdict",
        "p_fake",
        "threshold",
        "modalities",
        "reason",
        "read",
        "notes",
        "evidence",
        "worst_clip",
        "tracks",
    ]
    assert list(data["worst_clip"]) == ["track_id", "start_s", "end_s", "p_fake"]
    assert list(data["tracks"][0]) == ["track_id", "found_by", "p_fake", "clips", "frames"]
    assert list(data["tracks"][0]["clips"][0]) == ["start_s", "end_s", "p_fake"]
    assert list(data["tracks"][0]["frames"][0]) == ["t_s", "p_fake"]
    assert (data["status"], data["reason"], data["modalities"]) == ("ok", None, ["audio", "face", "lip"])
    json.dumps(data, allow_nan=False)


def test_a_refused_video_has_no_score(tiny_bundle: Bundle) -> None:
    data = result_without_score("x.mp4", "no_face", "nobody there", tiny_bundle.manifest).to_json()
    assert (data["verdict"], data["p_fake"], data["worst_clip"], data["tracks"]) == (None, None, None, [])
    assert (data["status"], data["reason"], data["threshold"]) == ("no_face", "nobody there", 0.5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_answers_that_are_no_numbers_are_refused(bad: float) -> None:
    fine = np.zeros((50, 2), np.float32)
    spoilt = fine.copy()
    spoilt[7, 1] = bad
    require_finite(fine, fine[0], where="b", what="clip")
    with pytest.raises(BundleError, match="NaN"):
        require_finite(spoilt, fine[0], where="b", what="clip")
    with pytest.raises(BundleError, match="NaN"):
        require_finite(fine, spoilt[7], where="b", what="clip")


def partly_fake() -> list[ClipScore]:
    """Ten clips of one face and one of another; the face's fifth clip is fake, the rest clearly real."""
    return [clip(0, n * 25, 4.0 if n == 4 else -3.0, temperature=1.5) for n in range(10)] + [clip(1, 0, -2.0)]


def test_the_most_suspicious_clip_and_its_time_are_always_told(tiny_bundle: Bundle) -> None:
    """One fake clip of ten gave a video of p_fake 0.09, and nothing said where to look."""
    result = judge_clips("v.mp4", partly_fake(), tiny_bundle.manifest)
    # The mean of face 0 is (4 - 27) / 10 = -2.3, so face 1 with -2 decides; the clip is of face 0 all the same.
    assert result.p_fake == pytest.approx(1 / (1 + np.exp(2 / 1.5)))
    assert result.worst_track is not None and result.worst_track.track_id == 1
    p_fake = 1 / (1 + np.exp(-4 / 1.5))
    worst = result.to_json()["worst_clip"]
    assert worst == {"track_id": 0, "start_s": 4.0, "end_s": 6.0, "p_fake": pytest.approx(p_fake, abs=1e-6)}
    (line,) = result.summary()
    assert line == (
        "v.mp4: real, p_fake 0.209 (threshold 0.500, 11 clips, 2 tracks); most suspicious from 4.0 s: 0.935"
    )
    earliest = judge_clips("v.mp4", [clip(0, 50, 1), clip(0, 25, 1), clip(0, 0, -1)], tiny_bundle.manifest)
    assert earliest.worst_clip is not None and earliest.worst_clip.start_s == 1.0


def test_where_p_fake_rounds_to_one_the_margins_still_tell(tiny_bundle: Bundle) -> None:
    """The result compared rounded probabilities: it named the first clip of the first face."""
    sharp = Calibration(calibration_temperature=0.05)
    manifest = tiny_bundle.manifest.model_copy(update={"calibration": sharp})
    clips = [
        clip(track, 25 * n, gap, temperature=0.05) for n, (track, gap) in enumerate([(0, 2), (0, 5), (1, 3), (2, 9)])
    ]
    assert len({made.p_fake for made in clips}) == 1
    result = judge_clips("v.mp4", clips, manifest)
    verdict = judge(scores_of(clips), manifest.decision)
    assert result.worst_track is result.tracks[2] and verdict.track_id == 2
    assert result.worst_clip is not None
    assert (result.worst_clip.track_id, result.worst_clip.start_s) == (2, verdict.worst_clip_start_s) == (2, 3.0)


def test_the_bundles_aggregation_decides(tiny_bundle: Bundle) -> None:
    manifest = tiny_bundle.manifest.model_copy(update={"aggregation": Aggregation(name="top_k", k=1)})
    result = judge_clips("v.mp4", partly_fake(), manifest)
    assert result.verdict == "fake" and result.p_fake == pytest.approx(1 / (1 + np.exp(-4 / 1.5)))


def test_a_video_without_a_score_is_one_line_with_its_reason(tiny_bundle: Bundle) -> None:
    blank: VideoResult = result_without_score("v.mp4", "model_error", "NaN", tiny_bundle.manifest)
    assert blank.worst_clip is None and blank.summary() == ["v.mp4: model_error: NaN"]
