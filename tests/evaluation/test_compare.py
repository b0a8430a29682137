"""Comparing two evaluations, and reading what another detector answered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from dfkit.cli import app
from dfkit.errors import DataError
from dfkit.evaluation.compare import compare
from dfkit.evaluation.evaluate import evaluate_scores_file, report_scores
from dfkit.evaluation.scores_file import (
    ClipColumns,
    DecisionFacts,
    ModelFacts,
    ScoredVideo,
    ScoresFile,
    ValidationFacts,
    read_scores,
)
from dfkit.measures.decision import Aggregation, Decision, OperatingPoint
from dfkit.measures.metrics import auc
from dfkit.measures.protocol import Protocol

PROTOCOL = Protocol(
    preset="clip2s",
    frames_per_clip=50,
    fps=25.0,
    clip_step_s=1.0,
    aggregation="mean of all clips",
    named_videos=40,
    usable_videos=40,
    compression="raw",
    data_hash="a" * 64,
    part="test",
    num_videos=40,
    num_groups=20,
)


def scores_file(seed: int, spread: float, *, threshold: float = 0.5, num: int = 40, **changes: Any) -> ScoresFile:
    """Made-up answers of two clips a video; the higher the spread, the worse."""
    rng = np.random.default_rng(seed)
    videos = []
    for n in range(num):
        margins = (2.0 if n % 2 else -2.0) + rng.normal(0, spread, 2)
        clips = ClipColumns(
            track=(0, 0),
            start_s=(0.0, 1.0),
            label=(n % 2, n % 2),
            logits=tuple((0.0, float(margin)) for margin in margins),  # type: ignore[arg-type]
        )
        videos.append(
            ScoredVideo(
                video=f"/v/{n}.mp4", sha256=f"{n:064x}", label=n % 2, group=f"g{n // 2}", method="m", clips=clips
            )
        )
    point = OperatingPoint(threshold=threshold, review_low=threshold, review_high=threshold, name="by hand")
    values = {
        "name": f"made-{seed}",
        "command": "dfkit evaluate",
        "date": "2026-01-01T00:00:00+00:00",
        "scores": "logits",
        "models": (ModelFacts(path=f"{seed}.pth", kind="teacher"),),
        "data": "data",
        "split": "test",
        "split_source": "made",
        "protocol": PROTOCOL,
        "decision": DecisionFacts.of(Decision(operating_point=point)),
        "decision_source": "by hand",
        "validation": ValidationFacts(fitted_on="none", reason="none"),
        "videos": tuple(videos),
    }
    return ScoresFile(**{**values, **changes})


def run(first: ScoresFile, second: ScoresFile, **options: Any) -> Any:
    return compare(first, second, names=("one", "two"), **{"min_coverage": 0.5, **options})


def margins(scores: ScoresFile) -> np.ndarray:
    return np.array([np.mean([fake for _, fake in v.clips.logits]) for v in scores.videos if v.clips])


def test_swapping_turns_the_sign_and_itself_is_zero() -> None:
    good, bad = scores_file(1, 1.0), scores_file(2, 6.0, threshold=0.7)
    found, swapped = run(good, bad), run(bad, good)
    labels = np.arange(40) % 2
    expected = [auc(labels, margins(each)) for each in (good, bad)]
    assert [found.figures[0].first, found.figures[0].second] == pytest.approx(expected)
    assert found.figures[0].difference.value > 0 and found.verdict.startswith("A has the higher AUC")
    assert swapped.verdict.startswith("B has the higher AUC")
    assert [figure.name for figure in found.figures] == ["AUC", "balanced accuracy"]
    for one, other in zip(found.figures, swapped.figures, strict=True):
        assert one.difference.value == -other.difference.value
        # Quantiles of a list and of its negative: equal but for the rounding of interpolation.
        assert (one.difference.low, one.difference.high) == pytest.approx(
            (-other.difference.high, -other.difference.low), abs=1e-12
        )
    assert found.delong.z == -swapped.delong.z > 0 and found.delong.p_value < 0.05
    itself = run(good, good)
    zero = itself.figures[0].difference
    assert (zero.value, zero.low, zero.high) == (0.0, 0.0, 0.0) and itself.delong.p_value == 1.0
    assert "no difference in AUC shown" in itself.summary()[-2]


def test_videos_of_one_alone_are_rows_and_coverage_is_stated() -> None:
    whole = scores_file(1, 2.0)
    part = whole.model_copy(update={"videos": whole.videos[4:]})
    found = run(whole, part)
    assert (found.num_shared, len(found.videos), found.coverage) == (36, 40, 0.9)
    rows = {row["video"]: (row["a"] is None, row["b"] is None) for row in found.to_json()["videos"]}
    assert [rows[f"/v/{n}.mp4"] for n in (0, 3, 4)] == [(False, True), (False, True), (False, False)]
    assert "36 of 40 videos answered by both (90%), 18 groups; by A alone 4, by B alone 0" in found.summary()
    assert "by A alone 0, by B alone 4" in "\n".join(run(part, whole).summary())
    with pytest.raises(DataError, match=r"both answer 36 of 40 videos \(90%\)(.|\n)*--min-coverage 0.9 goes on"):
        run(whole, part, min_coverage=0.95)
    apart = whole.model_copy(update={"videos": whole.videos[:3]})
    with pytest.raises(DataError, match="both answer 0 of 39 videos") as error:
        run(part, apart, min_coverage=0.0)
    assert "goes on" not in str(error.value)


def test_the_same_videos_are_found_by_content_path_and_name() -> None:
    one = scores_file(1, 2.0, num=6)
    other = list(one.videos)
    other[0] = other[0].model_copy(update={"video": "C:\\elsewhere\\0.mp4"})
    other[1] = other[1].model_copy(update={"sha256": None})
    other[2] = other[2].model_copy(update={"sha256": None, "video": "C:\\elsewhere\\2.mp4"})
    # Two copies of one content: not told apart by it, but by their paths.
    other[4] = other[4].model_copy(update={"sha256": other[3].sha256})
    found = run(one, one.model_copy(update={"videos": tuple(reversed(other))}))
    assert found.num_shared == 6 and all(row["a"] == row["b"] for row in found.videos)
    wrong = [one.videos[0].model_copy(update={"label": 1}), *one.videos[1:]]
    with pytest.raises(DataError, match=r"call 1 of the same videos by another label, the first is /v/0.mp4"):
        run(one, one.model_copy(update={"videos": tuple(wrong)}))


def test_unlike_protocols_are_refused_by_name() -> None:
    one = scores_file(1, 2.0)
    changed = PROTOCOL.model_copy(update={"compression": "equalised: h264", "part": "val"})
    with pytest.raises(DataError) as error:
        run(one, scores_file(2, 2.0, protocol=changed))
    text = str(error.value)
    assert "one and two were not measured alike" in text and "Fix: dfkit evaluate --data DATA" in text
    assert "compression: raw, and equalised: h264" in text and "part: test, and val" in text
    assert "--split PART" in text and "aggregation" not in text


def test_another_aggregation_is_refused_and_its_fix_works() -> None:
    rule = Aggregation(name="top_k", k=1)
    protocol = PROTOCOL.model_copy(update={"aggregation": rule.text})
    one = scores_file(1, 2.0)
    decision = DecisionFacts.of(Decision(aggregation=rule))
    other = one.model_copy(update={"protocol": protocol, "decision": decision})
    with pytest.raises(DataError, match=r"aggregation: mean(.|\n)*--aggregation mean"):
        run(one, other)
    found = run(one, other, aggregation=Aggregation())
    # The same clips, put together alike.
    assert found.figures[0].difference.value == 0.0 and len(found.figures) == 1
    assert any("another aggregation" in note for note in found.notes)


def test_from_a_scores_file_the_same_bytes(tmp_path: Path) -> None:
    first = report_scores(scores_file(3, 4.0), reports=tmp_path / "r")
    again = evaluate_scores_file(Path(first.output_dir), reports=tmp_path / "r")
    assert again.output_dir != first.output_dir
    names = sorted(path.name for path in Path(first.output_dir).iterdir())
    assert names == ["report.html", "report.json", "scores.json", "test_results.json"]
    for name in names:
        assert (Path(first.output_dir) / name).read_bytes() == (Path(again.output_dir) / name).read_bytes()


def test_what_is_no_scores_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    with pytest.raises(DataError, match=r"no scores\.json in it"):
        read_scores(tmp_path)
    for content, said in (("{", "not a scores file"), ("[]", "no .kind."), ('{"test": []}', "no .kind.")):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(DataError, match=said):
            read_scores(tmp_path)
    whole = json.loads(scores_file(1, 1.0, num=4).to_text())
    for change, said in (
        ({"schema_version": 99}, "schema version 99"),
        ({"videos": []}, "videos"),
        ({"split": "../../x"}, "split"),
        ({"scores": "p_fake"}, "do not hold p_fake"),
        ({"first_margins": [], "alternatives": [{"name": "x", "margins": [1.0]}]}, "one margin for each"),
        ({"videos": [{**whole["videos"][0], "clips": {**whole["videos"][0]["clips"], "track": [0]}}]}, "as many"),
    ):
        path.write_text(json.dumps({**whole, **change}), encoding="utf-8")
        with pytest.raises(DataError, match=said):
            read_scores(path)
    path.write_text(json.dumps(whole).replace("[0.0, ", "[NaN, ", 1), encoding="utf-8")
    with pytest.raises(DataError, match="finite"):
        read_scores(path)


def test_names_that_are_not_unicode_come_back() -> None:
    name = "/v/\udcb0.mp4"
    video = scores_file(1, 1.0, num=2).videos[0].model_copy(update={"video": "/v/\\udcb0.mp4"})
    assert ScoredVideo(video=name, label=0, group="g").video == video.video and video.path == name
    read = ScoresFile.model_validate_json(scores_file(1, 1.0, num=2, split_source=f"as recorded in {name}").to_text())
    assert read.split_source == "as recorded in /v/\\udcb0.mp4"


BLOCKED = """
import importlib.abc, sys
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, *_):
        if name.split(".")[0] in ("torch", "lightning", "sklearn", "litdata"):
            raise ImportError(f"{name} was imported")
