"""A student is not judged by persons that its teacher was trained on."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfkit.data.storage import PreparedData
from dfkit.distill.seen_groups import refuse_seen_groups
from dfkit.errors import DataError
from tests.data.makers import make_prepared, make_row


def test_groups_of_the_teacher_are_named(tmp_path: Path) -> None:
    data = PreparedData(make_prepared(tmp_path / "data", [make_row(i, i % 2, [f"p{i // 2}"]) for i in range(6)]))
    facts = {
        "data": data.path,
        "splits": {"train": {"groups": ["p0", "p1"]}},
        "split_config": {"folds": 3, "fold": 2, "seed": 0},
    }
    refuse_seen_groups(facts, data, {"train": [0, 1, 2], "val": [], "test": [4, 5]})
    with pytest.raises(DataError, match="1 groups of the val part, among them p1") as caught:
        refuse_seen_groups(facts, data, {"train": [0, 1], "val": [2, 3], "test": [4, 5]})
    assert "split: {folds: 3, fold: 2, seed: 0}" in str(caught.value)
    refuse_seen_groups({**facts, "data": "elsewhere"}, data, {"train": [0, 1], "val": [2, 3], "test": [4, 5]})
    # An original checkpoint says nothing of its data.
    refuse_seen_groups({"epoch": 7}, data, {"train": [0, 1], "val": [2, 3], "test": [4, 5]})
