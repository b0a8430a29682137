"""`dfkit evaluate`: scores prepared clips with checkpoints or a bundle and writes metrics as JSON and as a page."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from dfkit.clip import ClipSpec
from dfkit.data.datasets import ClipDataset, collate_padded
from dfkit.data.storage import PreparedData
from dfkit.data.views import MakeView
from dfkit.errors import CheckpointError, ConfigError
from dfkit.evaluation.by_column import ColumnTable, column_table
from dfkit.evaluation.data_findings import data_findings
from dfkit.evaluation.ensemble_members import (
    EnsembleMember,
    open_bundle_member,
    open_checkpoint_member,
    require_prepared_for,
    require_same_clip_spec,
)
from dfkit.evaluation.ensembles import AucGain, auc_gain, combine_members
from dfkit.evaluation.evaluation_split import EvaluationSplit, SplitName, choose_evaluation_split
from dfkit.evaluation.free_folder import free_folder
from dfkit.evaluation.generators import seen_generators
from dfkit.evaluation.levels import Level, LevelMetrics, make_levels, measure_level, video_curves
from dfkit.evaluation.localization import IOU_LIMITS, Detection, average_precision, find_intervals
from dfkit.evaluation.operating_points import ValidationFit, fit_and_apply
from dfkit.evaluation.page import render_page
from dfkit.evaluation.reliability import reliability_bins
from dfkit.evaluation.report import EvaluationReport, Localization, MutedResult, ReviewResult
from dfkit.evaluation.scorers import ClipPredictions, McDropoutScorer, MutedScorer, Scorer, TtaScorer, score_all
from dfkit.files import write_atomically
from dfkit.measures.decision import (
    Aggregation,
    Decision,
    OperatingPoint,
    judge,
    p_fake_of,
    p_fake_of_margin,
    unfitted_point,
    verdict_of,
)
from dfkit.measures.gates import MIN_GROUPS
from dfkit.original.results import results_name, write_original_results
from dfkit.runtime.backends import BackendName
from dfkit.training.objective import Batch
from dfkit.training.scoring import ClipLogits, decide, scores_by_video, video_margins
from dfkit.weights.selection import WeightsChoice
from dfkit.workspace import REPORT_FILE

"""Prepares the videos of prepared data under another clip contract and returns the folder."""
PAGE_FILE = "report.html"
BATCH_CLIPS = 4
"""Clips of a batch under `clip2s`; under `uniform50` a batch is one clip, so that nothing is padded."""
MC_DROPOUT, TEST_TIME_AUGMENTATION, MUTED = "Monte-Carlo dropout", "test-time augmentation", "muted"
MIN_REAL_FOR_1_PERCENT = 100
"""Real validation videos below which a false positive rate of 1 % means none at all."""


@dataclass(frozen=True)
class EvaluationRequest:
    """Models, data and options of one evaluation."""

    data_dir: Path
    """Prepared data with labels."""
    checkpoints: tuple[Path, ...] = ()
    """One checkpoint, or several that vote as an ensemble; empty where a bundle is given."""
    bundle: Path | None = None
    """An exported bundle in place of checkpoints."""
    backend: BackendName | None = None
    """Backend of the bundle; its own default where left out."""
    weights: WeightsChoice | None = None
    """Plain or EMA weights of the checkpoints; the plain ones where left out."""
    split: SplitName = "test"
    """The split that is evaluated."""
    mc_dropout: int = 0
    """Passes of Monte-Carlo dropout of the first checkpoint; 0: none."""
    tta: bool = False
    """Whether test-time augmentation of the first checkpoint is measured."""
    columns: tuple[str, ...] = ()
    """Columns of the label file whose values the AUC is also listed by."""


def needs_view(wanted: ClipSpec, found: ClipSpec) -> bool:
    """Whether data has to be prepared once more for a model: another preset, or the same with another size of pictures.

    Args:
        wanted: The model's contract.
        found: The data's.
    """
    if found.preset != "clip2s" or wanted == found:
        return False
    return wanted.preset == "uniform50" or wanted == found.with_pictures_of(wanted)


def evaluate(
    request: EvaluationRequest, *, reports: Path, output: Path | None = None, make_view: MakeView
) -> EvaluationReport:
    """Evaluates models on prepared data and writes `report.json`, `report.html` and `{split}_results.json`.

    Args:
        request: Models, data and split.
        reports: Where a folder `<name>-evaluation` is made if `output` is left out.
        output: Folder of the report; a number is added where it holds something.
        make_view: Prepares the data's videos under another clip contract; called where a model needs `uniform50`, or
            pictures of another size.
    Returns:
        The report, with the folder that it was written to.
    Raises:
        CheckpointError: A checkpoint cannot be used, or its logits are NaN or infinite.
        ConfigError: The options contradict each other.
        DataError: The data or the split cannot be used.
    """
    members = open_members(request)
    data = PreparedData(request.data_dir)
    prepared = data
    if needs_view(members[0].clip_spec, data.spec):
        data = PreparedData(make_view(data, members[0].clip_spec))
    for member in members:
        require_prepared_for(member, data)
    split = choose_evaluation_split(data, request.split, members)
    predictions, frame_labels, validation_logits = _score(data, split, members, request)
    decision, decision_source = choose_decision(data, members, validation_logits, unfitted=split.unfitted)
    evaluated = _combine(members, _member_logits(predictions, members))
    levels = make_levels(data, evaluated, frame_labels, decision.aggregation)
    validation = video_level(data, validation_logits, decision.aggregation)
    temperature = decision.temperature
    level_metrics = {
        name: measure_level(level, threshold=decision.threshold, temperature=temperature)
        for name, level in levels.items()
    }
    video = levels["video"]
    p_videos = p_fake_of(video.logits, calibration_temperature=temperature)
    fitted = fit_and_apply(validation, video, decision, unfitted=split.unfitted)
    report = EvaluationReport(
        name=f"{members[0].name if len(members) == 1 else 'ensemble'}-evaluation",
        command=" ".join(["dfkit", *sys.argv[1:]]),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        models=tuple(_model_facts(member) for member in members),
        data_path=data.path,
        split=split.name,
        split_source=split.source,
        decision=decision,
        decision_source=decision_source,
        levels=levels,
        level_metrics=level_metrics,
        fitted=fitted,
        reliability=tuple(reliability_bins(video.labels, p_videos)),
        review=review_result(video.labels, p_videos, decision.operating_point),
        localization=localize(data, levels["frame"], decision),
        gains=tuple(_gains(data, predictions, members, request, decision.aggregation)),
        findings=data_findings(
            prepared, level_metrics["video"].metrics.auc, [data.videos[index].sha256 for index in video.videos]
        ),
        warnings=(*split.warnings, *_warnings(data, level_metrics, fitted, validation)),
        video_names=tuple(data.videos[index].path for index in video.videos),
        verdicts=tuple(judge(scores, decision) for scores in scores_by_video(data, evaluated).values()),
        uncertainty=_video_uncertainty(data, predictions, video.videos),
        muted=_muted_result(data, predictions, frame_labels, members),
        reads=tuple(data.videos[index].read_json() for index in video.videos),
        generators=seen_generators(data, video.videos.tolist(), p_videos, members),
        columns=tuple(_column_tables(prepared, data, video, p_videos, request.columns)),
    )
    return write_report(report, output if output is not None else reports / report.name)


def open_members(request: EvaluationRequest) -> list[EnsembleMember]:
    """Opens the checkpoints or the bundle of a request.

    Raises:
        BundleError: The bundle cannot be used.
        CheckpointError: A checkpoint cannot be used.
        ConfigError: Checkpoints and a bundle at once, neither, options that a bundle cannot have, or checkpoints of
            different clip contracts.
    """
    if bool(request.checkpoints) == (request.bundle is not None):
        raise ConfigError(
            "evaluate takes either checkpoints or one bundle",
            fix="dfkit evaluate --checkpoint runs/NAME/best.pth, or dfkit evaluate --bundle exports/NAME",
        )
    if request.bundle is not None:
        if request.mc_dropout or request.tta:
            raise ConfigError(
                "--mc-dropout and --tta need a checkpoint: a bundle's graphs are fixed",
                fix="dfkit evaluate --checkpoint runs/NAME/best.pth --mc-dropout 20 --tta",
            )
        return [open_bundle_member(request.bundle, request.backend)]
    members = [open_checkpoint_member(path, request.weights) for path in request.checkpoints]
    require_same_clip_spec(members)
    return members


def _model_facts(member: EnsembleMember) -> dict[str, Any]:
    return {
        "path": str(member.path),
        "kind": member.kind,
        "modalities": list(member.modalities),
        "preset": member.clip_spec.preset,
        "weights": member.weights,
    }


def _score(
    data: PreparedData, split: EvaluationSplit, members: Sequence[EnsembleMember], request: EvaluationRequest
) -> tuple[dict[str, ClipPredictions], np.ndarray, ClipLogits]:
    """Runs all scorers on the evaluated clips, and the members on the validation clips.

    Returns:
        Predictions for the evaluated clips by scorer (members are named by their number), frame labels of these
        clips, and the members' combined logits for the validation clips.
    """
    member_scorers: dict[str, Scorer] = {str(number): member.scorer for number, member in enumerate(members)}
    scorers = {**member_scorers, **_stochastic_scorers(data, members[0], request), **_muted_scorers(members)}
    num_frames = data.spec.num_frames
    predictions, frame_labels = score_all(scorers, make_batches(data, split.evaluated), num_frames=num_frames)
    on_validation, _ = score_all(member_scorers, make_batches(data, split.validation), num_frames=num_frames)
    for name, member in zip(member_scorers, members, strict=True):
        for logits in (predictions[name].logits, on_validation[name].logits):
            refuse_nan(data, logits, str(member.path))
    if MUTED in predictions:
        refuse_nan(data, predictions[MUTED].logits, f"{members[0].path}, without sound")
    return predictions, frame_labels, _combine(members, _member_logits(on_validation, members))


def _stochastic_scorers(data: PreparedData, member: EnsembleMember, request: EvaluationRequest) -> dict[str, Scorer]:
    """Monte-Carlo dropout and test-time augmentation of a checkpoint, as far as they are asked for."""
    scorers: dict[str, Scorer] = {}
    if request.mc_dropout:
        assert member.model is not None
        scorers[MC_DROPOUT] = McDropoutScorer(member.model, passes=request.mc_dropout)
    if request.tta:
        assert member.model is not None
        scorers[TEST_TIME_AUGMENTATION] = TtaScorer(member.model, data.spec)
    return scorers


def _muted_scorers(members: Sequence[EnsembleMember]) -> dict[str, Scorer]:
    """A single model that can judge muted videos, on clips without sound; an ensemble does not vote on them."""
    if len(members) > 1 or members[0].muted is None:
        return {}
    return {MUTED: MutedScorer(members[0].scorer, members[0].clip_spec)}


def _muted_result(
    data: PreparedData,
    predictions: Mapping[str, ClipPredictions],
    frame_labels: np.ndarray,
    members: Sequence[EnsembleMember],
) -> MutedResult | None:
    decision = members[0].muted
    if MUTED not in predictions or decision is None:
        return None
    level = make_levels(data, predictions[MUTED].logits, frame_labels, decision.aggregation)["video"]
    metrics = measure_level(level, threshold=decision.threshold, temperature=decision.temperature)
    p_videos = p_fake_of(level.logits, calibration_temperature=decision.temperature)
    return MutedResult(decision, metrics, review_result(level.labels, p_videos, decision.operating_point))


def make_batches(data: PreparedData, indices: Sequence[int]) -> DataLoader[Batch]:
    """Batches of prepared clips, in the order of their indices."""
    clips = ClipDataset(data, indices)
    if data.spec.preset == "uniform50":
        return DataLoader(clips, batch_size=1, collate_fn=collate_padded)
    return DataLoader(clips, batch_size=BATCH_CLIPS)


def _column_tables(
    prepared: PreparedData, data: PreparedData, video: Level, p_videos: np.ndarray, columns: Sequence[str]
) -> list[ColumnTable]:
    """AUC by the values of columns, as the data have them that were named: a view may be older than its columns."""
    index_of = {row.sha256: index for index, row in enumerate(prepared.videos)}
    videos = [index_of[data.videos[index].sha256] for index in video.videos]
    return [column_table(prepared, name, videos, p_videos.tolist()) for name in columns]


def _member_logits(predictions: Mapping[str, ClipPredictions], members: Sequence[EnsembleMember]) -> list[ClipLogits]:
    return [predictions[str(number)].logits for number in range(len(members))]


def _combine(members: Sequence[EnsembleMember], logits: Sequence[ClipLogits], *, weighted: bool = False) -> ClipLogits:
    """Logits of the ensemble; of a single member its own, not calibrated."""
    if len(members) == 1:
        return logits[0]
    return combine_members(logits, [member.temperature for member in members], weighted=weighted)


def refuse_nan(data: PreparedData, logits: ClipLogits, where: str) -> None:
    """Refuses logits of which a metric would be meaningless.

    Args:
        data: Prepared data that the clips are from.
        logits: Of N clips.
        where: Names the model in the message.
    Raises:
        CheckpointError: A logit is NaN or infinite; names the first such clip.
    """
    is_finite = np.isfinite(logits.clip).all(axis=1) & np.isfinite(logits.frame).all(axis=(1, 2))
    if is_finite.all():
        return
    clip = data.clips[int(logits.indices[np.argmin(is_finite)])]
    raise CheckpointError(
        f"{where}: answers NaN or infinity for {int((~is_finite).sum())} of {len(is_finite)} clips, the first is "
        f"{data.videos[clip.video_index].path} at {clip.start_s:.2f} s",
        fix="look at that clip, and take an earlier checkpoint of the run",
    )


def choose_decision(
    data: PreparedData, members: Sequence[EnsembleMember], validation: ClipLogits, *, unfitted: str | None = None
) -> tuple[Decision, str]:
    """The decision that a single model carries, else one fitted on the validation videos.

    Args:
        data: Prepared data that the validation clips are from.
        members: The models.
        validation: Combined logits of the validation clips; may be empty.
        unfitted: Why nothing is to be fitted, where that was decided already.
    Returns:
        The decision, and where it comes from, in words.
    """
    if len(members) == 1 and members[0].decision is not None:
        decision = members[0].decision
        return decision, f"carried by {members[0].path}: {decision.operating_point.name}"
    if unfitted is not None:
        decision = Decision(operating_point=unfitted_point(f"not fitted: {unfitted}"))
    else:
        decision = decide(data, validation)
    return decision, decision.operating_point.name


def video_level(data: PreparedData, logits: ClipLogits, aggregation: Aggregation) -> Level | None:
    """The video level of some clips' logits; None without clips."""
    if not len(logits.indices):
        return None
    return make_levels(data, logits, np.zeros(logits.frame.shape[:2], np.uint8), aggregation)["video"]


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


