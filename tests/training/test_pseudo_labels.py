"""Unlabelled videos in training: who may be among them, which labels they get, and what a run says of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dfkit import pipeline
from dfkit.clip import ClipSpec, PictureSpec
from dfkit.config import Config
from dfkit.config.flags import TrainFlags
from dfkit.data.catalog import VideoRow
from dfkit.data.joined import AddedVideos, JoinedData
from dfkit.data.splits import split_clips
from dfkit.data.storage import PreparedData
from dfkit.errors import ConfigError, DataError
from dfkit.media.stream import Clip
from dfkit.models.checkpoint import load_checkpoint
from dfkit.training import pseudo_labels
from dfkit.training.pseudo_labels import train_in_rounds
from dfkit.training.train import train_once, train_teacher
from dfkit.training.unlabelled import Answered, choose_labels, count_right, open_unlabelled, shuffled
from dfkit.workspace import Workspace
from tests.data import makers
from tests.data.makers import make_clip, make_prepared, make_row
from tests.training.tiny import tiny_config as any_tiny_config


def loud_or_soft(*, seed: int, start_index: int, spec: ClipSpec) -> Clip:
    """A clip of which a small network learns in seconds whether its number is even, by its sound."""
    clip = make_clip(seed=seed, start_index=start_index, spec=spec)
    return replace(clip, waveform=clip.waveform * np.float32(0.001 if seed % 2 else 1))


@pytest.fixture(scope="module", autouse=True)
def learnable() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(makers, "make_clip", loud_or_soft)
        yield


# Six pictures: a fraction of the steps.
SPEC = ClipSpec(num_frames=6, hop_s=0.12, picture=PictureSpec(face_px=48, lip_px=32))
MOTION = {"modalities": ["audio", "motion"]}
"""Two streams without pictures: seconds less."""


def tiny_config(**settings: Any) -> Config:
    return any_tiny_config(**settings).model_copy(update={"clip": SPEC})


def rows(numbers: range, *, labelled: bool = True) -> list[VideoRow]:
    return [make_row(n, n % 2 if labelled else None, [f"g{n}"]) for n in numbers]


@pytest.fixture(scope="module")
def data(learnable: None, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """Twelve videos in groups of their own, odd ones fakes."""
    return PreparedData(make_prepared(tmp_path_factory.mktemp("data") / "x", rows(range(12)), spec=SPEC))


@pytest.fixture(scope="module")
def found(learnable: None, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """Eight other videos, of which the labels of the first four are known."""
    videos = [*rows(range(20, 24)), *rows(range(24, 28), labelled=False)]
    return PreparedData(make_prepared(tmp_path_factory.mktemp("found") / "y", videos, clips=2, spec=SPEC))


def with_unlabelled(found: PreparedData, **unlabelled: Any) -> Config:
    section = {"folders": [found.path], "confidence": 0.6, **unlabelled}
    return tiny_config(epochs=3, optimizer={"learning_rate": 0.01}, teacher={**MOTION, "unlabelled": section})


def answer(number: int, p_fake: float, true_label: int | None = None) -> Answered:
    margin = float(np.log(p_fake) - np.log1p(-p_fake))
    return Answered(0, number, f"{number:064x}", margin, p_fake, true_label)


def test_the_surest_of_both_classes_alike() -> None:
    answers = [answer(n, p) for n, p in enumerate([0.99, 0.95, 0.91, 0.9, 0.89, 0.5, 0.11, 0.1, 0.02])]
    labels, sure = choose_labels(answers, 0.9)
    assert sure == {"real": 2, "fake": 4}
    assert {int(name, 16): label for name, label in labels.items()} == {0: 1, 1: 1, 7: 0, 8: 0}
    assert choose_labels(answers[:6], 0.9) == ({}, {"real": 0, "fake": 4})


def test_the_control_deals_the_same_labels_to_the_same_videos() -> None:
    labels = {f"{n:064x}": n % 2 for n in range(40)}
    dealt = shuffled(labels, 3)
    assert dealt.keys() == labels.keys() and sorted(dealt.values()) == sorted(labels.values())
    assert 8 < sum(dealt[name] == label for name, label in labels.items()) < 32
    assert shuffled(labels, 3) == dealt != shuffled(labels, 4)


def test_added_videos_have_the_labels_they_are_given(data: PreparedData, found: PreparedData) -> None:
    joined = JoinedData(data, [AddedVideos(found, {1: 0, 5: 1})])
    assert len(joined) == len(data) + 4 and joined.path == data.path
    assert joined.clips[: len(data)] == data.clips
    assert [(clip.label, clip.group) for clip in joined.clips[len(data) :]] == [(0, "g21")] * 2 + [(1, "g25")] * 2
    was, given = found.record(2), joined.record(12)
    assert was.label == 1 and was.frame_labels.all() and np.array_equal(was.waveform, given.waveform)
    assert given.label == 0 and not given.frame_labels.any()
    assert joined.record(15).label == 1 and joined.record(15).frame_labels.all()
    assert joined.videos[12].method is None, "what made a fake is a label, too"
    with pytest.raises(IndexError):
        joined.record(16)


def test_a_group_keeps_its_name_though_an_added_video_joins_it(data: PreparedData, tmp_path: Path) -> None:
    """`evaluate` finds a run's parts by the names of its data's groups."""
    videos = [make_row(30, None, ["a-first", "g3"])]
    other = PreparedData(make_prepared(tmp_path / "z", videos, spec=SPEC))
    joined = JoinedData(data, [AddedVideos(other, {0: 1})])
    assert joined.groups == [*data.groups, "g3"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (lambda held: make_row(40, None, held.groups), r"has 1 groups of the (val|test) part, among them g\d+"),
        (lambda held: replace(make_row(41, None, ["x"]), sha256=held.sha256), r"has 1 videos of the (val|test) part"),
    ],
)
@pytest.mark.parametrize("part", ["val", "test"])
def test_nobody_that_is_judged_is_among_them(
    data: PreparedData, tmp_path: Path, part: str, row: Callable[[VideoRow], VideoRow], said: str
) -> None:
    indices = split_clips(data, tiny_config().split)
    held = data.videos[data.clips[indices[part][0]].video_index]
    folder = make_prepared(tmp_path / "z", [*rows(range(50, 52)), row(held)], spec=SPEC)
    with pytest.raises(DataError, match=said):
        open_unlabelled([str(folder)], data, indices)
    refused = tiny_config(teacher={**MOTION, "unlabelled": {"folders": [str(folder)]}})
    with pytest.raises(DataError, match=said):
        train_teacher(data.path, Workspace(tmp_path), refused)
    assert not (tmp_path / "runs").exists()


def test_what_is_labelled_already_or_named_twice_is_left_out(data: PreparedData, tmp_path: Path) -> None:
    indices = split_clips(data, tiny_config().split)
    trained = data.videos[data.clips[indices["train"][0]].video_index]
    folder = make_prepared(tmp_path / "z", [replace(trained, key=f"{60:064x}"), make_row(61, None, ["h"])], spec=SPEC)
    opened = open_unlabelled([str(folder), str(folder)], data, indices)
    assert (opened.videos, opened.num_known) == (((1,), ()), 3)
    assert opened.added({opened.sources[0].videos[1].sha256: 1})[0].labels == {1: 1}
    alone = make_prepared(tmp_path / "alone", [replace(trained, key=f"{60:064x}")], spec=SPEC)
    with pytest.raises(DataError, match="no usable video in it that is not labelled already"):
        open_unlabelled([str(alone)], data, indices)
    other = make_prepared(tmp_path / "other", rows(range(70, 71)), spec=SPEC.model_copy(update={"hop_s": 0.5}))
    with pytest.raises(ConfigError, match=r"another clip contract .*\(different: hop_s\)"):
        open_unlabelled([str(other)], data, indices)


def test_only_known_labels_count_as_right_or_wrong(data: PreparedData, found: PreparedData) -> None:
    opened = open_unlabelled([found.path], data, split_clips(data, tiny_config().split))
    labels = {row.sha256: 1 for row in found.videos}
    assert count_right(labels, opened) == {"known": 4, "right": 2}


@pytest.fixture(scope="module")
def run(
    data: PreparedData, found: PreparedData, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Workspace, Config, dict[str, Any]]:
    """Two rounds and a control by the command's own way, and what results.json says."""
    workspace = Workspace(tmp_path_factory.mktemp("run"))
    config = with_unlabelled(found, rounds=2, control=True)
    summary = train_teacher(data.path, workspace, config)
    stored = json.loads((Path(summary.run_dir) / "results.json").read_text(encoding="utf-8"))
    assert stored == json.loads(json.dumps(summary.to_json()))
    return workspace, config, stored


