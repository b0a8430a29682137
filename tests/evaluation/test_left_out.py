"""Joining the folds of a run that left families out, from its stored scores alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dfkit import pipeline
from dfkit.audit.left_out import audit_left_out
from dfkit.config import Config
from dfkit.data.leave_out import folds_hash, held_out_scores, leave_out_folds, left_out_families
from dfkit.data.protocols import left_out_part, protocol_of
from dfkit.data.storage import PreparedData, videos_hash
from dfkit.errors import ConfigError, DataError
from dfkit.evaluation.left_out import evaluate_left_out
from dfkit.measures.left_out import measure_left_out
from dfkit.measures.protocol import NOT_STATED
from dfkit.training.left_out import LEFT_OUT_FILE, LeftOutRun
from dfkit.workspace import Workspace
from tests.cli.stand_ins import run as dfkit
from tests.data.makers import make_prepared, make_row
from tests.training.tiny import SPEC

VAL_SHARE = Config().split.val_share


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten real persons and six fakes each of two generators; half of all speak Korean."""
    rows = []
    for n in range(22):
        label, method = (0, None) if n < 10 else (1, "ab"[n % 2])
        facts = {"duration_s": 2.0 + label + 0.01 * n}
        columns = {"language": ["ko", "en"][n // 2 % 2]}
        rows.append(make_row(n, label, [f"p{n}"], method=method, facts=facts, columns=columns))
    return make_prepared(tmp_path_factory.mktemp("left_out") / "data", rows, spec=SPEC)


def make_run(workspace: Workspace, data: PreparedData) -> Path:
    """A finished run whose models find every seen fake and half of the unseen ones."""
    folds = leave_out_folds(data, val_share=VAL_SHARE)
    scores = []
    for number, fold in enumerate(folds, start=1):
        p_fake = {}
        for place, index in enumerate(fold.test):
            p_fake[index] = 0.5 if data.videos[index].label == 0 else [0.1, 0.9][place % 2]
        p_fake |= dict.fromkeys(fold.seen, 0.8)
        scores += held_out_scores(data, fold, number, p_fake)
    families = tuple(left_out_families(folds))
    folder = workspace.new_run_dir("mine", "leave-out")
    run = LeftOutRun(
        run_dir=str(folder),
        data_dir=data.path,
        by="method",
        families=families,
        scores=tuple(scores),
        folds_hash=folds_hash(data, folds),
        videos_hash=videos_hash(data),
        beside={},
        missing=(),
        result=measure_left_out(scores, families, repeats=20),
        protocol=protocol_of(
            data, range(len(data.videos)), part=left_out_part(len(folds), "method", 0), aggregation="mean of all clips"
        ),
    )
    (folder / LEFT_OUT_FILE).write_text(json.dumps(run.to_json()), encoding="utf-8")
    workspace.finish_run(folder)
    return folder


def test_page_and_json_have_seen_beside_unseen(data_dir: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    folder = make_run(workspace, PreparedData(data_dir))
    report = evaluate_left_out(folder, reports=workspace.reports)
    content = json.loads((tmp_path / "reports" / "mine-evaluation" / "report.json").read_text(encoding="utf-8"))
    network = content["left_out"]["network"]
    assert network["mean"]["value"] == pytest.approx(0.5) and network["seen"]["value"] == 1
    assert network["gap"]["value"] == pytest.approx(-0.5)
    assert [family["family"] for family in network["families"]] == ["a", "b"]
    page = (tmp_path / "reports" / "mine-evaluation" / "report.html").read_text(encoding="utf-8")
    for text in ("network, unseen", "network, seen", "mean over unseen families", "seen families", "Not measured yet"):
        assert text in page, text
    assert any("not measured yet under these folds: hand-made" in line for line in report.summary())
    assert {row["part"] for row in content["videos"]} == {"test", "seen"}
    line = content["protocol"]["text"]
    assert "22 videos in 22 groups; 2 folds by method, left out, seed 0; data" in line
    assert line in page and line in report.summary()


def test_a_run_of_an_older_dfkit_says_that_its_protocol_is_not_stated(data_dir: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    folder = make_run(workspace, PreparedData(data_dir))
    content = json.loads((folder / LEFT_OUT_FILE).read_text(encoding="utf-8"))
    del content["protocol"]
    (folder / LEFT_OUT_FILE).write_text(json.dumps(content), encoding="utf-8")
    report = evaluate_left_out(folder, reports=workspace.reports)
    assert NOT_STATED in report.summary() and report.to_json()["protocol"] is None


def test_file_facts_stand_beside_under_the_same_folds_alone(data_dir: Path, tmp_path: Path) -> None:
    data, workspace = PreparedData(data_dir), Workspace(tmp_path)
    folder = make_run(workspace, data)
    try:
        audit_left_out(data, "method", seed=9, repeats=20)
        assert not evaluate_left_out(folder, reports=workspace.reports).run.beside
        found = audit_left_out(data, "method", repeats=20)
        # Fakes last a second longer: a tree on the duration knows them, whatever made them.
        assert found.single["duration_s"].mean.value == 1 and found.single["duration_s"].seen.value == 1
        report = evaluate_left_out(folder, reports=workspace.reports)
        assert report.run.beside["file facts"].mean.value == found.total.mean.value
        assert "file facts, unseen" in (Path(report.output_dir) / "report.html").read_text(encoding="utf-8")
    finally:
        (data_dir / "audit.left-out-method.json").unlink()


def test_columns_give_the_same_table_by_their_values(data_dir: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    folder = make_run(workspace, PreparedData(data_dir))
    report = evaluate_left_out(folder, reports=workspace.reports, columns=["language", "method"])
    language, method = report.columns
    assert [each.value for each in language.values] == ["en", "ko"] and all(v.own_reals for v in language.values)
    assert [each.value for each in method.values] == ["a", "b"] and not any(v.own_reals for v in method.values)
    reals = [family.num_reals for family in report.run.result.families]
    assert [each.num_reals for each in method.values] == reals
    # By method it is the table of families.
    unseen = [family.unseen.value for family in report.run.result.families]
    assert [each.auc.value for each in method.values] == pytest.approx(unseen)
    assert "By language" in (Path(report.output_dir) / "report.html").read_text(encoding="utf-8")
    with pytest.raises(DataError, match="no prepared video has a column dialect; there are language"):
        evaluate_left_out(folder, reports=workspace.reports, columns=["dialect"])


def test_the_newest_run_is_joined_where_no_model_is_newer(data_dir: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    make_run(workspace, PreparedData(data_dir))
    done = dfkit("evaluate", "--workspace", tmp_path, "--json", "--by", "language")
    assert done.exit_code == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["by"] == "method" and content["columns"][0]["column"] == "language"
    with pytest.raises(ConfigError, match="names models of its own"):
        pipeline.evaluate(workspace, run=tmp_path, checkpoints=[tmp_path / "best.pth"])
    # A part, or passes of dropout, can only be asked of a model, and there is none.
    for asked in ({"split": "val"}, {"mc_dropout": 5}):
        with pytest.raises(DataError, match="no teacher"):
            pipeline.evaluate(workspace, **asked)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--from", "scores.json", "--run", "runs/a"), "--from goes without --run"),
        (("--scores", "other.csv", "--run", "runs/a"), "--scores goes without --run"),
        (("--run", "runs/a", "--checkpoint", "best.pth"), "--run goes without a model"),
        (("--run", "runs/a", "--split", "val"), "--run goes without --split"),
        (("--run", "runs/a", "--like", "reports/b"), "--run goes without --like"),
    ],
)
def test_options_that_say_nothing_to_a_run_are_refused(options: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = dfkit("evaluate", "--workspace", tmp_path, *options)
    assert done.exit_code != 0 and said in " ".join(done.stderr.split())


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not the joined folds of a run that leaves families out"):
        evaluate_left_out(tmp_path, reports=tmp_path)
    (tmp_path / LEFT_OUT_FILE).write_text('{"kind": "leave-out", "schema_version": 99}', encoding="utf-8")
    with pytest.raises(DataError, match="schema version 99"):
        evaluate_left_out(tmp_path, reports=tmp_path)
