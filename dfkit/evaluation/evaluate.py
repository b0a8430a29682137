"""`dfkit evaluate`: scores prepared clips with checkpoints or a bundle and writes what that is worth."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader

from dfkit.benchmarks.gates import MIN_GROUPS
from dfkit.clip import ClipSpec
from dfkit.data.datasets import ClipDataset, collate_padded
from dfkit.data.storage import PreparedData
from dfkit.distill.evaluate import ClipLogits, Decision, decide, video_logits
from dfkit.distill.objective import Batch
from dfkit.errors import CheckpointError, ConfigError
from dfkit.evaluation.beside import against_baseline, read_beside
from dfkit.evaluation.calibration import reliability_bins
from dfkit.evaluation.ensembles import Gain, auc_gain, join_members
from dfkit.evaluation.levels import Level, Measured, make_levels, measure_level, video_curves
from dfkit.evaluation.localization import IOU_LIMITS, average_precision, find_intervals
from dfkit.evaluation.members import Member, open_bundle_member, open_checkpoint, require_one_contract, require_view
from dfkit.evaluation.page import render_page
from dfkit.evaluation.parts import Parts, SplitName, choose_parts
from dfkit.evaluation.points import Fitted, fit_and_apply
from dfkit.evaluation.report import EvaluationReport, Localization, ReviewResult
from dfkit.evaluation.scorers import Answers, DropoutScorer, Scorer, ViewsScorer, score_all
from dfkit.original.results import results_name, write_original_results
from dfkit.runtime.backends import BackendName
from dfkit.runtime.files import write_atomically
from dfkit.runtime.manifest import OperatingPoint
from dfkit.runtime.results import p_fake_of, verdict_of
from dfkit.workspace import REPORT_FILE

MakeView = Callable[[PreparedData, ClipSpec], Path]
PAGE_FILE = "report.html"
BATCH_CLIPS = 4
"""Clips decoded at once; of `uniform50` one, so that nothing is padded."""
DROPOUT, VIEWS = "Monte-Carlo dropout", "test-time augmentation"
MIN_REAL_FOR_1_PERCENT = 100


@dataclass(frozen=True)
class Question:
    """What is to be evaluated."""

    data_dir: Path
    checkpoints: tuple[Path, ...] = ()
    bundle: Path | None = None
    backend: BackendName | None = None
    split: SplitName = "test"
    mc_dropout: int = 0
    """Passes of Monte-Carlo dropout of the first checkpoint; 0: none."""
    tta: bool = False
    """Whether the first checkpoint is also shown changed copies."""


def evaluate(question: Question, *, reports: Path, output: Path | None = None, make_view: MakeView) -> EvaluationReport:
    """Evaluates models on prepared data and writes `report.json`, `report.html` and `{split}_results.json`.

    Args:
        question: Models, data and part.
        reports: Where a folder `<name>-evaluation` is made if `output` is left out.
        output: Folder of the report; a number is added where it holds something.
        make_view: Prepares the data's videos under another preset; asked for where a model needs `uniform50`.
    Raises:
        CheckpointError: A checkpoint cannot be used, or answers NaN.
        ConfigError: The call does not fit together.
        DataError: The data or the part cannot be used.
    """
    members = open_members(question)
    data = PreparedData(question.data_dir)
    beside = read_beside(question.data_dir)
    if members[0].clip_spec.preset == "uniform50" and data.spec.preset == "clip2s":
        data = PreparedData(make_view(data, members[0].clip_spec))
    for member in members:
        require_view(member, data)
    parts = choose_parts(data, question.split, members)
    answers, frame_labels, validation = _score(data, parts, members, question)
    temperatures = [member.temperature for member in members]
    decision, source = choose_decision(data, members, validation)
    judged = _voted([answers[str(n)].logits for n in range(len(members))], temperatures)
    levels = make_levels(data, judged, frame_labels)
    temperature = decision.calibration.calibration_temperature
    measured = {
        name: measure_level(level, threshold=decision.operating_point.threshold, temperature=temperature)
        for name, level in levels.items()
    }
    video = levels["video"]
    p_videos = p_fake_of(video.logits, calibration_temperature=temperature)
    fitted = fit_and_apply(video_level(data, validation), video, decision)
    report = EvaluationReport(
        name=f"{members[0].name if len(members) == 1 else 'ensemble'}-evaluation",
        command=" ".join(["dfkit", *sys.argv[1:]]),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        models=tuple(
            {"path": str(m.path), "kind": m.kind, "modalities": list(m.modalities), "preset": m.clip_spec.preset}
            for m in members
        ),
        data_path=data.path,
        split=parts.split,
        split_source=parts.source,
        decision=decision,
        decision_source=source,
        levels=levels,
        measured=measured,
        fitted=fitted,
        reliability=tuple(reliability_bins(video.labels, p_videos)),
        review=review_result(video.labels, p_videos, decision.operating_point),
        localization=localize(data, levels["frame"], decision),
        gains=tuple(_gains(data, answers, members, question)),
        beside=against_baseline(beside, measured["video"].metrics.auc),
        warnings=tuple([*parts.warnings, *_warnings(data, measured, fitted, video_level(data, validation))]),
        video_names=tuple(data.videos[v].path for v in video.videos),
        spread=_spread(data, answers, video.videos),
    )
    return write_report(report, output if output is not None else reports / report.name)


def open_members(question: Question) -> list[Member]:
    """The models of a call.

    Raises:
        ConfigError: Checkpoints and a bundle at once, neither, or options that a bundle has no room for.
    """
    if bool(question.checkpoints) == (question.bundle is not None):
        raise ConfigError(
            "evaluate takes either checkpoints or one bundle",
            fix="dfkit evaluate --checkpoint runs/NAME/best.pth, or dfkit evaluate --bundle exports/NAME",
        )
    if question.bundle is not None:
        if question.mc_dropout or question.tta:
            raise ConfigError(
                "--mc-dropout and --tta need a checkpoint: a bundle's graphs are fixed",
                fix="dfkit evaluate --checkpoint runs/NAME/best.pth --mc-dropout 20 --tta",
            )
        return [open_bundle_member(question.bundle, question.backend)]
    members = [open_checkpoint(path) for path in question.checkpoints]
    require_one_contract(members)
    return members


def _score(
    data: PreparedData, parts: Parts, members: Sequence[Member], question: Question
) -> tuple[dict[str, Answers], np.ndarray, ClipLogits]:
    """Answers for the judged clips by scorer, their frame labels, and the vote for the validation clips."""
    scorers: dict[str, Scorer] = {str(n): member.scorer for n, member in enumerate(members)}
    temperatures = [member.temperature for member in members]
    extra: dict[str, Scorer] = {}
    if question.mc_dropout:
        assert members[0].model is not None
        extra[DROPOUT] = DropoutScorer(members[0].model, passes=question.mc_dropout)
    if question.tta:
        assert members[0].model is not None
        extra[VIEWS] = ViewsScorer(members[0].model, data.spec)
    frames = data.spec.num_frames
    answers, labels = score_all({**scorers, **extra}, make_batches(data, parts.judged), num_frames=frames)
    judged = set(parts.judged)
    rest = [i for i in parts.validation if i not in judged]
    others, _ = score_all(scorers, make_batches(data, rest), num_frames=frames)
    for name, member in zip(scorers, members, strict=True):
        for part in (answers[name], others[name]):
            refuse_nan(data, part.logits, str(member.path))
    wanted = set(parts.validation)
    validation = [_joined(_chosen(answers[name].logits, wanted), others[name].logits) for name in scorers]
    return answers, labels, _voted(validation, temperatures)


def make_batches(data: PreparedData, indices: Sequence[int]) -> DataLoader[Batch]:
    """Batches of prepared clips in the order given."""
    whole = data.spec.preset == "uniform50"
    return DataLoader(
        ClipDataset(data, indices), batch_size=1 if whole else BATCH_CLIPS, collate_fn=collate_padded if whole else None
    )


def _voted(members: Sequence[ClipLogits], temperatures: Sequence[float]) -> ClipLogits:
    return members[0] if len(members) == 1 else join_members(members, temperatures, weighted=False)


def _chosen(logits: ClipLogits, wanted: set[int]) -> ClipLogits:
    keep = np.array([int(i) in wanted for i in logits.indices], bool)
    return ClipLogits(logits.indices[keep], logits.clip[keep], logits.frame[keep])


def _joined(a: ClipLogits, b: ClipLogits) -> ClipLogits:
    return ClipLogits(*(np.concatenate([getattr(a, name), getattr(b, name)]) for name in ("indices", "clip", "frame")))


def refuse_nan(data: PreparedData, logits: ClipLogits, where: str) -> None:
    """Metrics of answers that are no numbers would be made up.

    Raises:
        CheckpointError: Names the first clip.
    """
    good = np.isfinite(logits.clip).all(axis=1) & np.isfinite(logits.frame).all(axis=(1, 2))
    if not good.all():
        clip = data.clips[int(logits.indices[np.argmin(good)])]
        raise CheckpointError(
            f"{where}: answers NaN or infinity for {int((~good).sum())} of {len(good)} clips, the first is "
            f"{data.videos[clip.video_index].path} at {clip.start_s:.2f} s",
            fix="look at that clip, and take an earlier checkpoint of the run",
        )


def choose_decision(data: PreparedData, members: Sequence[Member], validation: ClipLogits) -> tuple[Decision, str]:
    """The decision that a single model carries, else one made on the validation videos."""
    if len(members) == 1 and members[0].decision is not None:
        decision = members[0].decision
        return decision, f"carried by {members[0].path}: {decision.operating_point.name}"
    decision = decide(data, validation)
    return decision, decision.operating_point.name


def video_level(data: PreparedData, logits: ClipLogits) -> Level | None:
    """Validation videos as a level; None where there are none."""
    if not len(logits.indices):
        return None
    return make_levels(data, logits, np.zeros(logits.frame.shape[:2], np.uint8))["video"]


def review_result(labels: np.ndarray, p_fake: np.ndarray, point: OperatingPoint) -> ReviewResult:
    """How many videos the band takes, and how many verdicts outside of it are wrong."""
    verdicts = [verdict_of(float(p), point) for p in p_fake]
    wrong = sum(v != "review" and (v == "fake") != bool(label) for v, label in zip(verdicts, labels, strict=True))
    return ReviewResult(point.review_low, point.review_high, len(verdicts), verdicts.count("review"), wrong)


def localize(data: PreparedData, frames: Level, decision: Decision) -> Localization:
    """AP of intervals over the judged videos that state any, and the real ones.

    A fake without stated intervals is fake throughout: there is nothing to locate in it.
    """
    if data.spec.preset == "uniform50":
        return Localization({}, 0, 0, 0, "uniform50 frames lie on no time grid")
    temperature, point = decision.calibration.calibration_temperature, decision.operating_point
    shown = [
        int(v) for v in np.unique(frames.videos) if data.videos[int(v)].intervals or data.videos[int(v)].label == 0
    ]
    truth = {str(v): data.videos[v].intervals for v in shown if data.videos[v].intervals}
    if not truth:
        return Localization({}, 0, 0, 0, "no judged video has stated fake intervals")
    curves = video_curves(frames, p_fake_of(frames.logits, calibration_temperature=temperature), shown)
    found = [d for v in shown for d in find_intervals(str(v), *curves[v], threshold=point.threshold)]
    ap = {f"{limit:g}": average_precision(found, truth, min_iou=limit) for limit in IOU_LIMITS}
    return Localization(ap, len(shown), sum(map(len, truth.values())), len(found), None)


def _gains(
    data: PreparedData, answers: Mapping[str, Answers], members: Sequence[Member], question: Question
) -> list[Gain]:
    """Every way of answering against the first model alone."""
    single = answers["0"].logits
    ways: dict[str, ClipLogits] = {}
    if len(members) > 1:
        plain = [answers[str(n)].logits for n in range(len(members))]
        temperatures = [member.temperature for member in members]
        ways[f"soft voting of {len(members)}"] = join_members(plain, temperatures, weighted=False)
        ways[f"uncertainty-weighted voting of {len(members)}"] = join_members(plain, temperatures, weighted=True)
    if question.mc_dropout:
        ways[f"{DROPOUT}, {question.mc_dropout} passes"] = answers[DROPOUT].logits
    if question.tta:
        assert members[0].model is not None
        ways[f"{VIEWS} ({ViewsScorer(members[0].model, data.spec).said})"] = answers[VIEWS].logits
    videos, reference = video_logits(data, single)
    labels = np.array([data.videos[v].label for v in videos])
    groups = [str(data.groups[v]) for v in videos]
    one = p_fake_of(reference, calibration_temperature=1.0)
    return [
        auc_gain(name, labels, groups, p_fake_of(video_logits(data, own)[1], calibration_temperature=1.0), one)
        for name, own in ways.items()
    ]


def _spread(data: PreparedData, answers: Mapping[str, Answers], videos: np.ndarray) -> dict[str, np.ndarray]:
    """Uncertainty of each video: mean over its clips."""
    if DROPOUT not in answers:
        return {}
    found = answers[DROPOUT]
    owners = np.array([data.clips[i].video_index for i in found.logits.indices])
    return {
        name: np.array([values[owners == video].mean() for video in videos]) for name, values in found.spread.items()
    }


def _warnings(
    data: PreparedData, measured: Mapping[str, Measured], fitted: Fitted, validation: Level | None
) -> list[str]:
    video = measured["video"]
    warnings = []
    if video.metrics.answers_one_class:
        said = "fake" if sum(video.confusion[:1]) + video.confusion[2] == 0 else "real"
        warnings.append(f"the model answers one class only: all {video.metrics.num} videos are called {said}")
    if not data.groups_known:
        warnings.append("groups unknown: persons may leak")
    elif len(video.by_group) < MIN_GROUPS:
        warnings.append(f"groups are few ({len(video.by_group)}): a demonstration; {MIN_GROUPS} are needed to judge")
    if data.spec.preset == "uniform50":
        warnings.append("uniform50: frame spacing and sound length give a video's duration away")
    if fitted.reason:
        warnings.append(f"no operating point or scaling could be fitted: {fitted.reason}")
    real = 0 if validation is None else int((validation.labels == 0).sum())
    if fitted.points and real < MIN_REAL_FOR_1_PERCENT:
        warnings.append(f"FPR 1 % was chosen on {real} real validation videos: there it means no false alarm at all")
    return warnings


def write_report(report: EvaluationReport, folder: Path) -> EvaluationReport:
    """Writes the files of a report into a folder that holds nothing yet.

    Args:
        report: What was found.
        folder: Wanted name; a number is added where something lies there.
    Returns:
        The report with its folder.
    """
    target, number = folder, 1
    while target.exists() and (not target.is_dir() or any(target.iterdir())):
        number += 1
        target = folder.with_name(f"{folder.name}-{number}")
    report = replace(report, output_dir=str(target))
    level = report.levels["video"]
    target.mkdir(parents=True, exist_ok=True)
    write_original_results(
        target / results_name(report.split),
        level.labels.tolist(),
        report.p_videos.tolist(),
        threshold=report.decision.operating_point.threshold,
    )
    write_atomically(target / PAGE_FILE, render_page(report))
    write_atomically(target / REPORT_FILE, json.dumps(report.to_json(), indent=2, ensure_ascii=False, allow_nan=False))
    return report
