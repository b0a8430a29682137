"""`prepare` on real files: statuses, what a second call does, workers, crashes."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from dfkit.clip import CLIP2S, UNIFORM50
from dfkit.data import executors, prepare_run
from dfkit.data import jobs as jobs_module
from dfkit.data.catalog import parse_videos
from dfkit.data.executors import run_processes
from dfkit.data.jobs import VideoJob
from dfkit.data.labels import Source
from dfkit.data.prepare import prepare
from dfkit.data.shards import CLIPS_PER_CHUNK, ChunkWriter
from dfkit.data.storage import PreparedData, verify
from dfkit.errors import DataError
from dfkit.media.faces import FaceModels
from dfkit.media.stream import read_clips
from dfkit.media.survey import Survey
from dfkit.media.video import read_frames
from tests.data.makers import make_video, prepare_or_die, prepare_or_hang, write_csv
from tests.media.face_cases import distant_head
from tests.media.media_files import tone, write_media

REAL = ("lipnet-bbaf2n.mpg", "lipnet-brbk7n.mpg")
FAKE = ("talking-face-pc-avs-00067.mp4",)


@pytest.fixture
def videos(shared: Path, tmp_path: Path) -> Path:
    """Three usable videos in class folders, one with a Korean name and a space."""
    folder = tmp_path / "videos"
    for label, names in (("real", REAL), ("fake", FAKE)):
        (folder / label).mkdir(parents=True)
        for name in names:
            shutil.copy(shared / "clips" / name, folder / label / name)
    (folder / "real" / REAL[1]).rename(folder / "real" / "영상 하나.mpg")
    return folder


def test_stored_clips_are_the_live_ones(videos: Path, tmp_path: Path) -> None:
    summary = prepare(videos, tmp_path / "out")
    assert (summary.num_videos, summary.num_prepared) == (3, 3)
    assert summary.labels == {"real": 2, "fake": 1}
    data = PreparedData(tmp_path / "out")
    row = next(row for row in data.videos if row.name == FAKE[0])
    index = data.videos.index(row)
    stored = [data[key.index] for key in data.clips if key.video_index == index]
    live = list(read_clips(videos / "fake" / FAKE[0], CLIP2S, models=FaceModels("int8")))
    assert len(stored) == len(live) > 1
    for record, clip in zip(stored, live, strict=True):
        assert (record.start_s, record.end_s) == (clip.start_s, clip.end_s)
        assert np.array_equal(record.waveform, clip.waveform)
        assert np.abs(record.landmarks - clip.landmarks).max() <= 1 / 64
        for here, there in zip(record.face, clip.face, strict=True):
            assert peak_signal_noise_ratio(there, here, data_range=255) >= 40
        assert record.label == 1
        assert record.facts is not None
        assert record.facts["codec"] == "h264"
    assert row.min_psnr_db is not None
    assert row.min_psnr_db >= 40
    # The limit of the project: 2 MB per 2 s clip.
    assert summary.size_bytes / summary.num_clips <= 2_000_000
    assert verify(tmp_path / "out").num_clips == summary.num_clips


def test_second_call_does_nothing_and_says_so(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = prepare(videos, out)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir() if not path.name.startswith(".")}
    second = prepare(videos, out)
    assert second.unchanged
    assert "nothing to do" in second.summary()[0]
    assert second.num_clips == first.num_clips
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_only_what_changed_is_prepared_again(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    names = ["real/lipnet-bbaf2n.mpg", "real/영상 하나.mpg", f"fake/{FAKE[0]}"]
    labels = [["real", "a"], ["real", "b"], ["fake", "c"]]
    header = ["path", "label", "group"]
    table = write_csv(videos / "l.csv", header, [[n, *v] for n, v in zip(names, labels, strict=True)])
    prepare(videos, out, labels=table)
    chunks = {row.name: row.chunks for row in PreparedData(out).videos}

    labels[1] = ["real", "a"]
    write_csv(table, header, [[n, *v] for n, v in zip(names, labels, strict=True)])
    assert prepare(videos, out, labels=table).num_prepared == 1
    data = PreparedData(out)
    changed = {row.name for row in data.videos if row.chunks != chunks[row.name]}
    assert changed == {"영상 하나.mpg"}
    assert data.groups == ["a", "a", "c"]
    assert len(list(out.glob("chunk-*"))) == 3

    (videos / names[0]).touch()
    assert prepare(videos, out, labels=table).num_prepared == 0

    spec = CLIP2S.model_copy(update={"hop_s": 2.0})
    assert prepare(videos, out, labels=table, spec=spec).num_prepared == 3
    assert PreparedData(out).spec == spec

    write_csv(table, header, [[n, *v] for n, v in zip(names[1:], labels[1:], strict=True)])
    assert prepare(videos, out, labels=table, spec=spec).num_videos == 2
    assert len(PreparedData(out).videos) == 2
    assert len(list(out.glob("chunk-*"))) == 2


def test_rows_say_which_detector_found_each_face(tmp_path: Path) -> None:
    videos, out = tmp_path / "videos", tmp_path / "out"
    (videos / "real").mkdir(parents=True)
    write_media(videos / "real" / "far.mp4", distant_head(60), sound=tone(2.6))
    prepare(videos, out)
    text = (out / "videos.jsonl").read_text(encoding="utf-8")
    (row,) = parse_videos(text, "videos.jsonl")
    assert row.clips and {clip.found_by for clip in row.clips} == {"full_range"}
    # Rows of before there were two detectors are read.
    (former,) = parse_videos(text.replace(', "found_by": "full_range"', ""), "videos.jsonl")
    assert {clip.found_by for clip in former.clips} == {None}


def test_data_says_which_face_models_found_its_faces(tmp_path: Path, shared: Path) -> None:
    """It was float16 whatever a student was served with, and nothing said so."""
    out = tmp_path / "out"
    (tmp_path / "real").mkdir()
    shutil.copy(shared / "clips" / REAL[0], tmp_path / "real")

    def landmarks() -> np.ndarray:
        return PreparedData(out)[0].landmarks

    assert "int8 face models" in "\n".join(prepare(tmp_path / "real", out, unlabelled=True).summary())
    assert PreparedData(out).info.face_models == "int8"
    served = landmarks()
    again = prepare(tmp_path / "real", out, unlabelled=True, faces="float16")
    assert (again.num_prepared, again.face_models, PreparedData(out).info.face_models) == (1, "float16", "float16")
    moved = np.abs(landmarks() - served).max()
    # The two sets of models differ by at most some percent of a face of about 150 pixels (docs/experiments.md).
    assert 0 < moved < 8
    # Data goes on with the variant it has, that from before the choice too, and nothing of it is prepared again.
    content = json.loads((out / "data.json").read_text(encoding="utf-8"))
    del content["face_models"]
    (out / "data.json").write_text(json.dumps(content), encoding="utf-8")
    assert PreparedData(out).info.face_models == "float16"
    assert prepare(tmp_path / "real", out, unlabelled=True).num_prepared == 0
    assert prepare(tmp_path / "real", out, unlabelled=True, faces="int8").num_prepared == 1
    assert np.array_equal(landmarks(), served)
    (out / "data.json").write_text(json.dumps({**content, "face_models": "int4"}), encoding="utf-8")
    with pytest.raises(DataError, match="face_models 'int4'"):
        PreparedData(out)


def test_damaged_chunk_is_made_again(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(videos, out)
    hashes = [chunk.sha256 for chunk in PreparedData(out).chunks()]
    sorted(out.glob("chunk-*"))[0].unlink()
    assert prepare(videos, out).num_prepared == 1
    assert [chunk.sha256 for chunk in PreparedData(out).chunks()] == hashes


def test_bad_videos_stop_nothing(videos: Path, tmp_path: Path) -> None:
    bad = videos / "fake"
    (bad / "empty.mp4").write_bytes(b"")
    (bad / "text.mp4").write_text("no video")
    make_video(bad / "no face.mp4")
    make_video(bad / "silent.mp4", sound=np.zeros(0))
    make_video(bad / "short.mp4", num_frames=25)
    whole = (bad / FAKE[0]).read_bytes()
    (bad / "truncated.mp4").write_bytes(whole[: len(whole) // 3])
    summary = prepare(videos, tmp_path / "out")
    statuses = {Path(path).name: status for path, status, _ in summary.failures}
    assert statuses == {
        "empty.mp4": "unreadable",
        "text.mp4": "unreadable",
        "no face.mp4": "no_face",
        "silent.mp4": "no_audio",
        "short.mp4": "too_short",
        "truncated.mp4": "unreadable",
    }
    assert all(reason for _, _, reason in summary.failures)
    assert summary.statuses["ok"] == 3
    data = PreparedData(tmp_path / "out")
    assert {row.name: row.status for row in data.videos if row.status != "ok"} == statuses
    assert prepare(videos, tmp_path / "out").unchanged
    assert not list((tmp_path / "out").glob(".tmp*"))


def test_nothing_usable_is_an_error_that_lists_all(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    make_video(tmp_path / "v" / "short.mp4", num_frames=25)
    (tmp_path / "v" / "text.mp4").write_text("no video")
    with pytest.raises(DataError, match=r"no video gave a clip: 2 faults\n.*too_short.*\n.*unreadable"):
        prepare(tmp_path / "v", tmp_path / "out", unlabelled=True)
    with pytest.raises(DataError, match="not finished"):
        PreparedData(tmp_path / "out")


def test_uniform50_needs_no_face_and_warns(tmp_path: Path) -> None:
    (tmp_path / "v" / "real").mkdir(parents=True)
    make_video(tmp_path / "v" / "real" / "a.mp4", num_frames=120)
    summary = prepare(tmp_path / "v", tmp_path / "out", spec=UNIFORM50)
    assert summary.num_clips == 1
    assert "give its length away" in summary.summary()[-1]
    record = PreparedData(tmp_path / "out")[0]
    assert record.face.shape == (50, 224, 224, 3)
    assert record.lip.shape == (50, 96, 96, 3)
    assert record.mfcc.shape[1] == 40
    assert len(record.waveform) == 0


def test_folder_with_other_files_is_left_alone(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.docx").write_text("years of work")
    with pytest.raises(DataError, match="holds other files and no prepared data"):
        prepare(videos, out)
    assert [path.name for path in out.iterdir() if not path.name.startswith(".")] == ["thesis.docx"]


def test_two_runs_into_one_folder(videos: Path, tmp_path: Path) -> None:
    from filelock import FileLock

    out = tmp_path / "out"
    out.mkdir()
    with FileLock(out / ".prepare.lock"), pytest.raises(DataError, match="another dfkit prepare"):
        prepare(videos, out)


def test_interval_beyond_the_end_is_refused_before_any_work(videos: Path, tmp_path: Path) -> None:
    table = write_csv(
        videos / "l.csv",
        ["path", "label", "fake_start_s", "fake_end_s"],
        [[f"fake/{FAKE[0]}", "fake", 1, 60]],
    )
    with pytest.raises(DataError, match=r"row 2: .*interval ends at 60 s"):
        prepare(videos, tmp_path / "out", labels=table)
    assert not (tmp_path / "out" / "data.json").exists()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({"executor": "slurm"}, "none of local, ray"), ({"num_workers": 0}, "needs at least 1")],
)
def test_calls_that_make_no_sense(tmp_path: Path, changes: dict[str, object], expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        prepare(tmp_path, tmp_path / "out", **changes)  # type: ignore[arg-type]


def test_a_file_that_crashes_its_decoder_costs_itself_alone(videos: Path, tmp_path: Path) -> None:
    shutil.copy(videos / "fake" / FAKE[0], videos / "fake" / "crash.mp4")
    paths = [*sorted((videos / "fake").iterdir()), videos / "real" / REAL[0]]
    jobs = [VideoJob(Source(path, 0), CLIP2S, tmp_path) for path in paths]
    rows = {Path(row.path).name: row for row in run_processes(jobs, 2, prepare_or_die)}
    assert len(rows) == 3
    assert rows["crash.mp4"].status == "unreadable"
    assert "ended the worker process twice" in (rows["crash.mp4"].reason or "")
    assert [row.status for name, row in rows.items() if name != "crash.mp4"] == ["ok"] * 2
    assert not list(tmp_path.glob(".tmp-*"))


def test_a_file_that_hangs_its_decoder_is_given_up(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(videos / "fake" / FAKE[0], videos / "fake" / "hang.mp4")
    monkeypatch.setattr(
        prepare_run, "run_jobs", lambda jobs, *, num_workers, **_: run_processes(jobs, num_workers, prepare_or_hang)
    )
    # On a busy machine the others may take any time.
    monkeypatch.setattr(executors, "time_limit_s", lambda path, _: 1.0 if path.stem == "hang" else None)
    summary = prepare(videos, tmp_path / "out")
    ((path, status, reason),) = summary.failures
    assert (Path(path).name, status) == ("hang.mp4", "unreadable")
    assert "given up after 1 s" in reason and "--timeout-s" in reason
    assert summary.statuses["ok"] == summary.num_videos - 1 >= 2
    assert not list((tmp_path / "out").glob(".tmp-*")) and not multiprocessing.active_children()
    monkeypatch.undo()
    assert prepare(videos, tmp_path / "out").num_prepared == 1, "it is tried again, and nothing else is"


def test_an_unforeseen_error_costs_one_file_alone_and_is_logged(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def read_facts(survey: Survey) -> dict[str, Any]:
        if survey.path.name == FAKE[0]:
            raise TypeError("nobody foresaw it")
        return real_facts(survey)

    real_facts = jobs_module.read_facts
    monkeypatch.setattr(jobs_module, "read_facts", read_facts)
    summary = prepare(videos, tmp_path / "out")
    ((path, status, reason),) = summary.failures
    assert (Path(path).name, status, reason) == (FAKE[0], "unreadable", "TypeError: nobody foresaw it")
    assert "Traceback" in caplog.text and "read_facts" in caplog.text
    monkeypatch.undo()
    assert prepare(videos, tmp_path / "out").statuses == {"ok": summary.num_videos}


def test_long_videos_go_to_several_chunks(tmp_path: Path) -> None:
    sample = dict.fromkeys(
        ("meta", "face", "lip", "landmarks", "times_s", "interpolated", "frame_labels", "waveform", "mfcc"),
        b"12345",
    )
    with ChunkWriter(tmp_path, "k" * 64) as writer:
        for _ in range(2 * CLIPS_PER_CHUNK + 3):
            writer.add(sample)
        chunks = writer.finish()
    assert [chunk.num_clips for chunk in chunks] == [CLIPS_PER_CHUNK, CLIPS_PER_CHUNK, 3]
    assert {path.name for path in tmp_path.iterdir()} == {chunk.file for chunk in chunks}


def test_videos_that_were_read_in_part_are_named(shared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    shutil.copy(shared / "clips" / REAL[0], folder / "whole.mpg")
    # MP4 whose index lies in front: a cut-off file still says how long it should be.
    path = write_media(
        folder / "cut.mp4",
        [rgb for _, _, rgb in read_frames(shared / "clips" / REAL[0], 25.0)],
        sound=tone(3.0),
        container_options={"movflags": "faststart"},
    )
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 8 // 10])
    summary = prepare(folder, tmp_path / "out", unlabelled=True)
    data = PreparedData(tmp_path / "out")
    row = next(row for row in data.videos if row.name == "cut.mp4")
    assert row.read_share is not None and 0.6 < row.read_share < 0.9
    assert summary.read_in_part == ((row.path, row.read_share, row.read_json()["missing"]),)
    note = "1 videos were read in part, 1 of them to less than 90%: see read in videos.jsonl"
    assert note in data.info.notes and note in summary.summary()
    assert any(line.startswith(f"  read to {row.read_share:.0%}: {row.path}: the file") for line in summary.summary())
    again = prepare(folder, tmp_path / "out", unlabelled=True)
    assert again.unchanged and again.read_in_part == summary.read_in_part
