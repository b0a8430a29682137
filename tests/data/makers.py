"""Makes small videos, label files, clips and prepared data for the tests."""

from __future__ import annotations

import csv
import hashlib
import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np

from dfkit.clip import CLIP2S, ClipSpec
from dfkit.data import catalog
from dfkit.data.catalog import ChunkRow, ClipRow, DataInfo, VideoRow
from dfkit.data.jobs import VideoJob, prepare_video
from dfkit.data.samples import PictureCache, VideoLabels, encode_clip
from dfkit.data.shards import ChunkWriter, write_index
from dfkit.files import write_atomically
from dfkit.media.stream import Clip


def make_video(
    path: Path,
    *,
    num_frames: int = 75,
    fps: int = 25,
    size: tuple[int, int] = (96, 64),
    sound: np.ndarray | None = None,
    sample_rate: int = 16000,
    seed: int = 0,
) -> Path:
    """A video of moving colours (no face) with sound, H.264 or MPEG-4 as the container wants.

    Args:
        path: Its suffix chooses the container.
        num_frames: Pictures.
        fps: Pictures per second.
        size: Width and height, even.
        sound: (N,) in [-1, 1]; noise as long as the pictures when left out, none when empty.
        sample_rate: Hz.
        seed: Of colours and noise.
    """
    generator = np.random.default_rng(seed)
    if sound is None:
        sound = generator.uniform(-0.3, 0.3, num_frames * sample_rate // fps)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=fps, options={"crf": "10"})
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        audio = container.add_stream("aac", rate=sample_rate, layout="mono") if len(sound) else None
        colours = generator.integers(0, 255, (4, 4, 3)).astype(np.float64)
        for index in range(num_frames):
            picture = np.kron(np.roll(colours, index, axis=0), np.ones((size[1] // 4, size[0] // 4, 1)))
            frame = av.VideoFrame.from_ndarray(picture.astype(np.uint8), format="rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            block = av.AudioFrame.from_ndarray(sound.astype(np.float32)[None], format="fltp", layout="mono")
            block.sample_rate = sample_rate
            container.mux(audio.encode(block))
            container.mux(audio.encode(None))
    return path


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    """A label file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def make_clip(*, seed: int = 0, start_index: int = 0, track_id: int = 0, spec: ClipSpec = CLIP2S) -> Clip:
    """A clip of smooth pictures; frames and sound of overlapping clips of one seed are equal."""
    before = start_index * spec.audio.hop_length
    frames = np.arange(start_index, start_index + spec.num_frames)
    generator = np.random.default_rng(seed)
    landmarks = generator.uniform(100, 400, (1, 468, 2)) + frames[:, None, None]
    return Clip(
        track_id=track_id,
        start_index=start_index,
        start_s=start_index / spec.fps,
        end_s=(start_index + spec.num_frames) / spec.fps,
        face=np.stack([_smooth_picture(seed, int(i), spec.picture.face_px) for i in frames]),
        lip=np.stack([_smooth_picture(seed + 1, int(i), spec.picture.lip_px) for i in frames]),
        landmarks=landmarks.astype(np.float32),
        times_s=frames / spec.fps,
        interpolated=frames % 10 == 3,
        waveform=generator.uniform(-1, 1, before + spec.num_samples)[before:].astype(np.float32),
    )


def _smooth_picture(seed: int, index: int, side: int) -> np.ndarray:
    y, x = np.mgrid[0:side, 0:side] / side
    waves = [np.sin(6 * x * (channel + 1) + 0.1 * index + seed) * np.cos(5 * y + channel) for channel in range(3)]
    return np.rint(127.5 + 120 * np.stack(waves, axis=-1)).astype(np.uint8)


def make_row(index: int, label: int | None, groups: Sequence[str] = (), **changes: Any) -> VideoRow:
    """A catalog row with one clip and no chunk."""
    values: dict[str, Any] = {
        "key": f"{index:064x}",
        "path": f"/videos/{index}.mp4",
        "sha256": hashlib.sha256(str(index).encode()).hexdigest(),
        "size_bytes": 1000 + index,
        "mtime_ns": 1,
        "label": label,
        "groups": tuple(groups),
        "method": "swap" if label else None,
        "split": None,
        "intervals": (),
        "status": "ok",
        "reason": None,
        "facts": {"duration_s": 2.0},
        "clips": (ClipRow(0, 0.0, 2.0, 50, 50 if label else 0),),
    }
    return VideoRow(**{**values, **changes})


class CatalogOnly:
    """What splits need of prepared data, without any file."""

    def __init__(self, rows: Sequence[VideoRow], *, groups_known: bool = True) -> None:
        self.videos = list(rows)
        self.groups_known = groups_known
        self.groups = catalog.group_names(self.videos)

    def require_labels(self) -> None:
        """Labels are there by construction."""


def make_prepared(folder: Path, rows: Sequence[VideoRow], *, clips: int = 1, spec: ClipSpec = CLIP2S) -> Path:
    """A prepared data set of smooth clips, `clips` per row."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = []
    for index, row in enumerate(rows):
        labels = VideoLabels(
            row.name, row.sha256, row.label, row.groups, row.method, row.split, row.intervals, row.facts
        )
        cache = PictureCache()
        clip_rows = []
        with ChunkWriter(folder, row.key[::-1]) as writer:
            for number in range(clips):
                clip = make_clip(seed=index, start_index=25 * number, spec=spec)
                sample = encode_clip(clip, labels, cache)
                writer.add(sample)
                clip_rows.append(ClipRow(0, clip.start_s, clip.end_s, spec.num_frames, sum(sample["frame_labels"])))
            chunks = writer.finish()
        values = {**vars(row), "clips": tuple(clip_rows), "chunks": chunks}
        whole.append(VideoRow(**values))
    write_index(folder, [chunk for row in whole for chunk in row.chunks])
    catalog.write_videos(folder, whole)
    info = DataInfo(spec, catalog.now(), True, all(row.groups for row in rows), "made for a test")
    write_atomically(folder / catalog.DATA_FILE, catalog.dump_info(info))
    return folder


def prepare_or_die(job: VideoJob) -> VideoRow:
    """As a decoder that crashes on files named `crash*`; runs in a worker process."""
    if job.source.path.name.startswith("crash"):
        os.kill(os.getpid(), signal.SIGKILL)
    return prepare_video(job)


def prepare_or_hang(job: VideoJob) -> VideoRow:
    """As a decoder that never comes back from files named `hang*`; runs in a worker process."""
    if job.source.path.name.startswith("hang"):
        # What a killed worker was writing is not left behind.
        (job.out_dir / f".tmp-{os.getpid()}-half").mkdir()
        threading.Event().wait()
    return prepare_video(job)


def prepare_and_die_once(job: VideoJob) -> VideoRow:
    """Ends its process between writing and renaming the first chunk of all; the marker makes it once."""
    marker = job.out_dir / ".died"
    publish = ChunkWriter._publish

    def die(writer: ChunkWriter, number: int, chunk: dict[str, Any]) -> ChunkRow:
        try:
            marker.touch(exist_ok=False)
        except FileExistsError:
            return publish(writer, number, chunk)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("unreachable")

    ChunkWriter._publish = die  # type: ignore[method-assign]
    try:
        return prepare_video(job)
    finally:
        ChunkWriter._publish = publish  # type: ignore[method-assign]
