"""Which clips are judged: as a model recorded it, as labels give it, or cut anew; and what that leaks."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dfkit.config import SplitConfig
from dfkit.data.splits import split_clips
from dfkit.data.storage import PreparedData
from dfkit.errors import DataError
from dfkit.evaluation.evaluation_split import choose_evaluation_split
from dfkit.training.scoring import split_facts
from tests.data.makers import make_prepared, make_row
from tests.training.tiny import SPEC

# Eight videos of eight groups, two clips each: clip 2 n and 2 n + 1 are of group n. Odd ones are fakes.
ROWS = [make_row(n, n % 2, [f"g{n}"]) for n in range(8)]
RECORDED = {"train": {"g0", "g1", "g2", "g3"}, "val": {"g4", "g5"}, "test": {"g6", "g7"}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return PreparedData(make_prepared(tmp_path_factory.mktemp("data") / "x", ROWS, clips=2, spec=SPEC))


def member(name: str = "run/best.pth", parts: dict[str, set[str]] | None = None) -> Any:
    """What is asked of a model here: its path and what it recorded."""
    recorded = None if parts is None else {part: {"groups": sorted(groups)} for part, groups in parts.items()}
    return SimpleNamespace(path=Path(name), splits=recorded)


def test_a_model_is_judged_on_the_part_that_it_recorded(data: PreparedData) -> None:
    split = choose_evaluation_split(data, "test", [member(parts=RECORDED)])
    assert (split.evaluated, split.validation) == ([12, 13, 14, 15], [8, 9, 10, 11])
    assert split.source == f"as recorded in {Path('run/best.pth')}"
    assert split.warnings == ()


@pytest.mark.parametrize(
    ("name", "judged", "warnings"),
    [
        ("train", 8, ["4 of 4 judged groups are ones that the model was trained on"]),
        (
            "val",
            4,
            ["2 of 2 judged groups are ones that the model was tuned (stopping, threshold) on"],
        ),
        (
            "all",
            16,
            [
                "4 of 8 judged groups are ones that the model was trained on",
                "2 of 8 judged groups are ones that the model was tuned (stopping, threshold) on",
            ],
        ),
    ],
)
def test_what_a_model_saw_is_said(data: PreparedData, name: Any, judged: int, warnings: list[str]) -> None:
    split = choose_evaluation_split(data, name, [member(parts=RECORDED)])
    assert len(split.evaluated) == judged
    assert list(split.warnings) == warnings


def test_no_video_is_judged_that_thresholds_are_fitted_on(tmp_path: Path) -> None:
    """`all` fitted thresholds on validation videos and judged them with the others; `val` fitted on all it judged."""
    # Videos 0 to 19 are the validation part, ten of each class, 20 to 23 the test part; two clips each.
    parts = ["val"] * 20 + ["test"] * 2 + ["train"] * 2
    rows = [make_row(n, n % 2, [f"g{n}"], split=part) for n, part in enumerate(parts)]
    data = PreparedData(make_prepared(tmp_path / "x", rows, clips=2, spec=SPEC))
    whole = choose_evaluation_split(data, "all", [member()])
    assert (whole.evaluated, whole.validation) == (list(range(40, 48)), list(range(40)))
    assert whole.source == ("as the labels give it; all but the 20 validation videos, on which thresholds were fitted")
    assert whole.unfitted is None
    own = choose_evaluation_split(data, "val", [member()])
    assert (own.evaluated, own.validation) == (list(range(40)), [])
    assert own.unfitted == "the validation videos themselves are judged"


def test_too_few_validation_videos_are_judged_and_nothing_is_fitted(data: PreparedData) -> None:
    split = choose_evaluation_split(data, "all", [member(parts=RECORDED)])
    assert (split.evaluated, split.validation) == (list(range(16)), [])
    assert split.source.endswith("; every video is judged and nothing fitted")
    assert str(split.unfitted).startswith("1 real and 1 fake validation videos, at least 10 of each are needed")


def test_one_member_of_a_vote_that_saw_a_group_is_enough(data: PreparedData) -> None:
    other = {"train": {"g6"}, "val": set(), "test": set()}
    split = choose_evaluation_split(data, "test", [member(parts=RECORDED), member(parts=other), member("fold4.pth")])
    assert split.warnings == (
        "fold4.pth does not say what it was trained on: these videos may be among it",
        "1 of 2 judged groups are ones that a member was trained on",
    )


def test_the_same_files_and_persons_are_found_under_other_group_names(data: PreparedData, tmp_path: Path) -> None:
    """Only names of groups were compared: the same files prepared without names passed unseen."""
    model = member()
    model.splits = split_facts(data, {"train": [0, 2, 4, 6], "val": [8, 10], "test": []})
    warnings = (
        "4 of 8 judged groups are ones that the model was trained on",
        "2 of 8 judged groups are ones that the model was tuned (stopping, threshold) on",
    )
    nameless = [make_row(n, n % 2) for n in range(8)]
    unnamed = PreparedData(make_prepared(tmp_path / "unnamed", nameless, clips=2, spec=SPEC))
    assert choose_evaluation_split(unnamed, "all", [model]).warnings == warnings
    # Other files of the same persons, whose groups carry the name of another person.
    joined = [make_row(20 + n, n % 2, [f"a{n}", f"g{n}"]) for n in range(8)]
    renamed = PreparedData(make_prepared(tmp_path / "joined", joined, clips=2, spec=SPEC))
    assert choose_evaluation_split(renamed, "all", [model]).warnings == warnings


def test_names_of_groups_alone_tell_nothing_about_data_without_names(tmp_path: Path) -> None:
    """Bundles and older checkpoints name no file: where the groups have no names, nothing was compared."""
    nameless = [make_row(n, n % 2) for n in range(8)]
    data = PreparedData(make_prepared(tmp_path / "x", nameless, clips=2, spec=SPEC))
    split = choose_evaluation_split(data, "all", [member(parts=RECORDED)])
    assert split.warnings == (
        f"{Path('run/best.pth')} does not say which videos it was trained on: these may be among them",
    )


def test_a_group_that_the_model_does_not_know_means_other_data(data: PreparedData) -> None:
    known = {**RECORDED, "test": {"g6"}}
    split = choose_evaluation_split(data, "test", [member(parts=known)])
    assert split.source == "cut by group, seed 0"
    # Both classes in each part, and no clip in two.
    assert {data.clips[i].label for i in split.evaluated} == {data.clips[i].label for i in split.validation} == {0, 1}
    assert not set(split.evaluated) & set(split.validation)


def test_the_labels_split_is_taken(tmp_path: Path) -> None:
    named = ["train", "train", "val", "val", "test", "test", "test", "test"]
    rows = [make_row(n, n % 2, [f"g{n}"], split=part) for n, part in enumerate(named)]
    split = choose_evaluation_split(PreparedData(make_prepared(tmp_path / "x", rows, spec=SPEC)), "test", [member()])
    assert (split.evaluated, split.validation, split.source) == ([4, 5, 6, 7], [2, 3], "as the labels give it")


def test_what_cannot_be_split_can_be_judged_whole(tmp_path: Path) -> None:
    rows = [make_row(n, 0, ["one speaker"]) for n in range(2)]
    data = PreparedData(make_prepared(tmp_path / "x", rows, spec=SPEC))
    split = choose_evaluation_split(data, "all", [member()])
    assert (split.evaluated, split.validation) == ([0, 1], [])
    assert split.source.startswith("not split (")
    with pytest.raises(DataError):
        choose_evaluation_split(data, "test", [member()])


def test_an_empty_part_names_the_sizes_of_all(data: PreparedData) -> None:
    everything = {"train": {f"g{n}" for n in range(8)}, "val": set(), "test": set()}
    with pytest.raises(DataError, match=r"the test part holds no clip \(as recorded in .*: train 16, val 0, test 0\)"):
        choose_evaluation_split(data, "test", [member(parts=everything)])


@pytest.mark.parametrize(("rows", "found"), [([], "no clip was prepared"), ([make_row(0, None, ["g"])], "labels")])
def test_nothing_to_judge_is_an_error(tmp_path: Path, rows: list[Any], found: str) -> None:
    with pytest.raises(DataError, match=found):
        choose_evaluation_split(PreparedData(make_prepared(tmp_path / "x", rows, spec=SPEC)), "all", [member()])


def test_a_fold_that_left_a_generator_out_is_judged_by_its_own_parts(tmp_path: Path) -> None:
    """A person whose real video and left-out fake are tested may have fakes of other generators, which are not."""
    rows = [
        make_row(4 * person + kind, int(kind > 0), [f"p{person}"], method=[None, "a", "b", "c"][kind])
        for person in range(10)
        for kind in range(4)
    ]
    data = PreparedData(make_prepared(tmp_path / "x", rows, spec=SPEC))
    config = SplitConfig(leave_out="method", fold=1)
    parts = split_clips(data, config)
    model = member()
    model.splits = split_facts(data, parts)
    split = choose_evaluation_split(data, "test", [model])
    assert split.evaluated == parts["test"] and split.validation == parts["val"]
    assert {data.videos[data.clips[i].video_index].method for i in split.evaluated} == {None, "a"}
    assert split.warnings == ()
