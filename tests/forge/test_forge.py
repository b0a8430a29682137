from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections import defaultdict
from pathlib import Path

import av
import numpy as np
import pytest

from dfkit.config.forge import DEFAULT_METHODS, DONOR_METHODS
from dfkit.data.labels import read_csv
from dfkit.errors import ConfigError, DataError
from dfkit.forge import ForgeConfig, ForgeSource, forge
from dfkit.forge.forge import LABEL_COLUMNS
from dfkit.media.encode import EncodeSettings, write_video
from tests.forge.conftest import Forged

QUICK = ForgeConfig(methods=("audio_shift", "audio_swap"))


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("videos/*.mp4")}


def test_every_source_has_a_twin_and_one_forgery_per_method(forged: Forged) -> None:
    assert forged.summary.num_twins == 2
    assert forged.summary.methods == dict.fromkeys(DEFAULT_METHODS, 2)
    assert forged.summary.skipped == ()
    assert {path.name for path in (forged.out_dir / "videos").iterdir()} == {
        Path(entry["path"]).name for entry in forged.entries
    }
    assert not list(forged.out_dir.rglob("*.partial"))
    text = "\n".join(forged.summary.summary())
    assert f"2 real twins and {2 * len(DEFAULT_METHODS)} forgeries" in text
    json.dumps(forged.summary.to_json())


def test_the_labels_are_what_prepare_reads(forged: Forged) -> None:
    labels = read_csv(forged.out_dir / "labels.csv")
    assert labels.groups_known
    assert (labels.count(0), labels.count(1)) == (2, 2 * len(DEFAULT_METHODS))
    by_name = {source.path.name: source for source in labels.sources}
    for entry in forged.entries:
        source = by_name[Path(entry["path"]).name]
        assert source.groups == tuple(entry["groups"])
        assert source.groups[0] == entry["group"], "the cell is the group of all that it yields"
        whole = entry["end_frame"] - entry["start_frame"] in (0, entry["num_frames"])
        expected = () if whole else ((entry["start_frame"] / 25, entry["end_frame"] / 25),)
        assert source.intervals == expected
    with (forged.out_dir / "labels.csv").open() as file:
        assert next(csv.reader(file)) == list(LABEL_COLUMNS)


def test_twin_and_forgeries_have_one_size(forged: Forged) -> None:
    sizes = defaultdict(set)
    for entry in forged.entries:
        sizes[entry["source"]].add((forged.out_dir / entry["path"]).stat().st_size)
    assert all(len(each) == 1 for each in sizes.values())