def test_a_run_counts_its_rounds(data: PreparedData, run: tuple[Workspace, Config, dict[str, Any]]) -> None:
    _, _, stored = run
    facts = stored["pseudo_labels"]
    first, *others = facts["rounds"]
    assert (first["round"], facts["videos"], facts["known_already"]) == (0, 8, 0)
    assert len(others) == 2
    for row in others:
        count = min(row["sure"].values())
        assert row["answered"] == 8 and row["taken"] == 2 * count
        assert row["right"] <= row["known"] <= row["taken"]
    trained = [row for row in facts["rounds"] if "val_auc" in row]
    assert len(trained) == 3 and others[-1]["right"] == others[-1]["known"] > 0, "learnt by its sound"
    text = "\n".join(stored["notes"])
    assert "round 1: of 8 videos" in text and "labelled videos alone: video AUC validation" in text
    assert "under shuffled labels" in text and facts["control"]["taken"] == trained[-1]["taken"]
    # The checkpoint in the run's folder is the last round's, and says whom it has seen.
    folder = Path(stored["run_dir"])
    last = f"round_{trained[-1]['round']}"
    assert (folder / "best.pth").read_bytes() == (folder / last / "best.pth").read_bytes()
    splits = load_checkpoint(folder / "best.pth").facts["splits"]
    chosen = json.loads((folder / "pseudo_labels.json").read_text(encoding="utf-8"))["rounds"]
    hashes = {row["sha256"][:16] for row in chosen[str(trained[-1]["round"])]["videos"]}
    own = len(split_clips(data, tiny_config().split)["train"])
    assert hashes and hashes <= set(splits["train"]["file_hashes"])
    assert splits["train"]["videos"] == own + len(hashes)
    alone = load_checkpoint(folder / "round_0" / "best.pth").facts["splits"]
    assert alone["train"]["videos"] == own and "start" not in alone
    assert {name: alone[name] for name in ("val", "test")} == {name: splits[name] for name in ("val", "test")}
    earlier = {row["sha256"][:16] for row in chosen["1"]["videos"]}
    assert set(splits["start"]["file_hashes"]) == earlier


