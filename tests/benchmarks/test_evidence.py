from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dfkit.benchmarks.bench import judge
from dfkit.benchmarks.evidence import (
    LogitsRow,
    compare_precisions,
    compare_with_teacher,
    join_videos,
    read_logits,
)
from dfkit.benchmarks.latency import percentiles
from dfkit.benchmarks.sizes import Sizes
from dfkit.errors import DataError
from dfkit.measures.decision import Calibration, Decision
from dfkit.runtime.bundle import Bundle
from dfkit.runtime.manifest import Manifest


def row(gap_fp32: float | None, gap_int8: float | None, **changes: Any) -> LogitsRow:
    pair = {"student_fp32": gap_fp32, "student_int8": gap_int8, "teacher": changes.pop("teacher", None)}
    logits = {name: None if gap is None else (0.0, gap) for name, gap in pair.items()}
    base: dict[str, Any] = {"video": "v", "group": "g", "label": 1, "split": "test"}
    return LogitsRow.model_validate(base | logits | changes)


@pytest.fixture
def manifest(tiny_bundle: Bundle) -> Manifest:
    """Threshold 0.5, calibration temperature 1.5."""
    return tiny_bundle.manifest


def at_threshold(manifest: Manifest, threshold: float) -> Manifest:
    point = manifest.operating_point.model_copy(update={"threshold": threshold})
    return manifest.model_copy(update={"operating_point": point})


def test_flips_and_margins_by_hand(manifest: Manifest) -> None:
    rows = [row(0.05, -0.02), row(-0.3, 0.01), row(1.0, 1.2), row(None, 1.0), row(2.0, None)]
    found = compare_precisions(rows, manifest)
    assert found is not None
    assert (found.num_clips, found.num_flips, found.num_flips_above_margin, found.max_flips) == (3, 2, 1, 1)
    p = 1 / (1 + np.exp(-np.array([[0.05, -0.02], [-0.3, 0.01], [1.0, 1.2]]) / 1.5))
    assert found.max_p_change == pytest.approx(np.abs(p[:, 0] - p[:, 1]).max())
    assert found.max_logit_change == pytest.approx(0.31)


def test_decisions_are_those_of_the_operating_point(manifest: Manifest) -> None:
    # At threshold 0.8 and temperature 1.5 the border lies at 1.5 ln 4 = 2.079.
    moved = at_threshold(manifest, 0.8)
    border = 1.5 * math.log(4)
    found = compare_precisions([row(border + 0.05, border - 0.05), row(0.05, -0.05)], moved)
    assert found is not None and (found.num_flips, found.num_flips_above_margin) == (1, 0)
    extreme = compare_precisions([row(0.05, -0.05)], at_threshold(manifest, 1.0))
    assert extreme is not None and extreme.num_flips == 0


def test_one_flip_in_a_hundred_is_let_pass(manifest: Manifest) -> None:
    for count, allowed in ((3, 1), (100, 1), (199, 1), (200, 2), (1000, 10)):
        found = compare_precisions([row(1, 1)] * count, manifest)
        assert found is not None and found.max_flips == allowed


def gates_of(manifest: Manifest, rows: list[LogitsRow], *, num_threads: int = 1) -> dict[str, tuple[str, float | None]]:
    results = judge(
        Sizes({"tflite": 1.0}, 0.01, {"f": 1.4}, {"tflite": 2.4}, 3.0),
        {"clip": percentiles([0.01, 0.02])},
        [],
        compare_precisions(rows, manifest),
        compare_with_teacher(rows, manifest),
        backend="tflite",
        num_threads=num_threads,
    )
    return {result.gate.metric: (result.verdict, result.value) for result in results}


def test_nan_logits_fail_every_parity_gate(manifest: Manifest) -> None:
    # JSON has NaN in Python's dialect, and a broken export would write it.
    rows = [row(1.0, 1.0), row(1.0, math.nan)]
    verdicts = [v for name, v in gates_of(manifest, rows).items() if "INT8" in name]
    assert len(verdicts) == 3 and all(verdict == "fail" for verdict, _ in verdicts)


def test_without_logits_nothing_is_judged_and_nothing_passes(manifest: Manifest) -> None:
    verdicts = gates_of(manifest, [])
    assert [v for v, _ in verdicts.values()] == ["pass", "pass", "pass"] + ["not judged"] * 6


