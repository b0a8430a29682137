"""Prepared data: reading from disk and S3, hashes, damage."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from dfkit.data import catalog
from dfkit.data.datasets import ClipDataset, collate_padded
from dfkit.data.storage import PreparedData, upload, verify
from dfkit.errors import DataError
from tests.data.makers import make_clip, make_prepared, make_row


@pytest.fixture(scope="module")
def prepared_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos of two clips; the second is fake in its first half second."""
    rows = [
        make_row(0, 0, ["a"]),
        make_row(1, 1, ["a", "b"], intervals=((0.0, 0.5),)),
        make_row(2, 1, ["c"]),
    ]
    return make_prepared(tmp_path_factory.mktemp("prepared") / "set", rows, clips=2)


def test_keys_tell_of_clips_without_pictures(prepared_dir: Path) -> None:
    data = PreparedData(prepared_dir)
    assert [(key.video_index, key.clip_index, key.label, key.group) for key in data.clips] == [
        (0, 0, 0, "a"),
        (0, 1, 0, "a"),
        (1, 0, 1, "a"),
        (1, 1, 0, "a"),
        (2, 0, 1, "c"),
        (2, 1, 1, "c"),
    ]
    assert data.clips[2].fake_frames == 13  # 0.00 to 0.48 s at 25 fps
    assert data.clip_indices([0, 2]) == [0, 1, 4, 5]
    assert data._stream is None


def test_clips_are_decoded_once_while_there_is_room(prepared_dir: Path) -> None:
    plain, data = PreparedData(prepared_dir), PreparedData(prepared_dir)
    size = plain[0].num_bytes
    assert size > plain[0].face.nbytes + plain[0].lip.nbytes
    assert data[0] is not data[0]
    data.keep_decoded(2.5 * size / 1e9)
    # Without its pictures a clip is not what was asked for later.
    assert len(data.record(0, pictures=False).face) == 0
    kept = [data[index] for index in range(3)]
    assert [data[index] is record for index, record in enumerate(kept)] == [True, True, False]
    for index, record in enumerate(kept):
        assert np.array_equal(record.face, plain[index].face)
    assert data.record(0, pictures=False) is kept[0]
    # Another process begins with none, and with room for as many.
    other = pickle.loads(pickle.dumps(data))
    kept = [other[index] for index in range(3)]
    assert [other[index] is record for index, record in enumerate(kept)] == [True, True, False]
    data.keep_decoded(0)
    assert data[0] is not data[0]


def test_records_fit_their_keys_in_any_order(prepared_dir: Path) -> None:
    data = PreparedData(prepared_dir)
    for index in (5, 0, 3, 2, 2, 4, 1):
        record, key = data[index], data.clips[index]
        assert (record.video, record.label) == (data.videos[key.video_index].name, key.label)
        assert (record.start_s, record.end_s) == (key.start_s, key.end_s)
        live = make_clip(seed=key.video_index, start_index=25 * key.clip_index)
        assert np.array_equal(record.waveform, live.waveform)
        assert np.abs(record.face.astype(int) - live.face).max() < 30
    with pytest.raises(IndexError):
        data[6]


def test_dataset_with_workers_gives_the_same_as_without(prepared_dir: Path) -> None:
    dataset = ClipDataset(PreparedData(prepared_dir), [4, 2, 0])
    dataset[0]
    restored = pickle.loads(pickle.dumps(dataset))
    here = list(DataLoader(dataset, batch_size=3))
    there = list(DataLoader(restored, batch_size=3, num_workers=1))
    assert here[0]["face"].shape == (3, 50, 112, 112, 3)
    assert here[0]["lip"].shape == (3, 50, 48, 48, 3)
    assert here[0]["waveform"].shape == (3, 33408)
    assert here[0]["label"].tolist() == [1, 1, 0]
    assert here[0]["index"].tolist() == [4, 2, 0]
    assert here[0]["label"].dtype == torch.int64
    for name, value in here[0].items():
        assert torch.equal(value, there[0][name]), name


