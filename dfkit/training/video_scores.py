"""Scores of each video in a run's folder: for pooling folds, and in the original's format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dfkit.data.storage import PreparedData
from dfkit.files import write_atomically
from dfkit.measures.decision import Decision, p_fake_of
from dfkit.original.results import results_name, write_original_results
from dfkit.training.scoring import ClipLogits, video_logits

SCORES_FILE = "scores.json"


def video_scores(data: PreparedData, logits: ClipLogits, *, calibration_temperature: float) -> list[dict[str, Any]]:
    """Calibrated scores by video.

    Args:
        data: Prepared data that the clips are from.
        logits: Of some of its clips.
        calibration_temperature: Divides the logits; > 0.
    Returns:
        One row per video: `video`, `group`, `label`, and `p_fake` of its mean logits; empty without clips.
    """
    if not len(logits.indices):
        return []
    videos, means = video_logits(data, logits)
    scores = p_fake_of(means, calibration_temperature=calibration_temperature)
    return [
        {
            "video": data.videos[index].path,
            "group": data.groups[index],
            "label": data.videos[index].label,
            "p_fake": float(score),
        }
        for index, score in zip(videos.tolist(), scores, strict=True)
    ]


def write_scores(run_dir: Path, data: PreparedData, logits: Mapping[str, ClipLogits], decision: Decision) -> None:
    """Writes `scores.json`, and `{split}_results.json` in the original's format for every split with videos.

    Args:
        run_dir: Folder of the run.
        data: Prepared data that the clips are from.
        logits: By split.
        decision: The run's calibration, and the threshold of the predictions in the result files.
    """
    temperature = decision.calibration.calibration_temperature
    scores = {
        split: video_scores(data, split_logits, calibration_temperature=temperature)
        for split, split_logits in logits.items()
    }
    write_atomically(run_dir / SCORES_FILE, json.dumps(scores, indent=2, allow_nan=False))
    for split, rows in scores.items():
        if rows:
            write_original_results(
                run_dir / results_name(split),
                [row["label"] for row in rows],
                [row["p_fake"] for row in rows],
                decision.operating_point.threshold,
            )
