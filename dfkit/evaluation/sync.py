"""`dfkit evaluate --sync`: does a model hear that sound is not that of the face? Real videos, and the same ones with
another speaker's sound or with their own sound shifted, both made of prepared clips as they are judged."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from dfkit.audit.lip_sync import NUM_OTHERS, SHIFT_S
from dfkit.audit.video_features import MAX_CLIPS
from dfkit.data.datasets import ClipDataset
from dfkit.data.joined_sound import JoinedSound
from dfkit.data.storage import PreparedData
from dfkit.data.views import MakeView
from dfkit.errors import CheckpointError, ConfigError, DataError
from dfkit.evaluation.ensemble_members import EnsembleMember, require_prepared_for
from dfkit.evaluation.evaluation_split import choose_evaluation_split
from dfkit.evaluation.free_folder import free_folder
from dfkit.evaluation.scoring import EvaluationRequest, needs_view, open_members
from dfkit.files import write_atomically
from dfkit.measures.bootstrap import group_bootstrap
from dfkit.measures.decision import margins_of
from dfkit.measures.finite import finite_or_none
from dfkit.measures.metrics import auc
from dfkit.measures.spacing import evenly_spaced
from dfkit.training.objective import Batch
from dfkit.workspace import REPORT_FILE

SEED = 0
Kind = Literal["own", "other", "shifted"]
KINDS: dict[Kind, str] = {"other": "another speaker's sound", "shifted": f"own sound {SHIFT_S:g} s early or late"}


@dataclass(frozen=True)
class SyncRow:
    """One clip with one sound."""

    model: int
    """Number of the model that answered."""
    video: str
    group: str
    kind: Kind
    take: int
    """Which of the other speakers, or 0 for late and 1 for early."""
    margin: float
    """Fake logit less real logit."""


@dataclass(frozen=True)
class SyncScore:
    """AUC of a model's answers: the own sound against sound that is not the face's."""

    kind: Kind
    level: Literal["clip", "video"]
    auc: float
    low: float
    """Lower end of the 95 % interval over groups; NaN, like `high`, where there are too few."""
    high: float
    num_own: int
    """Clips, or videos, with their own sound."""
    num_wrong: int

    def line(self) -> str:
        """For the terminal."""
        value = f"AUC {self.auc:.3f} [{self.low:.3f}, {self.high:.3f}]"
        return f"{KINDS[self.kind]}, by {self.level}: {value} ({self.num_own} own, {self.num_wrong} wrong)"


@dataclass(frozen=True)
class SyncReport:
    """What the models hear."""

    models: tuple[str, ...]
    data: str
    command: str
    num_videos: int
    num_groups: int
    scores: tuple[SyncScore, ...]
    warnings: tuple[str, ...]
    rows: tuple[SyncRow, ...]
    output_dir: str = ""

    def summary(self) -> list[str]:
        """Lines for the terminal."""
        of = f"{len(self.models)} models, each on its own part" if len(self.models) > 1 else self.models[0]
        head = f"{of}: real videos with their own sound or with another ({self.num_videos} of {self.num_groups} groups)"
        lines = [head, *(score.line() for score in self.scores), *(f"warning: {each}" for each in self.warnings)]
        return [*lines, f"-> {Path(self.output_dir) / REPORT_FILE}"] if self.output_dir else lines

    def to_json(self) -> dict[str, Any]:
        """Every figure and every answer; NaN is None."""
        scores = [{name: finite_or_none(value) for name, value in vars(score).items()} for score in self.scores]
        return {**vars(self), "scores": scores, "rows": [vars(row) for row in self.rows]}


def evaluate_sync(
    request: EvaluationRequest, *, reports: Path, output: Path | None = None, make_view: MakeView
) -> SyncReport:
    """Judges models on the real videos of their split; writes `report.json`.

    Args:
        request: Checkpoints, each of which answers to its own part (folds are pooled), or a bundle; data and split.
        reports: Where a folder `<name>-sync` is made if `output` is left out.
        output: Folder of the report; a number is added where it holds something.
        make_view: Prepares the data's videos with pictures of another size where a model needs it.
    Raises:
        CheckpointError: A checkpoint cannot be used, or answers NaN or infinity.
        ConfigError: A model takes no sound, or sound alone.
        DataError: The data or the split cannot be used, or hold too few real videos.
    """
    rows: list[SyncRow] = []
    warnings: list[str] = []
    members = open_members(request)
    for number, member in enumerate(members):
        _require_two_streams(member)
        data = PreparedData(request.data_dir)
        if needs_view(member.clip_spec, data.spec):
            data = PreparedData(make_view(data, member.clip_spec))
        require_prepared_for(member, data)
        split = choose_evaluation_split(data, request.split, [member])
        warnings += split.warnings
        rows += score_sync(data, member, split.evaluated, number=number)
    report = sync_report(rows, [str(member.path) for member in members], str(request.data_dir), warnings)
    folder = free_folder(output if output is not None else reports / f"{members[0].name}-sync")
    report = replace(report, output_dir=str(folder))
    content = json.dumps(report.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / REPORT_FILE, content)
    return report


def _require_two_streams(member: EnsembleMember) -> None:
    if "audio" not in member.modalities or len(member.modalities) < 2 or member.clip_spec.preset != "clip2s":
        raise ConfigError(
            f"{member.path} takes {' and '.join(member.modalities)} of {member.clip_spec.preset}; sound against the "
            "face needs both, of clip2s",
            fix="evaluate it without --sync",
        )


def score_sync(data: PreparedData, member: EnsembleMember, indices: Sequence[int], *, number: int = 0) -> list[SyncRow]:
    """A model's answers to the real clips among some, with their own sound and with wrong sound.

    Args:
        data: Prepared for the model.
        member: The model.
        indices: Judged clips; of each video at most `MAX_CLIPS`, spread over it, and other sound is theirs, too.
        number: Of the model, for the rows.
    Raises:
        CheckpointError: An answer is NaN or infinite.
        DataError: The real videos are all of one group.
    """
    rows = []
    for take, batch in _takes(data, indices, pictures=set(member.modalities) & {"face", "lip"} != set()):
        margin = float(margins_of(member.scorer(batch).clip)[0])
        key = data.clips[int(batch["index"][0])]
        name = data.videos[key.video_index].name
        if not np.isfinite(margin):
            raise CheckpointError(
                f"{member.path}: answers NaN or infinity to {name} at {key.start_s:.2f} s",
                fix="look at that clip, and take an earlier checkpoint of the run",
            )
        rows.append(SyncRow(number, name, key.group, *take, margin))
    return rows


def _takes(data: PreparedData, indices: Sequence[int], *, pictures: bool) -> Iterator[tuple[tuple[Kind, int], Batch]]:
    """Clip after clip with each sound: kind and number of the sound, and a batch of one."""
    sound, clips = JoinedSound(data), ClipDataset(data, pictures=pictures)
    clips_of = _clips_of_reals(data, indices)
    group_of = {video: data.groups[video] for video in clips_of}
    if len(set(group_of.values())) < 2:
        raise DataError(
            f"{data.path}: the real videos of this part are of {len(set(group_of.values()))} group; another speaker's "
            "sound needs two",
            fix="--split all, or another part",
        )
    rng = np.random.default_rng(SEED)
    shift = round(SHIFT_S * data.spec.fps)
    for video, of_video in clips_of.items():
        strangers = rng.permutation([each for each in clips_of if group_of[each] != group_of[video]])[:NUM_OTHERS]
        for place, index in enumerate(of_video):
            sample = clips[index]
            waveforms: dict[tuple[Kind, int], Any] = {("own", 0): sample["waveform"].numpy()}
            for take, stranger in enumerate(strangers):
                theirs = clips_of[stranger]
                waveforms["other", take] = sound.of_other(index, theirs[place % len(theirs)])
            for take, pictures_late in enumerate((shift, -shift)):
                # Sound of an earlier moment comes late.
                waveforms["shifted", take] = sound.moved(index, -pictures_late)
            for key, waveform in waveforms.items():
                if waveform is not None:
                    yield key, _batch_of_one({**sample, "waveform": torch.from_numpy(waveform)})


def _batch_of_one(sample: dict[str, Any]) -> Batch:
    return {name: value[None] for name, value in sample.items() if isinstance(value, Tensor)}


def _clips_of_reals(data: PreparedData, indices: Sequence[int]) -> dict[int, list[int]]:
    """Clips that are judged, by real video."""
    found: dict[int, list[int]] = defaultdict(list)
    for index in indices:
        if data.videos[data.clips[index].video_index].label == 0:
            found[data.clips[index].video_index].append(index)
    return {video: [clips[place] for place in evenly_spaced(len(clips), MAX_CLIPS)] for video, clips in found.items()}


def sync_report(rows: Sequence[SyncRow], models: Sequence[str], data: str, warnings: Sequence[str] = ()) -> SyncReport:
    """Figures of some answers, by clip and by video, pooled over the models."""
    videos = {(row.model, row.video) for row in rows}
    groups = {row.group for row in rows}
    scores = [_score(_level(rows, level), kind, level) for kind in KINDS for level in ("clip", "video")]
    command = " ".join(["dfkit", *sys.argv[1:]])
    return SyncReport(
        tuple(models),
        data,
        command,
        len(videos),
        len(groups),
        tuple(scores),
        tuple(dict.fromkeys(warnings)),
        tuple(rows),
    )


def _level(rows: Sequence[SyncRow], level: str) -> list[SyncRow]:
    """The rows, or one per model, video and sound: the mean over its clips."""
    if level == "clip":
        return list(rows)
    clips: dict[tuple[Any, ...], list[SyncRow]] = defaultdict(list)
    for row in rows:
        clips[row.model, row.video, row.kind, row.take].append(row)
    return [replace(each[0], margin=float(np.mean([row.margin for row in each]))) for each in clips.values()]


def _score(rows: Sequence[SyncRow], kind: Kind, level: Any) -> SyncScore:
    used = [row for row in rows if row.kind in ("own", kind)]
    wrong = np.array([row.kind == kind for row in used], np.int64)
    margins = np.array([row.margin for row in used])
    interval = group_bootstrap([row.group for row in used], lambda places: auc(wrong[places], margins[places]))
    num_wrong = int(wrong.sum())
    return SyncScore(kind, level, interval.value, interval.low, interval.high, len(used) - num_wrong, num_wrong)
