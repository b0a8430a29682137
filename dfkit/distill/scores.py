"""What a run answered about each video, kept beside its metrics: for pooling folds, and in the original's shape."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dfkit.data.catalog import write_atomically
from dfkit.data.storage import PreparedData
from dfkit.distill.evaluate import ClipLogits, Decision, video_logits
from dfkit.original.results import results_name, write_original_results
from dfkit.runtime.results import p_fake_of

SCORES_FILE = "scores.json"


def video_scores(data: PreparedData, logits: ClipLogits, *, calibration_temperature: float) -> list[dict[str, Any]]:
    """One row per video: `video`, `group`, `label` and the calibrated `p_fake` of its mean logits."""
    if not len(logits.indices):
        return []
    videos, means = video_logits(data, logits)
    scores = p_fake_of(means, calibration_temperature=calibration_temperature)
    return [
        {
            "video": data.videos[v].path,
            "group": data.groups[v],
            "label": data.videos[v].label,
            "p_fake": float(score),
        }
        for v, score in zip(videos.tolist(), scores, strict=True)
    ]


def write_scores(run_dir: Path, data: PreparedData, parts: Mapping[str, ClipLogits], decision: Decision) -> None:
    """Writes `scores.json`, and `{split}_results.json` in the original's shape for every part with videos.

    Args:
        run_dir: Folder of the run.
        data: What the clips are from.
        parts: Logits by split.
        decision: The run's calibration and threshold, which the calls in the result files are made at.
    """
    temperature = decision.calibration.calibration_temperature
    scores = {name: video_scores(data, logits, calibration_temperature=temperature) for name, logits in parts.items()}
    write_atomically(run_dir / SCORES_FILE, json.dumps(scores, indent=2, allow_nan=False))
    for name, rows in scores.items():
        if rows:
            write_original_results(
                run_dir / results_name(name),
                [row["label"] for row in rows],
                [row["p_fake"] for row in rows],
                decision.operating_point.threshold,
            )