def test_latency_on_more_threads_is_not_judged(manifest: Manifest) -> None:
    assert gates_of(manifest, [], num_threads=2)["p90 of one clip, encode and score"] == ("not judged", None)


def videos(count: int, *, groups: int, student_noise: float, seed: int = 0) -> list[LogitsRow]:
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        label = number % 2
        teacher = (2 * label - 1) * 2 + rng.normal(0, 1.2)
        student = teacher + rng.normal(0, student_noise)
        for start in range(2):
            rows.append(
                row(
                    student,
                    student,
                    video=f"v{number}",
                    group=f"g{number % groups}",
                    label=label,
                    teacher=teacher,
                    clip_start_s=float(start),
                )
            )
    return rows


def test_an_equal_student_passes_and_a_worse_one_fails(manifest: Manifest) -> None:
    same = gates_of(manifest, videos(300, groups=60, student_noise=0.02))
    worse = gates_of(manifest, videos(300, groups=60, student_noise=3.0))
    names = ("accuracy below the teacher, upper end", "AUC over the teacher's, lower end")
    assert [same[name][0] for name in names] == ["pass", "pass"]
    assert [worse[name][0] for name in names] == ["fail", "fail"]


@pytest.mark.parametrize(("count", "groups", "judged"), [(200, 30, True), (199, 30, False), (200, 29, False)])
def test_few_videos_or_groups_are_not_judged(manifest: Manifest, count: int, groups: int, judged: bool) -> None:
    found = compare_with_teacher(videos(count, groups=groups, student_noise=0.01), manifest)
    assert found is not None
    assert (found.not_judged is None) is judged
    assert np.isfinite(found.student.auc)  # shown all the same


def test_only_the_test_split_counts(manifest: Manifest) -> None:
    rows = videos(40, groups=10, student_noise=0.1)
    others = [r.model_copy(update={"split": "val", "video": f"{r.video}-val"}) for r in rows]
    both, alone = compare_with_teacher([*rows, *others], manifest), compare_with_teacher(rows, manifest)
    assert both is not None and alone is not None
    assert both.scores.videos == alone.scores.videos and both.teacher == alone.teacher
    assert compare_with_teacher(others, manifest) is None


def test_videos_without_both_answers_are_left_out_and_counted() -> None:
    rows = [
        row(1.0, 1.0, video="a", teacher=2.0),
        row(1.0, 3.0, video="a", teacher=None),
        row(1.0, 1.0, video="b", teacher=None),
        row(1.0, None, video="c", teacher=1.0),
    ]
    scores = join_videos(rows, Decision(Calibration(calibration_temperature=2.0)))
    assert (scores.videos, scores.num_left_out) == (("a",), 2)
    # Mean of logits over the clips: student (1 + 3) / 2 = 2 at temperature 2, teacher 2 at temperature 1.
    assert scores.student[0] == pytest.approx(1 / (1 + math.exp(-1)))
    assert scores.teacher[0] == pytest.approx(1 / (1 + math.exp(-2)))


def test_reading(tmp_path: Path) -> None:
    assert read_logits(tmp_path / "none.jsonl") == []
    path = tmp_path / "logits.jsonl"
    good = {"video": "가.mp4", "group": "g", "label": 0, "split": "test", "student_int8": [0, 1], "more": 1}
    path.write_text(json.dumps(good, ensure_ascii=False) + "\n\n", encoding="utf-8")
    (only,) = read_logits(path)
    assert (only.video, only.student_int8, only.teacher) == ("가.mp4", (0.0, 1.0), None)
    for bad in ("{", json.dumps(good | {"label": 2}), json.dumps(good | {"teacher": [1]}), "[]"):
        path.write_text(json.dumps(good) + "\n" + bad + "\n", encoding="utf-8")
        with pytest.raises(DataError, match="line 2"):
            read_logits(path)


def test_a_video_of_two_faces_is_its_most_suspicious_one() -> None:
    """A fake face beside a real one: the mean of all clips (-0.5) would call the video real."""
    rows = [row(0.0, gap, teacher=gap, track_id=track) for track, gap in ((0, -4.0), (0, -2.0), (1, 1.0), (1, 3.0))]
    scores = join_videos(rows, Decision())
    expected = 1 / (1 + np.exp(-2.0))
    assert scores.student.tolist() == pytest.approx([expected])
    assert scores.teacher.tolist() == pytest.approx([expected])