def localize(data: PreparedData, frames: Level, decision: Decision) -> Localization:
    """AP of fake intervals over the evaluated videos that state any, and over the real ones.

    A fake without stated intervals is fake throughout: there is nothing to locate in it.

    Args:
        data: Prepared data, which states the intervals.
        frames: The frame level.
        decision: Calibration and threshold; runs of frames at or above the threshold are detections.
    """
    if data.spec.preset == "uniform50":
        return Localization({}, 0, 0, 0, "uniform50 frames lie on no time grid")
    indices = [int(index) for index in np.unique(frames.videos)]
    judgeable = [index for index in indices if data.videos[index].intervals or data.videos[index].label == 0]
    truth = {str(index): data.videos[index].shown_intervals for index in judgeable if data.videos[index].intervals}
    if not truth:
        return Localization({}, 0, 0, 0, "no judged video has stated fake intervals")
    p_fake = p_fake_of(frames.logits, calibration_temperature=decision.calibration.calibration_temperature)
    curves = video_curves(frames, p_fake, judgeable)
    threshold = decision.operating_point.threshold
    detections: list[Detection] = []
    for index in judgeable:
        times_s, curve = curves[index]
        detections += find_intervals(str(index), times_s, curve, threshold=threshold)
    num_intervals = sum(len(intervals) for intervals in truth.values())
    ap = {f"{limit:g}": average_precision(detections, truth, min_iou=limit) for limit in IOU_LIMITS}
    return Localization(ap, len(judgeable), num_intervals, len(detections), None)


