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
    metrics["data"] = {"splits": {"val": {"videos": 5}}}
    lines = metric_lines(SimpleNamespace(metrics=metrics))  # type: ignore[arg-type]
    assert "| student | test | 0.900 | 0.800 | not defined |" in lines
    assert f"- teacher test; student test: {test['text']}" in lines and f"- teacher val: {val['text']}" in lines
    assert any(line.startswith("- student, muted test: protocol: not stated") for line in lines)


def test_a_figure_of_the_first_of_two_trainings_is_said_to_be_that() -> None:
    val = {"videos": 24, "video": {"auc": 0.9, "balanced_accuracy": 0.8, "eer": 0.1}}
    metrics = {"student": {"val": val}, "data": {"splits": {"val": {"videos": 0}}}}
    lines = metric_lines(SimpleNamespace(metrics=metrics))  # type: ignore[arg-type]
    assert any("a first network that had not seen these 24 videos" in line for line in lines)
    metrics["data"] = {"splits": {"val": {"videos": 24}}}
    assert not any("first network" in line for line in metric_lines(SimpleNamespace(metrics=metrics)))  # type: ignore[arg-type]
