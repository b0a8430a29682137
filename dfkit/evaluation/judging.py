"""From a scores file to the report: a pure function, without media, model or torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dfkit.data.protocols import RAW
from dfkit.evaluation.by_column import column_table, scored_column
from dfkit.evaluation.gains import AucGain, auc_gain
from dfkit.evaluation.generators import seen_generators
from dfkit.evaluation.levels import Level, LevelMetrics, make_levels, margin_level, measure_level, video_curves
from dfkit.evaluation.localization import IOU_LIMITS, Detection, average_precision, find_intervals
from dfkit.evaluation.operating_points import ValidationFit, apply_fit
from dfkit.evaluation.reliability import reliability_bins
from dfkit.evaluation.report import EvaluationReport, Localization, MutedResult, ReviewResult, VideoAnswer
from dfkit.evaluation.scores_file import ScoredVideo, ScoresFile
from dfkit.measures.decision import Decision, OperatingPoint, judge, p_fake_of_margin, verdict_of
from dfkit.measures.gates import MIN_GROUPS

MIN_REAL_FOR_1_PERCENT = 100
"""Real validation videos below which a false positive rate of 1 % means none at all."""
NO_THRESHOLD = Decision()
"""Stands in for the decision where scores are no probabilities: nothing that it says is used."""


def make_report(scores: ScoresFile) -> EvaluationReport:
    """Everything that `dfkit evaluate` reports.

    Args:
        scores: The answers and what they rest on; nothing else is looked at.
    """
    decision = None if scores.decision is None else scores.decision.decision
    rule = decision or NO_THRESHOLD
    levels = make_levels(scores, fps=scores.protocol.fps)
    level_metrics = {
        name: measure_level(level, threshold=rule.threshold, temperature=rule.temperature)
        for name, level in levels.items()
    }
    video = levels["video"]
    p_videos = video.p_fake(rule.temperature)
    fitted = apply_fit(scores.validation, video, decision)
    return EvaluationReport(
        scores=scores,
        decision=decision,
        levels=levels,
        level_metrics=level_metrics,
        fitted=fitted,
        reliability=() if decision is None else tuple(reliability_bins(video.labels, p_videos)),
        review=None if decision is None else review_result(video.labels, p_videos, decision.operating_point),
        localization=localize(scores.answered, levels.get("frame"), rule, fps=scores.protocol.fps),
        gains=tuple(_gains(scores)),
        warnings=(*scores.warnings, *_warnings(scores, level_metrics, fitted)),
        answers=tuple(_answer(each, decision) for each in scores.answered),
        muted=_muted_result(scores),
        generators=seen_generators(scores.answered, p_videos, scores.trained_families),
        columns=tuple(column_table(scored_column(scores.answered, name), p_videos.tolist()) for name in scores.columns),
    )


def _answer(video: ScoredVideo, decision: Decision | None) -> VideoAnswer:
    if video.clips is None:
        called = None if decision is None else verdict_of(float(video.score or 0), decision.operating_point)
        return VideoAnswer(called, None if decision is None else video.score)
    verdict = judge(video.clips.scores, decision or NO_THRESHOLD)
    return VideoAnswer(verdict.verdict, verdict.p_fake, verdict.worst_clip_start_s, verdict.worst_clip_p_fake)


def review_result(labels: np.ndarray, p_fake: np.ndarray, point: OperatingPoint) -> ReviewResult:
    """How many videos the review band takes, and how many verdicts outside of it are wrong.

    Args:
        labels: (V,) 0 or 1.
        p_fake: (V,) calibrated.
        point: Threshold and review band.
    """
    verdicts = [verdict_of(float(p), point) for p in p_fake]
    num_errors = 0
    for verdict, label in zip(verdicts, labels, strict=True):
        if verdict != "review" and (verdict == "fake") != bool(label):
            num_errors += 1
    return ReviewResult(point.review_low, point.review_high, len(verdicts), verdicts.count("review"), num_errors)


def localize(
    videos: Sequence[ScoredVideo], frames: Level | None, decision: Decision, *, fps: float | None
) -> Localization:
    """AP of fake intervals over the evaluated videos that state any, and over the real ones.

    A fake without stated intervals is fake throughout: there is nothing to locate in it.

    Args:
        videos: The evaluated ones, which state the intervals.
        frames: The frame level; None where answers are by video alone.
        decision: Calibration and threshold; runs of frames at or above the threshold are detections.
        fps: Of the frames; None where they lie on no time grid.
    """
    if frames is None:
        return Localization({}, 0, 0, 0, "there are no answers by frame")
    if fps is None:
        return Localization({}, 0, 0, 0, "uniform50 frames lie on no time grid")
    judgeable = [place for place, video in enumerate(videos) if video.intervals or video.label == 0]
    truth = {str(place): videos[place].intervals for place in judgeable if videos[place].intervals}
    if not truth:
        return Localization({}, 0, 0, 0, "no judged video has stated fake intervals")
    curves = video_curves(frames, frames.p_fake(decision.temperature), judgeable)
    detections: list[Detection] = []
    for place in judgeable:
        times_s, curve = curves[place]
        detections += find_intervals(str(place), times_s, curve, threshold=decision.threshold)
    num_intervals = sum(len(intervals) for intervals in truth.values())
    ap = {f"{limit:g}": average_precision(detections, truth, min_iou=limit) for limit in IOU_LIMITS}
    return Localization(ap, len(judgeable), num_intervals, len(detections), None)


def _gains(scores: ScoresFile) -> list[AucGain]:
    """AUC by video of other ways of scoring over the first model's."""
    videos = scores.answered
    labels, groups = np.array([video.label for video in videos]), [video.group for video in videos]
    reference = p_fake_of_margin(np.array(scores.first_margins), calibration_temperature=1.0)
    return [
        auc_gain(
            each.name, labels, groups, p_fake_of_margin(np.array(each.margins), calibration_temperature=1.0), reference
        )
        for each in scores.alternatives
    ]