sys.meta_path.insert(0, Refuse())
from dfkit.cli import app
app(sys.argv[1:])
"""


def test_the_command_line_without_torch(tmp_path: Path) -> None:
    for seed, spread in ((1, 1.0), (2, 6.0)):
        report_scores(scores_file(seed, spread), reports=tmp_path, output=tmp_path / str(seed))
    table = tmp_path / "other.csv"
    table.write_text("video,p_fake\n" + "".join(f"{n}.mp4,{0.9 if n % 2 else 0.1}\n" for n in range(40)))
    one, two = str(tmp_path / "1"), str(tmp_path / "2" / "scores.json")
    again, other = str(tmp_path / "again"), str(tmp_path / "other")
    for arguments in (
        ["compare", one, two],
        ["evaluate", "--from", one, "--output", again],
        ["evaluate", "--scores", str(table), "--like", one, "--output", other],
        ["compare", one, other],
    ):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", BLOCKED, *arguments],
            check=False,
            capture_output=True,
            text=True,
            env=environment,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "again" / "report.html").read_bytes() == (tmp_path / "1" / "report.html").read_bytes()
    assert "by A alone 0, by B alone 0" in done.stdout and "so not compared: frames, aggregation" in done.stdout


def test_exit_codes_and_json(tmp_path: Path) -> None:
    report_scores(scores_file(1, 1.0), reports=tmp_path, output=tmp_path / "a")
    unlike = PROTOCOL.model_copy(update={"data_hash": "b" * 64})
    report_scores(scores_file(2, 1.0, protocol=unlike), reports=tmp_path, output=tmp_path / "b")
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    runner = CliRunner()
    shown = runner.invoke(app, ["compare", a, a, "--json"])
    content = json.loads(shown.stdout)
    assert shown.exit_code == 0 and content["figures"][0]["difference"]["value"] == 0
    assert content["a"]["protocol"]["text"].startswith("protocol: ") and len(content["videos"]) == 40
    (tmp_path / "reports").mkdir()
    (tmp_path / "a").rename(tmp_path / "reports" / "a")
    assert runner.invoke(app, ["compare", "a", "a", "-w", str(tmp_path)]).exit_code == 0
    (tmp_path / "reports" / "a").rename(tmp_path / "a")
    refused = runner.invoke(app, ["compare", a, b])
    assert refused.exit_code == 2 and "data: aaaaaaaaaaaa, and bbbbbbbbbbbb" in refused.stderr
    for arguments in (
        ["compare", a, str(tmp_path / "gone")],
        ["evaluate", "--from", a, "--split", "all"],
        ["evaluate", "--from", a, "--checkpoint", "x.pth"],
        ["evaluate", "--scores", "x.csv", "--tta"],
        ["evaluate", "--scores", "x.csv", "--data", "d", "--like", a],
        ["evaluate", "--scores", "x.csv", "--split", "test"],
        ["evaluate", "--labels", "l.csv"],
    ):
        result = runner.invoke(app, [*arguments, *(["-w", str(tmp_path)] if arguments[0] == "evaluate" else [])])
        assert result.exit_code == 2 and "Fix: " in result.stderr, arguments


def test_what_a_file_says_is_escaped(tmp_path: Path) -> None:
    """A scores file may come from anybody."""
    bad = "<script>alert(1)</script>"
    videos = [
        video.model_copy(update={"group": bad, "method": bad, "uncertainty": {bad: 0.5}})
        for video in scores_file(1, 1.0, num=4).videos
    ]
    texts = dict.fromkeys(("name", "command", "data", "split_source", "decision_source"), bad)
    protocol = PROTOCOL.model_copy(update={"part": bad, "aggregation": bad, "unusable": {bad: 1}})
    validation = ValidationFacts(fitted_on=bad, reason=bad, thresholds={bad: 0.5}, temperature=1.0, platt=(1.0, 0.0))
    scores = scores_file(
        1, 1.0, videos=tuple(videos), warnings=(bad,), protocol=protocol, validation=validation, **texts
    )
    report = report_scores(scores, reports=tmp_path / "r")
    assert Path(report.output_dir).parent == tmp_path / "r"
    page = (Path(report.output_dir) / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page and page.count("&lt;script&gt;") > 8 and "&amp;lt;" not in page
