"""Models on prepared clips: everything that an evaluation rests on, as a scores file."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader

from dfkit.clip import ClipSpec
from dfkit.data.datasets import ClipDataset, collate_padded
from dfkit.data.protocols import protocol_of
from dfkit.data.storage import PreparedData
from dfkit.data.views import MakeView
from dfkit.errors import CheckpointError, ConfigError
from dfkit.evaluation.by_column import data_column
from dfkit.evaluation.data_findings import data_findings
from dfkit.evaluation.ensemble_members import (
    EnsembleMember,
    open_bundle_member,
    open_checkpoint_member,
    require_prepared_for,
    require_same_clip_spec,
)
from dfkit.evaluation.ensembles import combine_members
from dfkit.evaluation.evaluation_split import EvaluationSplit, SplitName, choose_evaluation_split
from dfkit.evaluation.generators import trained_families
from dfkit.evaluation.operating_points import fit_on_validation
from dfkit.evaluation.scored_videos import scored_videos
from dfkit.evaluation.scorers import ClipPredictions, McDropoutScorer, MutedScorer, Scorer, TtaScorer, score_all
from dfkit.evaluation.scores_file import Alternative, DecisionFacts, ModelFacts, MutedScores, ScoresFile
from dfkit.measures.decision import Aggregation, Decision, unfitted_point
from dfkit.runtime.backends import BackendName
from dfkit.training.objective import Batch
from dfkit.training.scoring import ClipLogits, decide, video_margins
from dfkit.weights.selection import WeightsChoice

BATCH_CLIPS = 4
"""Clips of a batch under `clip2s`; under `uniform50` a batch is one clip, so that nothing is padded."""
MC_DROPOUT, TEST_TIME_AUGMENTATION, MUTED = "Monte-Carlo dropout", "test-time augmentation", "muted"


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


def score(request: EvaluationRequest, *, make_view: MakeView) -> ScoresFile:
    """Runs models over the clips of prepared data.

    Args:
        request: Models, data and split.
        make_view: Prepares the data's videos under another clip contract; called where a model needs `uniform50`, or
            pictures of another size.
    Returns:
        All that the report is made of.
    Raises:
        CheckpointError: A checkpoint cannot be used, or its logits are NaN or infinite.
        ConfigError: The options contradict each other.
        DataError: The data or the split cannot be used.
    """
    members = open_members(request)
    named = PreparedData(request.data_dir)
    for column in request.columns:  # a name that is not there is refused before hours of scoring
        data_column(named, column, ())
    data = named
    if needs_view(members[0].clip_spec, data.spec):
        data = PreparedData(make_view(data, members[0].clip_spec))
    for member in members:
        require_prepared_for(member, data)
    split = choose_evaluation_split(data, request.split, members)
    predictions, frame_labels, validation_logits = _score(data, split, members, request)
    decision, decision_source = choose_decision(data, members, validation_logits, unfitted=split.unfitted)
    evaluated = _combine(members, _member_logits(predictions, members))
    uncertainty = predictions[MC_DROPOUT].uncertainty if MC_DROPOUT in predictions else {}
    videos = scored_videos(data, evaluated, frame_labels, uncertainty, named=named)
    judged, _ = video_margins(data, evaluated)
    alternatives = _alternatives(data, predictions, members, request, decision.aggregation)
    margins, labels = validation_videos(data, validation_logits, decision.aggregation)
    bar, audit_warnings = data_findings(named, [str(video.sha256) for video in videos])
    return ScoresFile(
        name=f"{members[0].name if len(members) == 1 else 'ensemble'}-evaluation",
        command=" ".join(["dfkit", *sys.argv[1:]]),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        scores="logits",
        models=tuple(_model_facts(member) for member in members),
        data=data.path,
        split=split.name,
        split_source=split.source,
        protocol=protocol_of(data, judged.tolist(), part=split.name, aggregation=decision.aggregation, named=named),
        decision=DecisionFacts.of(decision),
        decision_source=decision_source,
        validation=fit_on_validation(margins, labels, decision, unfitted=split.unfitted),
        trained_families=trained_families(data, members),
        columns=request.columns,
        warnings=split.warnings,
        baseline=bar,
        audit_warnings=audit_warnings,
        first_margins=_margins(data, predictions["0"].logits, decision.aggregation) if alternatives else (),
        alternatives=alternatives,
        muted=_muted_scores(data, predictions, members),
        videos=tuple(videos),
    )


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


def _model_facts(member: EnsembleMember) -> ModelFacts:
    return ModelFacts(
        path=str(member.path),
        kind=member.kind,
        modalities=member.modalities,
        preset=member.clip_spec.preset,
        weights=member.weights,
    )


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


def _muted_scores(
    data: PreparedData, predictions: Mapping[str, ClipPredictions], members: Sequence[EnsembleMember]
) -> MutedScores | None:
    decision = members[0].muted
    if MUTED not in predictions or decision is None:
        return None
    margins = _margins(data, predictions[MUTED].logits, decision.aggregation)
    return MutedScores(decision=DecisionFacts.of(decision), margins=margins)


def make_batches(data: PreparedData, indices: Sequence[int]) -> DataLoader[Batch]:
    """Batches of prepared clips, in the order of their indices."""
    clips = ClipDataset(data, indices)
    if data.spec.preset == "uniform50":
        return DataLoader(clips, batch_size=1, collate_fn=collate_padded)
    return DataLoader(clips, batch_size=BATCH_CLIPS)


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


def validation_videos(
    data: PreparedData, logits: ClipLogits, aggregation: Aggregation
) -> tuple[np.ndarray, np.ndarray]:
    """Margins and labels of the videos that some clips are from, (V,) each; V is 0 without clips."""
    videos, margins = video_margins(data, logits, aggregation)
    return margins, np.array([data.videos[video].label for video in videos], np.int64)


def _margins(data: PreparedData, logits: ClipLogits, aggregation: Aggregation) -> tuple[float, ...]:
    """Margin of each video that some clips are from, in rising order of the videos."""
    return tuple(video_margins(data, logits, aggregation)[1].tolist())


def _alternatives(
    data: PreparedData,
    predictions: Mapping[str, ClipPredictions],
    members: Sequence[EnsembleMember],
    request: EvaluationRequest,
    aggregation: Aggregation,
) -> tuple[Alternative, ...]:
    """The ensemble, Monte-Carlo dropout and test-time augmentation, whose gain over the first model is reported."""
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
    return tuple(
        Alternative(name=name, margins=_margins(data, logits, aggregation)) for name, logits in methods.items()
    )
