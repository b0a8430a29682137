"""File facts and baselines under folds that leave a generator out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from dfkit.audit.audit import NUM_TREES
from dfkit.audit.left_out import audit_left_out, baseline_left_out, read_left_out_scores
from dfkit.data.leave_out import folds_hash, leave_out_folds
from dfkit.data.storage import PreparedData
from dfkit.errors import DataError
from dfkit.pipeline import folds_of
from tests.cli.stand_ins import run
from tests.data.makers import make_prepared, make_row
from tests.training.tiny import SPEC


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """Generator a makes long videos, b loud ones; real ones are short and soft."""
    rows = []
    for n in range(24):
        method = None if n < 12 else "ab"[n % 2]
        facts = {
            "duration_s": 2.0 + 5 * (method == "a"),
            "loudness_db": -30.0 + 20 * (method == "b"),
        }
        rows.append(make_row(n, int(n >= 12), [f"p{n}"], method=method, facts=facts))
    return PreparedData(make_prepared(tmp_path_factory.mktemp("left_out") / "data", rows, spec=SPEC))


def test_a_fact_of_one_generator_is_worth_nothing_on_another(data: PreparedData) -> None:
    found = audit_left_out(data, "method", repeats=50)
    duration, loudness = (found.single[name] for name in ("duration_s", "loudness_db"))
    assert [family.family.name for family in duration.families] == ["a", "b"]
    # Where a is left out, b was trained on, and the loudness knows it; where b is left out, the duration knows a.
    assert loudness.families[0].seen.value == 1 and duration.families[1].seen.value == 1
    # Where it was trained on the other one, a fact is alike for all that it is asked about.
    assert loudness.families[1].unseen.value == duration.families[0].unseen.value == 0.5
    assert found.total.seen.value > found.total.mean.value
    text = "\n".join(found.summary())
    assert found.entry.protocol.text in text and "2 folds by method, left out, seed 0" in text
    assert "protocol: no pictures judged; facts of the file" in text
    assert "file facts, unseen" in text and "file facts, seen" in text and "duration_s" in text


def test_each_video_is_scored_by_the_forest_of_its_fold(data: PreparedData) -> None:
    found = audit_left_out(data, "method", repeats=20)
    fold = leave_out_folds(data)[0]
    scores = {score.video: score.p_fake for score in found.scores if score.fold == 1}
    assert set(scores) == {data.videos[i].key for i in (*fold.test, *fold.seen)}
    names = ("duration_s", "loudness_db")
    facts = np.array([[(row.facts or {})[name] for name in names] for row in data.videos])
    training = [*fold.train, *fold.val]
    labels = [data.videos[i].label for i in training]
    forest = RandomForestClassifier(NUM_TREES, min_samples_leaf=2, class_weight="balanced", random_state=0)
    # The audit's forest knows the face's size as well, which is alike everywhere here: ranks agree, not values.
    p_fake = forest.fit(facts[training], labels).predict_proba(facts[list(fold.seen)])[:, 1]
    assert (p_fake > 0.5).all() and all(scores[data.videos[i].key] > 0.5 for i in fold.seen)


def test_findings_are_found_again_under_the_same_folds_alone(
    data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dfkit.audit.forest.NUM_TREES", 20)
    found = baseline_left_out(data, "method", of=["features"], repeats=20)
    assert found.path is not None and Path(found.path).name == "baseline.left-out-method.json"
    folds = leave_out_folds(data)
    same = read_left_out_scores(data, "features", "method", folds_hash(data, folds))
    assert same == list(found.entries["features"].scores)
    other = folds_hash(data, leave_out_folds(data, seed=1))
    assert read_left_out_scores(data, "features", "method", other) == []
    assert read_left_out_scores(data, "features", "source", folds_hash(data, folds)) == []
    assert read_left_out_scores(data, "features", " Method", folds_hash(data, folds)) == same
    content = json.loads(Path(found.path).read_text(encoding="utf-8"))
    line = content["baselines"]["features"]["protocol"]["text"]
    assert "median of features over at most 8 clips" in line and "by method, left out" in line
    # A file of hand-made features alone, as an earlier version wrote it, says nothing of the others.
    whole = Path(found.path).read_text(encoding="utf-8")
    alone = {**content, **content["baselines"]["features"]}
    del alone["baselines"]
    Path(found.path).write_text(json.dumps(alone), encoding="utf-8")
    assert read_left_out_scores(data, "features", "method", folds_hash(data, folds)) == same
    assert read_left_out_scores(data, "texture", "method", folds_hash(data, folds)) == []
    Path(found.path).write_text(whole, encoding="utf-8")
    assert f"hand-made: {line}" in found.summary()
    assert content["folds_hash"] == folds_hash(data, folds)
    assert set(content["baselines"]["features"]["alone"]) >= {"motion", "spectrum"}


def test_audit_leaves_out_on_the_command_line_and_by_configuration(data: PreparedData, tmp_path: Path) -> None:
    done = run("audit", data.path, "--leave-out", "method", "--json")
    assert done.exit_code == 0, done.stderr
    first = json.loads(done.stdout)
    assert first["by"] == "method"
    config = tmp_path / "mine.yaml"
    config.write_text("split: {leave_out: method}\n", "utf-8")
    done = run("audit", data.path, "--config", config, "--json")
    assert json.loads(done.stdout)["folds_hash"] == first["folds_hash"]
    assert run("audit", data.path, "--leave-out", "method", "--folds", 3).exit_code == 2
    # A number of folds goes before the configuration's kind.
    assert folds_of(config, 4, None).leave_out is None


def test_a_file_of_somebody_else_is_left_alone(data: PreparedData) -> None:
    path = Path(data.path) / "audit.left-out-group.json"
    path.write_text('{"mine": 1}', encoding="utf-8")
    with pytest.raises(DataError, match="a file of that name that dfkit did not write"):
        audit_left_out(data, "group", repeats=20)
    path.unlink()
