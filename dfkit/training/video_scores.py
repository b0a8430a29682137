"""Scores of each video in a run's folder: for pooling folds, and in the original's format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dfkit.data.label_words import SPLITS
from dfkit.data.storage import PreparedData
from dfkit.files import write_atomically
from dfkit.measures.decision import Decision, judge
from dfkit.original.results import results_name, write_original_results
from dfkit.training.scoring import ClipLogits, scores_by_video

SCORES_FILE = "scores.json"


def video_rows(data: PreparedData, logits: ClipLogits, decision: Decision) -> list[dict[str, Any]]:
    """One row per video: `video`, `group`, `label`, `p_fake`, and its most suspicious clip's start and `p_fake`."""
    rows = []
    for video, scores in scores_by_video(data, logits).items():
        verdict = judge(scores, decision)
        rows.append(
            {
                "video": data.videos[video].path,
                "group": data.groups[video],
                "label": data.videos[video].label,
                "p_fake": verdict.p_fake,
                "worst_clip_start_s": verdict.worst_clip_start_s,
                "worst_clip_p_fake": verdict.worst_clip_p_fake,
            }
        )
    return rows


def write_scores(run_dir: Path, data: PreparedData, logits: Mapping[str, ClipLogits], decision: Decision) -> None:
    """Writes `scores.json`, and `{split}_results.json` in the original's format for train, val and test with videos.

    Args:
        run_dir: Folder of the run.
        data: What the clips are from.
        logits: By split.
        decision: The run's, by which videos are scored and called in the result files.
    """
    scores = {name: video_rows(data, part, decision) for name, part in logits.items()}
    write_atomically(run_dir / SCORES_FILE, json.dumps(scores, indent=2, allow_nan=False))
    for split, rows in scores.items():
        if rows and split in SPLITS:
            write_original_results(
                run_dir / results_name(split),
                [row["label"] for row in rows],
                [row["p_fake"] for row in rows],
                decision.operating_point.threshold,
            )
