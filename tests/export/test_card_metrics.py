"""The model card's table of metrics and the protocols of its rows."""

from __future__ import annotations

from types import SimpleNamespace

from dfkit.export.card import metric_lines
from dfkit.measures.protocol import Protocol


def test_every_row_has_its_protocol() -> None:
    test, val = (Protocol(part=part, num_videos=5, num_groups=2).to_json() for part in ("test", "val"))
    video = {"auc": 0.9, "balanced_accuracy": 0.8, "eer": None}
    metrics = {
        "teacher": {"val": {"video": video, "protocol": val}, "test": {"video": video, "protocol": test}},
        "student": {"test": {"video": video, "protocol": test}},
        "student_muted": {"val": {"clips": 0, "videos": 0}, "test": {"video": video}},
    }
    lines = metric_lines(SimpleNamespace(metrics=metrics))  # type: ignore[arg-type]
    assert "| student | test | 0.900 | 0.800 | not defined |" in lines
    assert f"- teacher test; student test: {test['text']}" in lines and f"- teacher val: {val['text']}" in lines
    assert any(line.startswith("- student, muted test: protocol: not stated") for line in lines)
