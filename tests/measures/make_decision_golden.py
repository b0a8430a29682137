"""Writes tests/golden/decision/decision.json: inputs and answers of the decision rule, for any language to replay.

    python -m tests.measures.make_decision_golden

The answers are computed here in plain Python from the words of the rule, not by `dfkit.measures.decision`.
"""

from __future__ import annotations

import json
import math
import random
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

PATH = Path(__file__).parents[1] / "golden" / "decision" / "decision.json"
RULES = (
    {"name": "mean", "k": 1},
    {"name": "top_k", "k": 1},
    {"name": "top_k", "k": 3},
    {"name": "noisy_or", "k": 1},
)
POINTS = (
    {"threshold": 0.5, "review_low": 0.45, "review_high": 0.55, "temperature": 1.0},
    {"threshold": 0.9, "review_low": 0.8, "review_high": 0.95, "temperature": 2.5},
    {"threshold": 0.3, "review_low": 0.3, "review_high": 0.3, "temperature": 0.4},
)


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))


def track_margin(margins: list[float], rule: dict[str, Any]) -> float:
    if rule["name"] == "mean":
        return math.fsum(margins) / len(margins)
    if rule["name"] == "top_k":
        best = sorted(margins, reverse=True)[: rule["k"]]
        return math.fsum(best) / len(best)
    # 400 digits: a clip at -800 takes 350 of them away from one.
    with localcontext(prec=400):
        p_none = math.prod(1 / (1 + Decimal(margin).exp()) for margin in margins)
        return float(((1 - p_none) / p_none).ln())


def answer(clips: list[dict[str, Any]], rule: dict[str, Any], point: dict[str, float]) -> dict[str, Any]:
    tracks: dict[int, list[float]] = {}
    for clip in clips:
        tracks.setdefault(clip["track_id"], []).append(clip["logits"][1] - clip["logits"][0])
    scores = {track: track_margin(margins, rule) for track, margins in sorted(tracks.items())}
    suspect = max(scores, key=lambda track: scores[track])
    p_fake = sigmoid(scores[suspect] / point["temperature"])
    worst = max(clips, key=lambda clip: (clip["logits"][1] - clip["logits"][0], -clip["start_s"]))
    if point["review_low"] <= p_fake < point["review_high"]:
        verdict = "review"
    else:
        verdict = "fake" if p_fake >= point["threshold"] else "real"
    return {
        "verdict": verdict,
        "p_fake": p_fake,
        "track_id": suspect,
        "track_p_fake": {str(track): sigmoid(score / point["temperature"]) for track, score in scores.items()},
        "worst_clip_start_s": worst["start_s"],
        "worst_clip_p_fake": sigmoid((worst["logits"][1] - worst["logits"][0]) / point["temperature"]),
    }


def videos() -> dict[str, list[dict[str, Any]]]:
    generator = random.Random(5)

    def clip(track: int, start: float, margin: float) -> dict[str, Any]:
        offset = round(generator.uniform(-1, 1), 3)
        return {"track_id": track, "start_s": start, "logits": [offset, round(offset + margin, 3)]}

    return {
        "one clip": [clip(0, 0.0, 0.7)],
        "on the fence": [clip(0, 0.0, 0.0), clip(0, 1.0, 0.0)],
        "one fake clip of ten": [clip(0, float(n), 4.0 if n == 4 else -3.0) for n in range(10)],
        "two faces, one swapped": [clip(n % 2, float(n // 2), (3.0, -4.0)[n % 2]) for n in range(8)],
        "clips of two faces in any order": [
            clip(t, s, m) for t, s, m in ((7, 2.0, 1.0), (3, 0.0, 1.5), (7, 0.0, -2.0))
        ],
        "fewer clips than k": [clip(0, 0.0, 1.0), clip(0, 1.0, -0.5)],
        "equally suspicious clips": [clip(0, 3.0, 2.0), clip(1, 1.0, 2.0)],
        "noise": [clip(generator.randrange(3), float(n), round(generator.gauss(0, 2), 3)) for n in range(24)],
        "sure reals": [clip(0, float(n), margin) for n, margin in enumerate((-40.0, -37.0, -60.0))],
        "one clip beyond a double": [clip(0, 0.0, -800.0)],
    }


def main() -> None:
    cases = [
        {"name": name, "clips": clips, "aggregation": rule, "decision": point, "answer": answer(clips, rule, point)}
        for name, clips in videos().items()
        for rule in RULES
        for point in POINTS
    ]
    PATH.parent.mkdir(parents=True, exist_ok=True)
    PATH.write_text(json.dumps({"schema_version": 1, "cases": cases}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
