"""Prepared data made of nothing: smooth moving pictures and noise, to measure training without a single video."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from dfkit.clip import CLIP2S, ClipSpec
from dfkit.data import catalog
from dfkit.data.catalog import ClipRow, DataInfo, VideoRow
from dfkit.data.samples import PictureCache, VideoLabels, encode_clip
from dfkit.data.shards import ChunkWriter, write_index
from dfkit.files import write_atomically
from dfkit.media.stream import Clip

METHOD = "made"


def make_synthetic_data(folder: Path, *, num_videos: int, clips_per_video: int = 1, spec: ClipSpec = CLIP2S) -> Path:
    """Writes prepared data, every second video called fake, each in a group of its own.

    Args:
        folder: New or empty.
        num_videos: Videos.
        clips_per_video: Clips of each, one second apart; the pictures they share are stored twice, as always.
        spec: A dense contract (`clip2s`).
    Returns:
        The folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = [_write_video(folder, number, clips_per_video, spec) for number in range(num_videos)]
    write_index(folder, [chunk for row in rows for chunk in row.chunks])
    catalog.write_videos(folder, rows)
    info = DataInfo(spec, catalog.now(), True, True, "made up, for measurements")
    write_atomically(folder / catalog.DATA_FILE, catalog.dump_info(info))
    return folder


def _write_video(folder: Path, number: int, num_clips: int, spec: ClipSpec) -> VideoRow:
    label = number % 2
    key = f"{number:064x}"
    sha256 = hashlib.sha256(key.encode()).hexdigest()
    group = (f"group{number}",)
    method = METHOD if label else None
    name = f"{number}.mp4"
    labels = VideoLabels(name, sha256, label, group, method, None, (), None)
    cache, clips = PictureCache(), []
    # Reversed: chunks are named by the first digits of the key.
    with ChunkWriter(folder, key[::-1]) as writer:
        for place in range(num_clips):
            clip = make_clip(number, place * spec.hop_frames, spec)
            sample = encode_clip(clip, labels, cache)
            writer.add(sample)
            clips.append(ClipRow(0, clip.start_s, clip.end_s, spec.num_frames, sum(sample["frame_labels"])))
        chunks = writer.finish()
    return VideoRow(
        key=key,
        path=f"/made/{name}",
        sha256=sha256,
        size_bytes=0,
        mtime_ns=0,
        label=label,
        groups=group,
        method=method,
        split=None,
        intervals=(),
        status="ok",
        reason=None,
        facts=None,
        clips=tuple(clips),
        chunks=chunks,
    )


def make_clip(seed: int, start_index: int, spec: ClipSpec) -> Clip:
    """A clip of a made video; overlapping clips of one seed share their pictures.

    Args:
        seed: Of the video.
        start_index: First frame on the grid.
        spec: Its sizes.
    """
    rng = np.random.default_rng((seed, start_index))
    frames = np.arange(start_index, start_index + spec.num_frames)
    points = np.random.default_rng(seed).uniform(100, 400, (1, 468, 2)) + np.sin(frames / 5)[:, None, None]
    return Clip(
        track_id=0,
        start_index=start_index,
        start_s=start_index / spec.fps,
        end_s=(start_index + spec.num_frames) / spec.fps,
        face=np.stack([_picture(seed, int(frame), spec.picture.face_px) for frame in frames]),
        lip=np.stack([_picture(seed + 1, int(frame), spec.picture.lip_px) for frame in frames]),
        landmarks=points.astype(np.float32),
        times_s=frames / spec.fps,
        interpolated=np.zeros(len(frames), bool),
        waveform=rng.uniform(-1, 1, spec.num_samples).astype(np.float32),
    )


def _picture(seed: int, frame: int, side: int) -> np.ndarray:
    y, x = np.mgrid[0:side, 0:side] / side
    waves = [np.sin(6 * x * (channel + 1) + 0.1 * frame + seed) * np.cos(5 * y + channel) for channel in range(3)]
    return np.rint(127.5 + 120 * np.stack(waves, axis=-1)).astype(np.uint8)