def _gains(
    data: PreparedData,
    predictions: Mapping[str, ClipPredictions],
    members: Sequence[EnsembleMember],
    request: EvaluationRequest,
    aggregation: Aggregation,
) -> list[AucGain]:
    """AUC by video of the ensemble, of Monte-Carlo dropout and of test-time augmentation over the first model's."""
    methods: dict[str, ClipLogits] = {}
    if len(members) > 1:
        logits = _member_logits(predictions, members)
        methods[f"soft voting of {len(members)}"] = _combine(members, logits)
        methods[f"uncertainty-weighted voting of {len(members)}"] = _combine(members, logits, weighted=True)
    if request.mc_dropout:
        methods[f"{MC_DROPOUT}, {request.mc_dropout} passes"] = predictions[MC_DROPOUT].logits
    if request.tta:
        assert members[0].model is not None
        views = TtaScorer(members[0].model, data.spec).description
        methods[f"{TEST_TIME_AUGMENTATION} ({views})"] = predictions[TEST_TIME_AUGMENTATION].logits
    videos, reference_margins = video_margins(data, predictions["0"].logits, aggregation)
    reference = p_fake_of_margin(reference_margins, calibration_temperature=1.0)
    labels = np.array([data.videos[index].label for index in videos])
    groups = [str(data.groups[index]) for index in videos]
    gains = []
    for name, clip_logits in methods.items():
        _, margins = video_margins(data, clip_logits, aggregation)
        p_fake = p_fake_of_margin(margins, calibration_temperature=1.0)
        gains.append(auc_gain(name, labels, groups, p_fake, reference))
    return gains


