from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from dfkit.config.forge import DEFAULT_METHODS
from dfkit.data.labels import read_csv
from dfkit.errors import DataError, MediaError
from dfkit.media.facts import VideoFacts, probe
from dfkit.media.stream import read_clips
from dfkit.media.video import read_frames
from tests.forge.conftest import Forged
from tools.forge.fairness import sign_tests
from tools.forge.repost import REPOSTS, Repost, repost, repost_folder
from tools.forge.sheet import read_pairs

MIN_P = 0.01


@pytest.fixture(scope="module")
def original(forged: Forged) -> Path:
    return forged.pairs[0].twin


@pytest.fixture(scope="module")
def reposted(original: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Repost, Path]:
    folder = tmp_path_factory.mktemp("reposts")
    return {kind: repost(original, folder / f"{kind}.mp4", kind) for kind in REPOSTS}


def sound_bytes(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(packet.size for packet in container.demux(audio=0))


def facts(reposted: dict[Repost, Path]) -> dict[Repost, VideoFacts]:
    return {kind: probe(path) for kind, path in reposted.items()}


def test_length_and_rate_stay(original: Path, reposted: dict[Repost, Path]) -> None:
    before = probe(original)
    for kind, after in facts(reposted).items():
        assert (after.num_frames, after.fps) == (before.num_frames, before.fps), kind


def test_each_kind_does_what_it_is_named_for(original: Path, reposted: dict[Repost, Path]) -> None:
    before, after = probe(original), facts(reposted)
    assert after["crf35"].size_bytes < after["crf28"].size_bytes < before.size_bytes
    assert (after["half_size"].width, after["half_size"].height) == (before.width // 2, before.height // 2)
    assert after["muted"].loudness_db == -120.0
    assert after["muted"].audio_codec == "aac", "a silent track, not a missing one"
    # The encoder keeps a rate to about a tenth over two seconds.
    assert sound_bytes(reposted["aac32"]) * 8 / before.duration_s == pytest.approx(32_000, rel=0.15)
    assert sound_bytes(reposted["crf28"]) > 1.8 * sound_bytes(reposted["aac32"])
    assert after["aac32"].loudness_db == pytest.approx(before.loudness_db, abs=0.5)


def test_a_filmed_screen_is_darker_bent_and_striped(original: Path, reposted: dict[Repost, Path]) -> None:
    plain, filmed = (
        next(rgb for index, _, rgb in read_frames(path, 25) if index == 20) for path in (original, reposted["screen"])
    )
    assert filmed[0].max() < 60, "the frame of the screen is seen at the edge"
    assert filmed.mean() < plain.mean()
    columns = [np.abs(np.fft.rfft(x.astype(float).mean(axis=(0, 2))))[20:60].max() for x in (plain, filmed)]
    assert columns[1] > columns[0]


def test_faces_are_still_found_in_all_of_them(reposted: dict[Repost, Path]) -> None:
    for kind, path in reposted.items():
        if kind == "muted":
            with pytest.raises(MediaError, match="digital silence"):
                list(read_clips(path))
        else:
            assert list(read_clips(path)), path.name


def test_the_same_file_is_reposted_the_same_way(original: Path, reposted: dict[Repost, Path], tmp_path: Path) -> None:
    again = repost(original, tmp_path / "again.mp4", "screen")
    assert again.read_bytes() == reposted["screen"].read_bytes()


def test_a_folder_is_reposted_with_its_labels(forged: Forged, tmp_path: Path) -> None:
    lines = (forged.out_dir / "labels.csv").read_text().splitlines()
    (tmp_path / "labels.csv").write_text("\n".join(lines[:3]) + "\n")
    for line in lines[1:3]:
        name = line.split(",")[0]
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(forged.out_dir / name, tmp_path / name)
    written = repost_folder(tmp_path, kinds=("crf35", "muted"))
    assert set(written) == {"crf35", "muted"}
    for path in written.values():
        labels = read_csv(path)
        assert [source.label for source in labels.sources] == [0, 1]
        assert len({source.path.stat().st_size for source in labels.sources}) == 1, "the size names no forgery"
    with pytest.raises(DataError, match="dfkit forge"):
        repost_folder(tmp_path / "reposts")


@pytest.mark.long
def test_reposted_twins_and_forgeries_agree_in_every_fact(forged: Forged, tmp_path: Path) -> None:
    folder = tmp_path / "forged"
    shutil.copytree(forged.out_dir, folder)
    labels = repost_folder(folder, kinds=["crf35"])["crf35"]
    videos = labels.parent / "videos"
    pairs = [
        replace(pair, twin=videos / pair.twin.name, forged=videos / pair.forged.name) for pair in read_pairs(folder)
    ]
    tests = {test.fact: test for test in sign_tests(pairs)}
    assert len(pairs) == 2 * len(DEFAULT_METHODS)
    # Each source's files have one size, whatever the quality cost.
    assert tests["size_bytes"].ties == tests["bitrate_kbps"].ties == len(pairs)
    for test in tests.values():
        assert test.p_value > MIN_P, test
