"""Metrics of an epoch: by the rule that ships, by frame too, each clip once however many processes scored it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from dfkit.config import LOGGED_METRICS
from dfkit.training.train import train_teacher
from dfkit.training.validation import ValidationRows, validation_metrics
from dfkit.workspace import Workspace
from tests.training.tiny import SPEC, tiny_config
from tools.speed.made_data import make_synthetic_data


def logits_of(margins: torch.Tensor) -> torch.Tensor:
    return torch.stack([torch.zeros_like(margins), margins], dim=-1)


def rows_of(
    margins: Sequence[float],
    videos: Sequence[int],
    video_labels: Sequence[int],
    *,
    tracks: Sequence[int] | None = None,
    frame_margins: torch.Tensor | None = None,
    frame_labels: torch.Tensor | None = None,
    frame_mask: torch.Tensor | None = None,
    mismatched: Sequence[bool] | None = None,
) -> ValidationRows:
    """Clips of two frames; where nothing else is said these answer and are labelled as their clip is."""
    clip, labels = torch.tensor(margins), torch.tensor(video_labels)
    frames = clip[:, None].expand(-1, 2) if frame_margins is None else frame_margins
    own = labels[:, None].expand(-1, 2) if frame_labels is None else frame_labels
    mask = torch.ones_like(own, dtype=torch.bool) if frame_mask is None else frame_mask
    return ValidationRows(
        index=torch.arange(len(clip)) + 10,
        mismatched=torch.zeros(len(clip), dtype=torch.bool) if mismatched is None else torch.tensor(mismatched),
        clip_logits=logits_of(clip),
        frame_logits=logits_of(frames),
        fake_share=(own * mask).sum(1) / mask.sum(1),
        frame_labels=own,
        frame_mask=mask,
        video_index=torch.tensor(videos),
        track_id=torch.zeros(len(clip), dtype=torch.long) if tracks is None else torch.tensor(tracks),
        video_label=labels,
    )


def test_metrics_are_by_video_and_count_clips_once() -> None:
    # Three videos; the first's two clips disagree, its mean margin is -1: called real, which it is.
    margins = [2.0, -4.0, 3.0, -0.5]
    rows = rows_of(margins, [5, 5, 6, 8], [0, 0, 1, 1])
    got = validation_metrics(rows)
    losses = [math.log1p(math.exp(sign * m)) for sign, m in zip((1, 1, -1, -1), margins, strict=True)]
    assert got["val_loss"] == pytest.approx(sum(losses) / 4)
    truth, scores = [0, 1, 1], [-1.0, 3.0, -0.5]
    assert got["val_auc"] == roc_auc_score(truth, scores) == 1.0
    assert got["val_accuracy"] == pytest.approx(2 / 3)
    assert got["val_balanced_accuracy"] == balanced_accuracy_score(truth, [s > 0 for s in scores]) == 0.75
    assert (got["val_precision"], got["val_recall"]) == (1.0, 0.5)
    every = {field.name: getattr(rows, field.name) for field in fields(rows)}
    twice = ValidationRows(**{name: torch.cat([value, value[:2]]) for name, value in every.items()})
    assert validation_metrics(twice) == got


def test_a_fake_with_a_second_untouched_face_is_found() -> None:
    """The epoch was chosen by the mean over all clips of a video: two-faced fakes had val_auc 0.0, and 1.0 as shipped.

    Fakes with faces of margin -4 and 3: mean over clips -0.5, most suspicious track 3; the real videos have 0.5 and
    0.4, between the two.
    """
    margins, videos, tracks = [0.5, 0.4, -4.0, 3.0, -4.0, 3.0], [0, 1, 2, 2, 3, 3], [0, 0, 0, 1, 0, 1]
    assert validation_metrics(rows_of(margins, videos, [0, 0, 1, 1, 1, 1], tracks=tracks))["val_auc"] == 1.0


def test_frame_metrics_by_hand_without_padded_frames() -> None:
    """Frames were in no metric: real frames of fake videos could all be wrong, and padding would have counted."""
    # Real frames answer -1 and 2 (one of two right), fake ones 3, 1 and -2; the last frame is padding.
    frame_margins = torch.tensor([[-1.0, 2.0], [3.0, 1.0], [-2.0, 50.0]])
    frame_labels = torch.tensor([[0, 0], [1, 1], [1, 0]])
    mask = torch.tensor([[True, True], [True, True], [True, False]])
    options = {"frame_margins": frame_margins, "frame_labels": frame_labels, "frame_mask": mask}
    got = validation_metrics(rows_of([0.5, 2.0, -2.0], [0, 1, 2], [0, 1, 1], **options))  # type: ignore[arg-type]
    # Right are -1 as real, 3 and 1 as fake: three of five.
    assert got["val_frame_accuracy"] == pytest.approx(3 / 5)
    assert got["val_real_frame_accuracy"] == pytest.approx(1 / 2)
    # Of the six pairs of a fake and a real frame 3 > -1, 3 > 2 and 1 > -1 are in order.
    assert got["val_frame_auc"] == pytest.approx(3 / 6)


def test_what_is_logged_is_what_can_be_monitored() -> None:
    got = validation_metrics(rows_of([0.0, 0.0], [0, 1], [0, 0], mismatched=[False, True]))
    assert {"train_loss", *got} == set(LOGGED_METRICS)
    assert math.isnan(got["val_auc"]) and math.isnan(got["val_frame_auc"])


def test_copies_with_other_sound_are_a_metric_of_their_own() -> None:
    # Clips 1.0 and 0.0 of two real videos, copies of them with other sound 3.0 and 0.5, and a fake of -9 with its copy.
    margins, videos, labels = [1.0, 0.0, 3.0, 0.5, -9.0, 9.0], [0, 1, 0, 1, 2, 2], [0, 0, 0, 0, 1, 1]
    copies = [False, False, True, True, False, True]
    rows = rows_of(margins, videos, labels, mismatched=copies)
    # A copy has its clip's index: only together with the flag they are one each.
    same = replace(rows, index=torch.tensor([0, 1, 0, 1, 2, 2]))
    got = validation_metrics(same)
    assert got["val_sync_auc"] == pytest.approx(3 / 4)
    assert got["val_auc"] == 0.0, "a video's answer comes of its clips with their own sound"
    assert "val_sync_auc" not in validation_metrics(rows_of(margins[:2], [0, 1], [0, 1]))


def test_accuracy_on_real_frames_can_choose_the_epoch(tmp_path: Path) -> None:
    """Only metrics of whole videos could be monitored, and those looked right while real frames did not."""
    data = make_synthetic_data(tmp_path / "x", num_videos=6, spec=SPEC)
    summary = train_teacher(data, Workspace(tmp_path), tiny_config(epochs=3, monitor="val_real_frame_accuracy"))
    lines = (Path(summary.run_dir) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    watched = [json.loads(line)["val_real_frame_accuracy"] for line in lines]
    assert len(watched) == 3 and all(0 <= value <= 1 for value in watched)
    assert summary.best_epoch == watched.index(max(watched))