def _video_uncertainty(
    data: PreparedData, predictions: Mapping[str, ClipPredictions], videos: np.ndarray
) -> dict[str, np.ndarray]:
    """Uncertainty of each video by measure, (V,): the mean over its clips; empty without Monte-Carlo dropout."""
    if MC_DROPOUT not in predictions:
        return {}
    dropout = predictions[MC_DROPOUT]
    video_of_clip = np.array([data.clips[index].video_index for index in dropout.logits.indices])
    return {
        measure: np.array([values[video_of_clip == video].mean() for video in videos])
        for measure, values in dropout.uncertainty.items()
    }


def _warnings(
    data: PreparedData, level_metrics: Mapping[str, LevelMetrics], fitted: ValidationFit, validation: Level | None
) -> list[str]:
    video = level_metrics["video"]
    warnings = []
    if video.metrics.answers_one_class:
        true_real, _, misses, _ = video.confusion
        only_class = "fake" if true_real + misses == 0 else "real"
        warnings.append(f"the model answers one class only: all {video.metrics.num} videos are called {only_class}")
    if data.info.equalised is not None:
        warnings.append(f"videos are {data.info.form}")
    if not data.groups_known:
        warnings.append("groups unknown: persons may leak")
    elif len(video.by_group) < MIN_GROUPS:
        warnings.append(f"groups are few ({len(video.by_group)}): a demonstration; {MIN_GROUPS} are needed to judge")
    if data.spec.preset == "uniform50":
        warnings.append("uniform50: frame spacing and sound length give a video's duration away")
    if fitted.reason:
        warnings.append(f"no operating point or scaling could be fitted: {fitted.reason}")
    num_real = 0 if validation is None else int((validation.labels == 0).sum())
    if fitted.points and num_real < MIN_REAL_FOR_1_PERCENT:
        warnings.append(
            f"FPR 1 % was chosen on {num_real} real validation videos: there it means no false alarm at all"
        )
    return warnings


def write_report(report: EvaluationReport, folder: Path) -> EvaluationReport:
    """Writes the files of a report into a folder that holds nothing yet.

    Args:
        report: The finished evaluation.
        folder: Where to; a number is added to its name where it holds something.
    Returns:
        The report with the folder that it was written to.
    """
    target = free_folder(folder)
    report = replace(report, output_dir=str(target))
    level = report.levels["video"]
    write_original_results(
        target / results_name(report.split),
        level.labels.tolist(),
        report.p_videos.tolist(),
        threshold=report.decision.operating_point.threshold,
    )
    write_atomically(target / PAGE_FILE, render_page(report))
    write_atomically(target / REPORT_FILE, json.dumps(report.to_json(), indent=2, ensure_ascii=False, allow_nan=False))
    return report
