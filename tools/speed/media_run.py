"""Measures preparation in a process of its own: `python -m tools.speed.media_run TASK ...`.

Each task prints one line of JSON. The process has one thread, so that seconds are those of one core. The
function that is timed is `prepare_video`, the one that `dfkit prepare` maps over videos: facts, pictures,
faces, crops, sound, storage, hashes. The clock is the processor's (time.process_time), which goes on only while
the process runs; wall clock stands beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

STAGES = ("decode", "colours", "detection", "landmarks", "tracking", "crops", "sound", "facts", "writing", "rest")
STAGE_NAMES = {
    "decode": "decoding",
    "colours": "colour conversion",
    "detection": "face detection",
    "landmarks": "landmarks",
    "tracking": "tracking and smoothing",
    "crops": "crops",
    "sound": "sound",
    "facts": "file facts",
    "writing": "writing (JPEG, shards, hashes)",
    "rest": "the rest",
}
FACE_PX, LIP_PX, N_MFCC, HOP_LENGTH, SAMPLE_RATE = 224, 96, 40, 640, 16000


class CpuWatch:
    """Adds up processor time by stage; a stage inside another counts for the inner one only."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._stack: list[str] = []
        self._since = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts the block for a stage."""
        self._charge()
        self._stack.append(name)
        try:
            yield
        finally:
            self._charge()
            self._stack.pop()

    def _charge(self) -> None:
        now = time.process_time()
        if self._stack:
            self.seconds[self._stack[-1]] += now - self._since
        self._since = now

    def time_calls(self, owner: Any, name: str, stage: str) -> None:
        """Puts a timed function in the place of one; this process does nothing but measure."""
        function: Callable[..., Any] = getattr(owner, name)

        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.stage(stage):
                return function(*args, **kwargs)

        setattr(owner, name, timed)

    def time_items(self, owner: Any, name: str, stage: str) -> None:
        """The same for a generator: what it does for each item."""
        function: Callable[..., Iterator[Any]] = getattr(owner, name)

        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Iterator[Any]:
            items = function(*args, **kwargs)
            while True:
                with self.stage(stage):
                    item = next(items, None)
                if item is None:
                    return
                yield item

        setattr(owner, name, timed)


def watch_stages() -> CpuWatch:
    """Puts a clock around each stage of `prepare_video`."""
    from dfkit.data import jobs, shards
    from dfkit.media import audio, picture, stream, track, video

    watch = CpuWatch()
    watch.time_items(video, "decode_frames", "decode")
    watch.time_calls(picture.PictureMaker, "make", "colours")
    watch.time_calls(track, "detect_faces", "detection")
    watch.time_calls(track, "find_landmarks", "landmarks")
    watch.time_calls(stream.FaceStream, "push", "tracking")
    watch.time_calls(stream.FaceStream, "_finish", "tracking")
    watch.time_calls(stream, "crop_square", "crops")
    watch.time_calls(audio.SoundReader, "__enter__", "sound")
    watch.time_calls(audio.SoundReader, "read", "sound")
    watch.time_calls(jobs, "read_facts", "facts")
    watch.time_calls(jobs, "encode_clip", "writing")
    watch.time_calls(jobs, "sha256_file", "writing")
    watch.time_calls(shards.ChunkWriter, "add", "writing")
    watch.time_calls(shards.ChunkWriter, "finish", "writing")
    return watch


def prepare_once(video: Path) -> tuple[float, float]:
    """Prepares a video into a folder that is thrown away; seconds of processor and of wall clock.

    Raises:
        RuntimeError: No clip came out of it: then its time means nothing.
    """
    from dfkit.clip import CLIP2S
    from dfkit.data.jobs import VideoJob, prepare_video
    from dfkit.data.labels import Source

    folder = Path(tempfile.mkdtemp(prefix="dfkit-speed-"))
    try:
        cpu, wall = time.process_time(), time.perf_counter()
        row = prepare_video(VideoJob(Source(path=video, label=0), CLIP2S, folder))
        spent = time.process_time() - cpu, time.perf_counter() - wall
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if not row.clips:
        raise RuntimeError(f"{video}: {row.status}: {row.reason}")
    return spent


def run_speed(videos: list[Path], sound: Path, *, repeats: int, reference_pictures: int) -> dict[str, Any]:
    """Times preparation and the reference way in turns, video by video."""
    watch = watch_stages()
    for video in videos:
        prepare_once(video)
    reference_sound_s(sound)
    runs: dict[str, list[dict[str, Any]]] = {str(video): [] for video in videos}
    for _ in range(repeats):
        for video in videos:
            watch.seconds = dict.fromkeys(STAGES, 0.0)
            with watch.stage("rest"):
                cpu_s, wall_s = prepare_once(video)
            run: dict[str, Any] = {"cpu_s": cpu_s, "wall_s": wall_s, "stages_s": watch.seconds}
            capture_s, haar_s, pictures = reference_pictures_s(video, reference_pictures)
            run |= {"capture_s": capture_s, "haar_s": haar_s, "reference_pictures": pictures}
            runs[str(video)].append(run | {"librosa_s": reference_sound_s(sound)})
    return {"runs": runs}


def reference_pictures_s(video: Path, limit: int) -> tuple[float, float, int]:
    """The usual way to read faces: OpenCV's capture, the Haar cascade on each picture, two resized crops.

    Returns:
        Processor seconds of capture and crops, of the cascade, and the number of pictures they are for.
    """
    import cv2

    from dfkit.media.uniform50 import HAAR_MIN_PX, HAAR_NEIGHBOURS, HAAR_SCALE, face_cascade

    cascade = face_cascade()
    capture = cv2.VideoCapture(str(video), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    haar_s, count, started = 0.0, 0, time.process_time()
    while count < limit:
        read, picture = capture.read()
        if not read:
            break
        rgb = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
        before = time.process_time()
        grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
        faces = cascade.detectMultiScale(
            grey, scaleFactor=HAAR_SCALE, minNeighbors=HAAR_NEIGHBOURS, minSize=(HAAR_MIN_PX, HAAR_MIN_PX)
        )
        haar_s += time.process_time() - before
        for x, y, width, height in faces[:1]:
            cv2.resize(rgb[y : y + height, x : x + width], (FACE_PX, FACE_PX))
            cv2.resize(rgb[y + height // 2 : y + height, x : x + width], (LIP_PX, LIP_PX))
        count += 1
    capture.release()
    if not count:
        raise RuntimeError(f"{video}: OpenCV reads no picture of it")
    return time.process_time() - started - haar_s, haar_s, count


def reference_sound_s(sound: Path) -> float:
    """Processor seconds of librosa for a WAV file: load, resample, MFCC. It cannot read the MP4 itself."""
    import librosa

    started = time.process_time()
    waveform, rate = librosa.load(str(sound), sr=SAMPLE_RATE)
    librosa.feature.mfcc(y=waveform, sr=rate, n_mfcc=N_MFCC, hop_length=HOP_LENGTH)
    return time.process_time() - started


def run_memory(video: Path) -> dict[str, Any]:
    """Peak memory of preparing one video."""
    from litdata.streaming.writer import BinaryWriter

    from dfkit.benchmarks.cold_start import resident_mb
    from dfkit.clip import DEFAULT_FACES
    from dfkit.data.jobs import face_models

    face_models(DEFAULT_FACES)
    assert BinaryWriter is not None, "loaded before, so that the baseline holds its packages"
    baseline_mb = resident_mb("VmRSS")
    prepare_once(video)
    return {"baseline_mb": baseline_mb, "peak_mb": resident_mb("VmHWM")}


def run_workers(folder: Path, num_workers: int) -> dict[str, Any]:
    """Prepares a folder with some workers, start-up and all."""
    from dfkit.data.prepare import prepare
    from dfkit.data.storage import PreparedData

    with tempfile.TemporaryDirectory(prefix="dfkit-speed-") as out:
        before, started = os.times(), time.perf_counter()
        prepare(folder, Path(out) / "data", num_workers=num_workers, progress=False)
        wall_s, after = time.perf_counter() - started, os.times()
        videos_s = [row.wall_s for row in PreparedData(Path(out) / "data").videos]
    cpu_s = sum(after[:4]) - sum(before[:4])
    return {"wall_s": wall_s, "cpu_s": cpu_s, "videos_s": videos_s}


def main(argv: list[str] | None = None) -> None:
    """Runs one task and prints one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=("speed", "memory", "workers"))
    parser.add_argument("paths", type=Path, nargs="+")
    parser.add_argument("--sound", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--reference-pictures", type=int, default=50)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args(argv)
    import cv2

    cv2.setNumThreads(1)
    if arguments.task == "speed":
        result = run_speed(
            arguments.paths,
            arguments.sound,
            repeats=arguments.repeats,
            reference_pictures=arguments.reference_pictures,
        )
    elif arguments.task == "memory":
        result = run_memory(arguments.paths[0])
    else:
        result = run_workers(arguments.paths[0], arguments.workers)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