def _muted_result(scores: ScoresFile) -> MutedResult | None:
    if scores.muted is None:
        return None
    decision = scores.muted.decision.decision
    level = margin_level(scores.answered, np.array(scores.muted.margins))
    metrics = measure_level(level, threshold=decision.threshold, temperature=decision.temperature)
    p_videos = level.p_fake(decision.temperature)
    return MutedResult(decision, metrics, review_result(level.labels, p_videos, decision.operating_point))


def _warnings(scores: ScoresFile, level_metrics: Mapping[str, LevelMetrics], fitted: ValidationFit) -> list[str]:
    video = level_metrics["video"]
    warnings = []
    if video.metrics.answers_one_class and video.confusion is not None:
        true_real, _, misses, _ = video.confusion
        only_class = "fake" if true_real + misses == 0 else "real"
        warnings.append(f"the model answers one class only: all {video.metrics.num} videos are called {only_class}")
    if scores.scores != "logits" and video.metrics.auc < 0.5:
        warnings.append("the AUC is below 0.5: scores have to rise with the evidence for fake")
    if scores.protocol.compression not in (None, RAW):
        warnings.append(f"videos are {scores.protocol.compression}")
    if not scores.protocol.groups_known:
        warnings.append("groups unknown: persons may leak")
    elif len(video.by_group) < MIN_GROUPS:
        warnings.append(f"groups are few ({len(video.by_group)}): a demonstration; {MIN_GROUPS} are needed to judge")
    if scores.protocol.preset == "uniform50":
        warnings.append("uniform50: frame spacing and sound length give a video's duration away")
    if fitted.reason and scores.scores == "logits":
        warnings.append(f"no operating point or scaling could be fitted: {fitted.reason}")
    num_real = scores.validation.num_real
    if fitted.points and num_real < MIN_REAL_FOR_1_PERCENT:
        warnings.append(
            f"FPR 1 % was chosen on {num_real} real validation videos: there it means no false alarm at all"
        )
    return warnings
