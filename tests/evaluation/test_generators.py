"""Seen beside unseen generators in an ordinary evaluation."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dfkit.data.catalog import HASH_LENGTH, VideoRow
from dfkit.data.storage import PreparedData
from dfkit.errors import DataError
from dfkit.evaluation.evaluate import PAGE_FILE, evaluate, evaluate_scores_file
from dfkit.evaluation.generators import SeenGenerators, seen_generators, trained_families
from dfkit.evaluation.scores_file import SCORES_FILE, ScoredVideo, read_scores
from dfkit.evaluation.scoring import EvaluationRequest
from dfkit.models import MMMSBA
from dfkit.training.checkpoints import save_checkpoint
from dfkit.training.scoring import split_facts
from dfkit.workspace import REPORT_FILE
from tests.data.makers import CatalogOnly, make_prepared, make_row
from tests.evaluation.test_evaluate import NO_VIEW, TINY
from tests.training.tiny import SPEC


class Member:
    """What is asked of a model here."""

    path = "model"

    def __init__(self, **train: Any) -> None:
        self.splits = {"train": train} if train else None


def rows_of() -> list[VideoRow]:
    rows = [make_row(n, 0, [f"r{n}"]) for n in range(4)]
    rows += [make_row(4 + n, 1, [f"a{n}"], method="A (small)") for n in range(3)]
    rows += [make_row(7 + n, 1, [f"b{n}"], method="B") for n in range(2)]
    return [*rows, make_row(9, 1, ["c"], method=None)]


P_FAKE = np.array([0.1, 0.2, 0.3, 0.4, 0.9, 0.8, 0.7, 0.05, 0.25, 0.5])


def found(*members: Member) -> SeenGenerators:
    data: Any = CatalogOnly(rows_of())
    videos = [
        ScoredVideo(video=row.path, label=row.label, group=str(group), method=row.method)  # type: ignore[arg-type]
        for row, group in zip(data.videos, data.groups, strict=True)
    ]
    return seen_generators(videos, P_FAKE, trained_families(data, members))  # type: ignore[arg-type]


def test_fakes_are_sorted_by_what_was_trained_on() -> None:
    result = found(Member(families=["A", "Z"]))
    assert (result.seen.families, result.seen.num_fakes, result.seen.auc.value) == (("A",), 3, 1.0)
    # B: 0.05 above none of four, 0.25 above two.
    assert (result.unseen.num_fakes, result.unseen.auc.value) == (2, 0.25)
    assert result.unknown.num_fakes == 1
    assert result.texts[0].startswith("seen generators: video AUC 1.00 [1.00, 1.00] (3 fakes: A)")
    assert result.texts[1].startswith("unseen generators: video AUC 0.25 [")
    assert "no method given" in result.texts[2]


def test_what_a_model_does_not_say_is_not_guessed() -> None:
    for member in (Member(), Member(groups=["a0"]), Member(file_hashes=["0" * HASH_LENGTH])):
        result = found(member)
        assert result.trained is None and result.seen.num_fakes == result.unseen.num_fakes == 0
        assert "does not say which generators" in result.texts[2]
    known = [row.sha256[:HASH_LENGTH] for row in rows_of()[7:9]]
    assert found(Member(file_hashes=known)).seen.families == ("B",)
    assert found(Member(families=["A"]), Member(families=["B"])).unseen.num_fakes == 0


def test_both_stand_in_every_report(tmp_path: Path) -> None:
    rows = rows_of()
    data_dir = make_prepared(tmp_path / "data", [replace(row, columns={"language": "ko"}) for row in rows], spec=SPEC)
    data = PreparedData(data_dir)
    torch.manual_seed(0)
    splits = split_facts(
        data, {"train": data.clip_indices([0, 4, 5]), "val": [], "test": data.clip_indices([1, 2, 6, 7])}
    )
    assert splits["train"]["families"] == ["A"]
    save_checkpoint(tmp_path / "best.pth", MMMSBA(TINY), SPEC, kind="teacher", facts={"splits": splits})
    request = EvaluationRequest(data_dir, (tmp_path / "best.pth",), split="all", columns=("language",))
    report = evaluate(request, reports=tmp_path, make_view=NO_VIEW)
    content = json.loads((Path(report.output_dir) / "report.json").read_text(encoding="utf-8"))
    assert content["generators"]["trained"] == ["A"] and content["generators"]["unseen"]["fakes"] == 2
    assert content["columns"][0]["values"][0]["value"] == "ko"
    page = (Path(report.output_dir) / "report.html").read_text(encoding="utf-8")
    assert "Seen generators: video AUC" in page and "Unseen generators: video AUC" in page and "By language" in page
    text = "\n".join(report.summary())
    assert "seen generators: video AUC" in text and "unseen generators: video AUC" in text


def test_scores_alone_give_the_same_tables_and_those_of_other_columns(tmp_path: Path) -> None:
    rows = [replace(row, columns={"language": "ko" if n % 2 else "en"}) for n, row in enumerate(rows_of())]
    data_dir = make_prepared(tmp_path / "data", rows, spec=SPEC)
    data = PreparedData(data_dir)
    torch.manual_seed(0)
    splits = split_facts(
        data, {"train": data.clip_indices([0, 4, 5]), "val": [], "test": data.clip_indices([1, 2, 6, 7])}
    )
    save_checkpoint(tmp_path / "best.pth", MMMSBA(TINY), SPEC, kind="teacher", facts={"splits": splits})
    request = EvaluationRequest(data_dir, (tmp_path / "best.pth",), split="all", columns=("language",))
    with pytest.raises(DataError, match="no prepared video has a column dialect"):
        evaluate(replace(request, columns=("dialect",)), reports=tmp_path, make_view=NO_VIEW)
    first = Path(evaluate(request, reports=tmp_path, make_view=NO_VIEW).output_dir)
    shutil.rmtree(data_dir)
    again = evaluate_scores_file(first, reports=tmp_path, output=tmp_path / "again")
    for name in (SCORES_FILE, REPORT_FILE, PAGE_FILE):
        assert (tmp_path / "again" / name).read_bytes() == (first / name).read_bytes(), name
    assert again.generators is not None and again.generators.trained == ("A",)
    other = evaluate_scores_file(first, reports=tmp_path, columns=["method", "Language"])
    assert [table.column for table in other.columns] == ["method", "language"]
    assert other.columns[1] == again.columns[0] and [v.value for v in other.columns[0].values] == ["(blank)", "A", "B"]
    assert read_scores(Path(other.output_dir)).columns == ("method", "Language")
    with pytest.raises(DataError, match="no judged video has a column dialect; there are language"):
        evaluate_scores_file(first, reports=tmp_path, columns=["dialect"])


def test_where_nothing_unseen_is_judged_the_way_to_it_is_named() -> None:
    assert found(Member(families=["A", "B"])).texts[1] == (
        "unseen generators: none is judged; dfkit train --leave-out method measures them"
    )


@pytest.mark.parametrize("families", [["A"], []])
def test_parts_add_up(families: list[str]) -> None:
    result = found(Member(families=families, groups=[]))
    assert result.seen.num_fakes + result.unseen.num_fakes + result.unknown.num_fakes == 6
