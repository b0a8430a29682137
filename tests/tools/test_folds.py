"""Models of folds that leave families out: what each said, joined by fold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dfkit.data.leave_out import leave_out_folds, left_out_families
from dfkit.data.storage import PreparedData
from dfkit.experiment import read_config
from dfkit.measures.left_out import HeldOutScore, compare_left_out, measure_left_out
from tests.data.makers import make_prepared, make_row
from tools.folds import left_out
from tools.folds.commands import fold_config, seed_config
from tools.folds.left_out import answers_of_run, fold_scores


def test_answers_of_every_fold_are_joined(tmp_path: Path) -> None:
    rows = [make_row(i, int(i >= 20), [f"p{i}"], method=f"m{i % 2}" if i >= 20 else None) for i in range(40)]
    data = PreparedData(make_prepared(tmp_path / "data", rows))
    folds = leave_out_folds(data, "method")
    found: dict[str, list[HeldOutScore]] = {"right": [], "chance": []}
    for number, fold in enumerate(folds, start=1):
        folder = tmp_path / f"fold_{number}"
        folder.mkdir()
        for name, scores in found.items():
            said = [
                {"video": data.videos[i].path, "p_fake": data.videos[i].label if name == "right" else 0.5}
                for i in fold.test
            ]
            (folder / "scores.json").write_text(json.dumps({"test": said}), encoding="utf-8")
            scores.extend(fold_scores(data, fold, number, answers_of_run(folder)))
    families = left_out_families(folds)
    assert measure_left_out(found["right"], families, repeats=20).mean.value == 1.0
    assert compare_left_out(found["chance"], found["right"], families, repeats=20).value == -0.5


def test_a_folds_experiment_trains_the_baselines(tmp_path: Path) -> None:
    config = tmp_path / "all.yaml"
    config.write_text("name: all\nsplit: {leave_out: method}\n", encoding="utf-8")
    own = read_config(fold_config(config, tmp_path, 2, baselines=True))
    assert (own.name, own.split.fold, own.split.leave_out, own.distill.baselines) == ("all-fold2", 2, "method", True)


def test_each_seed_is_an_experiment_of_its_own(tmp_path: Path) -> None:
    config = tmp_path / "all.yaml"
    config.write_text("name: all\nsplit: {leave_out: method}\ntrain: {seed: 3}\n", encoding="utf-8")
    assert seed_config(config, tmp_path, 3) == config
    other = read_config(seed_config(config, tmp_path, 4))
    assert (other.name, other.train.seed, other.distill.seed, other.split.seed) == ("all-seed4", 4, 4, 0)


def test_what_is_finished_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[str, ...]] = []
    monkeypatch.setattr(left_out, "dfkit", lambda *words: said.append(tuple(map(str, words))))
    config = tmp_path / "all.yaml"
    config.write_text("name: all\nsplit: {leave_out: method}\n", encoding="utf-8")
    run, student = tmp_path / "runs" / "all", tmp_path / "runs" / "all-fold1"

    def commands() -> list[tuple[str, bool]]:
        said.clear()
        left_out.train_teachers(config, tmp_path, tmp_path, 2)
        left_out.distil_fold(config, tmp_path, tmp_path, 1)
        return [(words[0], "--resume" in words) for words in said]

    assert commands() == [("train", False), ("distill", False)]
    for folder in (run, student):
        folder.mkdir(parents=True)
    assert commands() == [("train", True), ("distill", True)]
    (run / "kfold.json").touch()
    (student / "results.json").touch()
    assert commands() == []
