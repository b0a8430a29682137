"""Tables of another detector's answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from dfkit.cli import app
from dfkit.data.storage import PreparedData, videos_hash
from dfkit.errors import DataError
from dfkit.evaluation.evaluate import report_scores
from dfkit.evaluation.foreign import score_table, truth_of_data, truth_of_label_file
from dfkit.evaluation.report import EvaluationReport
from dfkit.evaluation.scores_file import ScoresFile, read_scores
from dfkit.measures.metrics import auc, balanced_accuracy
from tests.data.makers import make_prepared, make_row

LABELS = "path,label,group,method\n" + "".join(
    f"v/{n}.mp4,{'fake' if n % 2 else 'real'},g{n // 2},{'swap' if n % 2 else ''}\n" for n in range(8)
)
P_FAKE = [0.1, 0.9, 0.6, 0.55, 0.2, 0.3, 0.0, 1.0]


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.csv"
    path.write_text(LABELS, encoding="utf-8")
    return path


def table(tmp_path: Path, text: str, *, encoding: str = "utf-8") -> Path:
    path = tmp_path / "other.csv"
    path.write_bytes(text.encode(encoding))
    return path


def read(path: Path, labels: Path | None = None, **options: Any) -> ScoresFile:
    truth = None if labels is None else truth_of_label_file(labels)
    return score_table(path, truth, **{"score_column": None, "min_coverage": 0.5, **options})


def report(scores: ScoresFile, tmp_path: Path) -> EvaluationReport:
    return report_scores(scores, reports=tmp_path / "reports")


@pytest.mark.parametrize(
    ("head", "line", "encoding"),
    [
        ("path,p_fake", "v/{n}.mp4,{p}", "utf-8"),
        ("Video ; Score", "v\\{n}.mp4;{comma}", "utf-16"),
        ("sep=\t\nfile_name\tprediction", "{n}.mp4\t{p}", "utf-8-sig"),
        ("name|prob_fake|note", "/somewhere/else/{n}|{p}|x", "utf-8"),
    ],
    ids=["commas", "semicolons and decimal commas", "tabs and file names", "bars and stems"],
)
def test_tables_as_people_have_them(tmp_path: Path, labels: Path, head: str, line: str, encoding: str) -> None:
    lines = [line.format(n=n, p=p, comma=str(p).replace(".", ",")) for n, p in enumerate(P_FAKE)]
    scores = read(table(tmp_path, "\r\n".join([head, *lines]), encoding=encoding), labels)
    assert [video.score for video in scores.videos] == P_FAKE and scores.scores == "p_fake"
    found = report(scores, tmp_path)
    truth = np.arange(8) % 2
    video = found.level_metrics["video"].metrics
    assert video.auc == auc(truth, np.array(P_FAKE))
    assert video.balanced_accuracy == balanced_accuracy(truth, np.array(P_FAKE), threshold=0.5)
    assert list(found.levels) == ["video"] and set(found.level_metrics["video"].by_group) == {"g0", "g1", "g2", "g3"}
    by_name = any("by their file name alone" in warning for warning in scores.warnings)
    assert by_name == ("v" not in line.split("{", maxsplit=1)[0])


def test_missing_videos_are_rows_and_count_in_coverage(tmp_path: Path, labels: Path) -> None:
    rows = [f"v/{n}.mp4,{p}" for n, p in enumerate(P_FAKE)]
    rows[1] = "v/1.mp4,"  # named without an answer
    text = "\n".join(["path,p_fake", *rows[:6], "v/unknown.mp4,0.5"])
    found = report(read(table(tmp_path, text), labels), tmp_path)
    content = json.loads((Path(found.output_dir) / "report.json").read_text(encoding="utf-8"))
    answered = {row["video"]: row["answered"] for row in content["videos"]}
    assert answered == {f"v/{n}.mp4": n not in (1, 6, 7) for n in range(8)}
    assert content["levels"]["video"]["num"] == 5
    assert "5 of 8 videos usable (3 without an answer)" in content["protocol"]["text"]
    assert "3 of 8 videos have no answer, and count in no figure" in content["warnings"]
    assert "1 rows of other.csv name no judged video: v/unknown.mp4" in content["warnings"]
    page = (Path(found.output_dir) / "report.html").read_text(encoding="utf-8")
    assert page.count("<td>no answer</td>") == 3
    with pytest.raises(DataError, match=r"answers 5 of 8 videos \(62%\)(.|\n)*v/1.mp4(.|\n)*--min-coverage 0.62 goes"):
        read(table(tmp_path, text), labels, min_coverage=0.9)
    with pytest.raises(DataError, match="answers 0 of 8 videos") as error:
        read(table(tmp_path, "path,p_fake\nx.mp4,0.1"), labels, min_coverage=0.0)
    assert "goes on" not in str(error.value)


def test_all_faults_are_shown_at_once(tmp_path: Path, labels: Path) -> None:
    text = "path,p_fake\nv/0.mp4,nan\nv/1.mp4,0.5\nv\\1.mp4,0.6\nv/2.mp4,high\n,0.1\nv/3.mp4,inf\n"
    with pytest.raises(DataError) as error:
        read(table(tmp_path, text), labels)
    for fault in (
        "5 faults",
        "row 2: p_fake is nan",
        "rows 3 and 4: v/1.mp4 is answered twice",
        "row 5: p_fake 'high' is no number",
        "row 6: path is empty",
        "row 7: p_fake is inf",
    ):
        assert fault in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,a,b\nv/0.mp4,1,2", "no column of scores; it has path, a, b"),
        ("path,score,logit\nv/0.mp4,1,2", "several columns of scores: score, logit"),
        ("video_of,p_fake\nv/0.mp4,1", "no column names the videos"),
        ("path,p_fake\n", "no rows below the header"),
    ],
)
def test_columns_that_are_not_found(tmp_path: Path, labels: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read(table(tmp_path, text), labels)


def test_scores_that_are_no_probabilities_are_only_ranked(tmp_path: Path, labels: Path) -> None:
    logits = [-800.0, 900.0, 1.5, 1.0, -3.0, -2.0, -801.0, 1000.0]
    text = "path,logit\n" + "\n".join(f"v/{n}.mp4,{value}" for n, value in enumerate(logits))
    scores = read(table(tmp_path, text), labels)
    assert scores.scores == "uncalibrated" and scores.decision is None
    found = report(scores, tmp_path)
    content = found.to_json()
    # A logistic function would have made ties of the largest.
    assert content["levels"]["video"]["auc"] == auc(np.arange(8) % 2, np.array(logits))
    assert content["levels"]["video"]["balanced_accuracy"] is None and content["levels"]["video"]["eer"] is not None
    assert any("only its order is judged" in line and "-801 to 1000" in line for line in content["warnings"])
    assert {row["verdict"] for row in content["videos"]} == {None} and content["reliability"] == []
    assert not any(line.startswith("accuracy") for line in found.summary())
    # Named for what it is, even where all numbers lie between 0 and 1.
    inside = table(tmp_path, "path,logit\n" + "\n".join(f"v/{n}.mp4,{p}" for n, p in enumerate(P_FAKE)))
    assert read(inside, labels).scores == "uncalibrated"
    assert read(inside, labels, score_column="Logit").models[0].kind == "foreign, column logit"


def test_labels_in_the_table_itself(tmp_path: Path) -> None:
    rows = "\n".join(f"{n}.mp4,{n % 2},g{n // 2},{p}" for n, p in enumerate(P_FAKE))
    scores = read(table(tmp_path, f"video,label,group,p_fake\n{rows}"))
    assert [video.label for video in scores.videos] == [n % 2 for n in range(8)] and scores.protocol.groups_known
    assert len({video.group for video in scores.videos}) == 4
    with pytest.raises(DataError, match="no column of labels"):
        read(table(tmp_path, "path,p_fake\nv/0.mp4,0.1"))
    bare = read(table(tmp_path, "path,is_fake,p_fake\na.mp4,1,0.9\nb.mp4,0,0.1"))
    assert not bare.protocol.groups_known and [video.group for video in bare.videos] == ["a.mp4", "b.mp4"]


def test_labels_of_prepared_data_and_of_another_report(tmp_path: Path) -> None:
    parts = ["train", "train", "val", "val", "test", "test", "test", "test"]
    rows = [make_row(n, n % 2, (f"p{n}",), split=part) for n, part in enumerate(parts)]
    folder = make_prepared(tmp_path / "data", rows)
    path = table(tmp_path, "path,p_fake\n" + "\n".join(f"{n}.mp4,{p}" for n, p in enumerate(P_FAKE)))
    runner = CliRunner()
    arguments = ["evaluate", "--scores", str(path), "--data", str(folder)]
    done = runner.invoke(app, [*arguments, "--split", "test", "--output", str(tmp_path / "a")])
    assert done.exit_code == 0, done.output
    scores, data = read_scores(tmp_path / "a"), PreparedData(folder)
    assert [video.sha256 for video in scores.videos] == [row.sha256 for row in data.videos[4:]]
    assert scores.protocol.data_hash == videos_hash(data) and scores.protocol.part == scores.split == "test"
    assert scores.protocol.compression == "raw" and scores.protocol.frames_per_clip is None
    assert truth_of_data(data, "all").protocol.part == "all"
    like = runner.invoke(
        app, ["evaluate", "--scores", str(path), "--like", str(tmp_path / "a"), "--output", str(tmp_path / "b")]
    )
    assert like.exit_code == 0, like.output
    assert read_scores(tmp_path / "b").videos == scores.videos
    whole = runner.invoke(app, [*arguments, "--output", str(tmp_path / "c"), "--json"])
    assert json.loads(whole.stdout)["levels"]["video"]["num"] == 8
    few = runner.invoke(app, [*arguments, "--split", "test", "--min-coverage", "1", "--output", str(tmp_path / "d")])
    assert few.exit_code == 0
    table(tmp_path, "path,p_fake\n7.mp4,0.5")
    none = runner.invoke(app, [*arguments, "--output", str(tmp_path / "e")])
    assert none.exit_code == 2 and "answers 1 of 8 videos" in none.stderr and not (tmp_path / "e").exists()
