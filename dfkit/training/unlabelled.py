"""Unlabelled videos: which there are, what a teacher answers to them, and the labels that it is sure of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dfkit.config import TrainConfig
from dfkit.data.datasets import ClipDataset
from dfkit.data.joined import AddedVideos, require_same_contract
from dfkit.data.label_words import LABEL_NAMES
from dfkit.data.storage import PreparedData
from dfkit.errors import DataError
from dfkit.measures.decision import Decision, judge
from dfkit.models.checkpoint import load_checkpoint
from dfkit.training.fit import compute_device
from dfkit.training.loaders import clip_loader
from dfkit.training.samplers import FixedOrder
from dfkit.training.scoring import clip_logits, scores_by_video
from dfkit.training.seen_groups import refuse_unlabelled_held_out
from dfkit.training.task import ClipNetwork


@dataclass(frozen=True)
class Answered:
    """An unlabelled video with a teacher's answer."""

    source: int
    """Number of its prepared data."""
    video: int
    """Index there."""
    sha256: str
    margin: float
    """Logit of fake less logit of real, before calibration."""
    p_fake: float
    """Calibrated."""
    true_label: int | None
    """As its data has it; None where that has none."""


@dataclass(frozen=True)
class Unlabelled:
    """All prepared data of unlabelled videos, and which of them are asked about."""

    sources: tuple[PreparedData, ...]
    videos: tuple[tuple[int, ...], ...]
    """By source, indices of its usable videos that are neither labelled already nor in an earlier source."""
    num_known: int
    """Videos that were left out since they are labelled already, or named twice."""

    @property
    def num_videos(self) -> int:
        """How many are asked about."""
        return sum(map(len, self.videos))

    @property
    def groups_known(self) -> bool:
        """Whether every person in them is named."""
        return all(source.groups_known for source in self.sources)

    def added(self, labels: Mapping[str, int]) -> list[AddedVideos]:
        """The videos that have a label.

        Args:
            labels: 0 or 1 by the file's SHA-256.
        """
        return [
            AddedVideos(
                source, {v: labels[source.videos[v].sha256] for v in videos if source.videos[v].sha256 in labels}
            )
            for source, videos in zip(self.sources, self.videos, strict=True)
        ]


def open_unlabelled(folders: Sequence[str], data: PreparedData, indices: Mapping[str, Sequence[int]]) -> Unlabelled:
    """Opens the unlabelled videos.

    Args:
        folders: Prepared data.
        data: What is trained and judged on.
        indices: Clip indices of its parts.
    Raises:
        ConfigError: They were prepared under another clip contract.
        DataError: They hold persons or videos of a part that is judged, or nothing that is not labelled already.
    """
    known = {data.videos[video].sha256 for video in {data.clips[index].video_index for index in indices["train"]}}
    sources, chosen, num_known = [], [], 0
    for folder in folders:
        source = PreparedData(folder)
        require_same_contract(source, data)
        refuse_unlabelled_held_out(source, data, indices)
        with_clips = sorted({clip.video_index for clip in source.clips})
        new = []
        for video in with_clips:
            sha256 = source.videos[video].sha256
            if sha256 not in known:
                known.add(sha256)
                new.append(video)
        num_known += len(with_clips) - len(new)
        sources.append(source)
        chosen.append(tuple(new))
    unlabelled = Unlabelled(tuple(sources), tuple(chosen), num_known)
    if not unlabelled.num_videos:
        raise DataError(
            f"{', '.join(folders)}: no usable video in it that is not labelled already",
            fix="prepare videos that have no label: dfkit prepare FOLDER --unlabelled, or leave --unlabelled out",
        )
    return unlabelled


def answer_videos(checkpoint: str | Path, unlabelled: Unlabelled, section: TrainConfig) -> list[Answered]:
    """A teacher's answers to all unlabelled videos, with the decision that its checkpoint holds."""
    teacher = load_checkpoint(checkpoint)
    decision = Decision.from_facts(teacher.facts) or Decision()
    model = ClipNetwork(teacher.network, teacher.clip_spec).to(compute_device(section))
    answers = []
    for number, (source, videos) in enumerate(zip(unlabelled.sources, unlabelled.videos, strict=True)):
        clips = ClipDataset(source, source.clip_indices(list(videos)), pictures=bool(teacher.network.spec.pictures))
        logits = clip_logits(model, clip_loader(clips, section, FixedOrder(len(clips))))
        for video, scores in scores_by_video(source, logits).items():
            verdict, row = judge(scores, decision), source.videos[video]
            answers.append(Answered(number, video, row.sha256, verdict.margin, verdict.p_fake, row.label))
    return answers


def choose_labels(answers: Sequence[Answered], confidence: float) -> tuple[dict[str, int], dict[str, int]]:
    """Pseudo-labels of the videos that a teacher is sure of, as many of each class, the surest first.

    Args:
        answers: To all videos.
        confidence: Least calibrated probability of the label, in (0.5, 1).
    Returns:
        Labels by SHA-256, and by class how many reach the confidence.
    """
    real = sorted((a for a in answers if 1 - a.p_fake >= confidence), key=lambda a: (a.margin, a.sha256))
    fake = sorted((a for a in answers if a.p_fake >= confidence), key=lambda a: (-a.margin, a.sha256))
    count = min(len(real), len(fake))
    labels = {each.sha256: label for label, sure in enumerate((real, fake)) for each in sure[:count]}
    return labels, {LABEL_NAMES[0]: len(real), LABEL_NAMES[1]: len(fake)}


def shuffled(labels: Mapping[str, int], seed: int) -> dict[str, int]:
    """The same videos with the same labels dealt out at random."""
    videos = sorted(labels)
    dealt = np.random.default_rng(seed).permutation([labels[video] for video in videos])
    return dict(zip(videos, dealt.tolist(), strict=True))


def count_right(labels: Mapping[str, int], unlabelled: Unlabelled) -> dict[str, int]:
    """Of how many labelled videos the true label is `known`, and how many labels are `right`."""
    truth = {row.sha256: row.label for source in unlabelled.sources for row in source.videos if row.label is not None}
    known = [video for video in labels if video in truth]
    return {"known": len(known), "right": sum(labels[video] == truth[video] for video in known)}