def test_collate_pads_on_the_right_with_masks() -> None:
    samples = [
        {"face": torch.ones(2, 4, 4, 3), "mfcc": torch.ones(7, 40), "label": torch.tensor(1)},
        {"face": torch.ones(3, 4, 4, 3), "mfcc": torch.ones(5, 40), "label": torch.tensor(0)},
    ]
    batch = collate_padded(samples)
    assert batch["face"].shape == (2, 3, 4, 4, 3)
    assert batch["frame_mask"].tolist() == [[True, True, False], [True, True, True]]
    assert batch["audio_mask"].sum(dim=1).tolist() == [7, 5]
    assert not batch["mfcc"][1, 5:].any()
    assert not batch["face"][0, 2].any()


def copy(source: Path, target: Path) -> Path:
    target.mkdir()
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def test_verify_finds_one_changed_byte(prepared_dir: Path, tmp_path: Path) -> None:
    folder = copy(prepared_dir, tmp_path / "copy")
    result = verify(folder)
    assert (result.num_chunks, result.num_clips) == (3, 6)
    chunk = sorted(folder.glob("chunk-*.bin"))[1]
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(DataError, match=rf"1 of 3 chunks were changed:\n  - {chunk.name}"):
        verify(folder)


def test_cut_or_missing_chunks_are_noticed_on_opening(prepared_dir: Path, tmp_path: Path) -> None:
    folder = copy(prepared_dir, tmp_path / "copy")
    chunk = sorted(folder.glob("chunk-*.bin"))[0]
    chunk.write_bytes(chunk.read_bytes()[:-1])
    with pytest.raises(DataError, match=f"{chunk.name} has .* bytes instead of"):
        PreparedData(folder)
    chunk.unlink()
    with pytest.raises(DataError, match=f"{chunk.name} is missing"):
        PreparedData(folder)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"finished": False}, "preparation was not finished"),
        ({"schema_version": 99}, "schema version 99, this dfkit reads up to 1"),
        ({"spec": {"preset": "clip9s"}}, "not the data.json of prepared data"),
        ({"groups_known": None, "counts": 3}, None),
    ],
)
def test_info_that_cannot_be_used(
    prepared_dir: Path, tmp_path: Path, change: dict[str, object], expected: str | None
) -> None:
    folder = copy(prepared_dir, tmp_path / "copy")
    path = folder / catalog.DATA_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    if expected is None:
        assert len(PreparedData(folder)) == 6
    else:
        with pytest.raises(DataError, match=expected):
            PreparedData(folder)


def test_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not prepared data .*\n  Fix: dfkit prepare"):
        PreparedData(tmp_path)


def test_training_needs_labels_of_both_classes(tmp_path: Path) -> None:
    PreparedData(make_prepared(tmp_path / "both", [make_row(0, 0), make_row(1, 1)])).require_labels()
    with pytest.raises(DataError, match="no usable fake video"):
        PreparedData(make_prepared(tmp_path / "one", [make_row(0, 0)])).require_labels()
    with pytest.raises(DataError, match="prepared without labels"):
        PreparedData(make_prepared(tmp_path / "none", [make_row(0, None)])).require_labels()


@pytest.fixture
def s3_endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A local S3 server."""
    moto_server = pytest.importorskip("moto.server", reason="moto is not installed")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = moto_server.ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.mark.parametrize("cached", [False, True])
def test_s3_gives_the_same_as_disk(prepared_dir: Path, tmp_path: Path, s3_endpoint: str, *, cached: bool) -> None:
    import boto3

    boto3.client("s3", endpoint_url=s3_endpoint).create_bucket(Bucket="videos")
    upload(prepared_dir, "s3://videos/sets/one", endpoint_url=s3_endpoint)
    cache_dir = tmp_path / "cache" if cached else None
    near = PreparedData(prepared_dir)
    far = PreparedData("s3://videos/sets/one", endpoint_url=s3_endpoint, cache_dir=cache_dir)
    assert far.videos == near.videos
    for index in (4, 0, 5):
        assert np.array_equal(far[index].face, near[index].face)
        assert np.array_equal(far[index].waveform, near[index].waveform)
    if cache_dir is not None:
        assert list(cache_dir.rglob("chunk-*.bin"))


def test_s3_without_such_data(s3_endpoint: str) -> None:
    with pytest.raises(DataError, match=r"s3://nowhere/x/data\.json: cannot be read"):
        PreparedData("s3://nowhere/x", endpoint_url=s3_endpoint)