def test_a_second_run_keeps_everything_and_remakes_what_is_gone(forged: Forged, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(forged.out_dir, folder)
    before = digests(folder)
    again = forge(forged.sources, folder, forged.config)
    assert again.num_kept == 2 + 2 * len(DEFAULT_METHODS)
    assert again.footage_s == 0
    victim = sorted((folder / "videos").glob("*-audio_shift.mp4"))[0]
    victim.unlink()
    (folder / "labels.csv").unlink()
    repaired = forge(forged.sources, folder, forged.config)
    assert repaired.num_kept == 1 + len(DEFAULT_METHODS), "the other source's files are kept"
    assert digests(folder) == before


def test_files_do_not_depend_on_the_number_of_workers_nor_on_the_order(forged: Forged, tmp_path: Path) -> None:
    one = forge(forged.sources, tmp_path / "one", QUICK)
    two = forge(forged.sources[::-1], tmp_path / "two", QUICK, num_workers=2)
    assert digests(one.out_dir) == digests(two.out_dir)
    assert (one.out_dir / "labels.csv").read_bytes() == (two.out_dir / "labels.csv").read_bytes()
    assert len(digests(one.out_dir)) == 6


def test_another_seed_makes_other_forgeries_of_the_same_twins(forged: Forged, tmp_path: Path) -> None:
    other = forge(forged.sources, tmp_path, QUICK.model_copy(update={"seed": 99}))
    first, second = digests(forged.out_dir), digests(other.out_dir)
    twins = [name for name in second if name.endswith("-twin.mp4")]
    assert len(twins) == 2
    assert all(second[name] == first[name] for name in twins)
    assert any(second[name] != first[name] for name in set(second) - set(twins))


def test_an_interrupted_run_leaves_whole_files_and_goes_on(
    forged: Forged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dfkit.forge import job

    calls = []

    def interrupted(*args: object, **kwargs: object) -> int:
        calls.append(args)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return write_video(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(job, "write_video", interrupted)
    with pytest.raises(KeyboardInterrupt):
        forge(forged.sources, tmp_path, QUICK)
    assert not (tmp_path / "labels.csv").exists(), "no labels for an unfinished run"
    assert not list(tmp_path.rglob("*.partial"))
    monkeypatch.undo()
    summary = forge(forged.sources, tmp_path, QUICK)
    assert summary.num_kept == 3, "the source that was finished"
    assert len(digests(tmp_path)) == 6


def test_one_person_alone_gets_what_needs_no_other(forged: Forged, tmp_path: Path) -> None:
    config = ForgeConfig(methods=("audio_shift", "audio_swap", "face_swap"))
    summary = forge(forged.sources[:1], tmp_path, config)
    assert summary.methods == {"audio_shift": 1}
    assert {(method, reason) for _, method, reason in summary.skipped} == {
        (method, "its cell has no other person") for method in ("audio_swap", "face_swap")
    }
    assert any("no other person" in line for line in summary.summary())


def test_one_person_alone_and_only_swaps_is_an_error(forged: Forged, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="its cell has no other person") as error:
        forge(forged.sources[:1], tmp_path, ForgeConfig(methods=tuple(sorted(DONOR_METHODS))))  # type: ignore[arg-type]
    assert error.value.exit_code == 2


def test_without_groups_each_file_is_its_own_and_the_user_is_told(forged: Forged, tmp_path: Path) -> None:
    summary = forge([ForgeSource(s.path, None, 0) for s in forged.sources], tmp_path, QUICK)
    assert not summary.groups_known
    assert "groups unknown: persons may leak" in "\n".join(summary.summary())


def test_only_fakes_are_an_error(forged: Forged, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="labelled real"):
        forge([ForgeSource(s.path, s.group, 1) for s in forged.sources], tmp_path)
    with pytest.raises(ConfigError, match="num_workers"):
        forge(forged.sources, tmp_path, num_workers=0)


def test_bad_videos_are_left_out_with_a_reason_and_the_rest_is_made(forged: Forged, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    grey = [np.full((96, 128, 3), 128, np.uint8)] * 60
    rng = np.random.default_rng(0)
    noise = (0.05 * rng.standard_normal(60 * 640)).astype(np.float32)
    settings = EncodeSettings()
    write_video(bad / "noface.mp4", grey, noise, sample_rate=16000, settings=settings)
    write_video(bad / "short.mp4", grey[:20], noise[: 20 * 640], sample_rate=16000, settings=settings)
    write_video(bad / "muted.mp4", grey, np.zeros_like(noise), sample_rate=16000, settings=settings)
    (bad / "text.mp4").write_text("this is no video")
    _without_sound(forged.sources[0].path, bad / "nosound.mp4")
    sources = [*forged.sources, *(ForgeSource(path, path.stem, 0) for path in sorted(bad.iterdir()))]
    sources.append(ForgeSource(forged.sources[0].path, "a fake", 1))
    summary = forge(sources, tmp_path / "out", QUICK.model_copy(update={"groups_per_cell": 20}))
    assert summary.num_twins == 2
    whole = {Path(source).name: reason for source, method, reason in summary.skipped if not method}
    expected = {
        "noface.mp4": "no_face",
        "short.mp4": "too_short",
        "muted.mp4": "no_audio",
        "nosound.mp4": "no_audio",
        "text.mp4": "unreadable",
        forged.sources[0].path.name: "labelled fake",
    }
    assert set(whole) == set(expected)
    for name, status in expected.items():
        assert status in whole[name], name


def test_small_faces_are_left_out(forged: Forged, tmp_path: Path) -> None:
    # The heads are 384 pixels wide and their faces a third of it: at 160 pixels they are under 64.
    with pytest.raises(DataError, match="at least 64 px are needed"):
        forge(forged.sources, tmp_path, ForgeConfig(methods=("audio_shift",), max_side_px=160))


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.mp4"):
        forge([ForgeSource(tmp_path / "gone.mp4", "a", 0)], tmp_path / "out")


def _without_sound(source: Path, target: Path) -> None:
    with av.open(str(source)) as given, av.open(str(target), "w") as made:
        stream = given.streams.video[0]
        copy = made.add_stream_from_template(stream)
        for packet in given.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                made.mux(packet)