def test_a_run_goes_on_where_it_was_cut_off(
    data: PreparedData, found: PreparedData, run: tuple[Workspace, Config, dict[str, Any]], tmp_path: Path
) -> None:
    """The last round is trained again, the others are read, and the result is that of the unbroken run."""
    _, config, stored = run
    workspace = Workspace(tmp_path)
    trained: list[str] = []

    def cut_off(*args: Any, **kwargs: Any) -> Any:
        if Path(args[2]).name == "round_1" and len(trained) == 1:
            raise KeyboardInterrupt
        trained.append(Path(args[2]).name)
        return train_once(*args, **kwargs)

    folder = workspace.new_run_dir("x", "teacher")
    indices = split_clips(data, config.split)
    with pytest.raises(KeyboardInterrupt):
        train_in_rounds(data, indices, folder, config, train_round=cut_off)
    with pytest.raises(ConfigError, match=r"different: train\.unlabelled\.control"):
        train_teacher(data.path, workspace, with_unlabelled(found, rounds=2), resume=folder)
    with pytest.raises(ConfigError, match=r"different: .*train\.unlabelled\.folders"):
        train_teacher(data.path, workspace, tiny_config(epochs=1, teacher=MOTION), resume=folder)
    again = train_teacher(data.path, workspace, config, resume=folder)
    assert trained == ["round_0"]
    assert again.pseudo_labels == stored["pseudo_labels"]
    # Other unlabelled videos than the run was started with: what is labelled so far may not be among them.
    plan = json.loads((folder / "pseudo_labels.json").read_text(encoding="utf-8"))
    plan["videos_hashes"]["unlabelled"] = ["0"]
    (folder / "pseudo_labels.json").write_text(json.dumps(plan), encoding="utf-8")
    with pytest.raises(DataError, match="started with other labelled or unlabelled videos"):
        train_teacher(data.path, workspace, config, resume=folder)


def test_without_a_sure_video_the_teacher_stays(
    data: PreparedData, found: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pseudo_labels, "answer_videos", lambda *_: [answer(0, 0.99), answer(1, 0.5)])
    flags = TrainFlags(unlabelled=(found.path,), unlabelled_control=True)
    config = flags.apply_to(tiny_config(epochs=1, teacher=MOTION))
    assert config.flags == (f"--unlabelled {found.path}", "--unlabelled-control")
    summary = train_teacher(data.path, Workspace(tmp_path), config)
    facts = summary.pseudo_labels
    assert facts is not None and facts["control"] is None and facts["rounds"][1]["sure"] == {"real": 0, "fake": 1}
    assert any("the teacher before it is kept" in line for line in summary.summary())
    assert not (Path(summary.run_dir) / "round_1").exists() and Path(summary.checkpoint).is_file()


def test_folds_label_for_themselves(data: PreparedData, found: PreparedData, tmp_path: Path) -> None:
    config = with_unlabelled(found).model_copy(update={"name": "folds"})
    (tmp_path / "x.json").write_text(config.to_json_text(), encoding="utf-8")
    flags = TrainFlags(kfold=2)
    result = pipeline.train(Workspace(tmp_path), config_path=tmp_path / "x.json", data_dir=Path(data.path), flags=flags)
    folds = result.to_json()["folds"]
    assert len(folds) == 2 and all(fold["pseudo_labels"]["videos"] == 8 for fold in folds)


def test_the_original_format_is_refused() -> None:
    with pytest.raises(ValueError, match="each round would write one"):
        tiny_config(teacher={"unlabelled": {"folders": ["x"]}, "save": {"format": "original"}})
