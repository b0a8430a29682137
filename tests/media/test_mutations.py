"""Damaged files, seeded: each gets a status, none crashes, hangs or eats memory."""

from __future__ import annotations

import collections
import json
import queue
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from .face_cases import synthetic_head
from .media_files import tone, write_media

NUM_FILES, NUM_FILES_LONG = 60, 300
HANGS_S = 120.0
"""Only ends a test that would wait for ever; no file comes near it."""
MAX_MEMORY_MB = 1500
STATUSES = ("ok", "no_face", "no_audio", "too_short", "unreadable")
WORKER = """
import json, sys
from dfkit.benchmarks.cold_start import resident_mb
from dfkit.errors import MediaError
from dfkit.media.facts import probe
from dfkit.media.faces import FaceModels
from dfkit.media.stream import read_clips
models = FaceModels()
for line in sys.stdin:
    path = line.rstrip("\\n")
    try:
        try:
            probe(path)
        except MediaError:
            pass
        status = "ok" if sum(1 for _ in read_clips(path, models=models, num_threads=1)) else "nothing"
    except MediaError as error:
        status = error.status
    except BaseException as error:
        status = f"{type(error).__name__}: {error}"
    # Not ru_maxrss: a child of a large test process would report its parent's peak.
    peak_mb = resident_mb("VmHWM")
    print(json.dumps([status, peak_mb]), flush=True)
"""
INDEX_BOXES = (
    b"stsz",
    b"stco",
    b"stts",
    b"stsc",
    b"ctts",
    b"elst",
    b"mdhd",
    b"tkhd",
    b"avcC",
    b"stsd",
    b"hdlr",
    b"trak",
)


def make_bases(folder: Path) -> dict[str, list[Path]]:
    """Whole files by the status that they have before they are damaged."""
    heads = list(synthetic_head(56, size=192))
    blank = [np.full((96, 96, 3), 90, np.uint8)] * 52
    fast = {"movflags": "faststart"}
    sound = tone(2.3)
    mpeg = {"codec": "mpeg1video", "options": {"b": "1500000"}, "sound_codec": "mp2"}
    make = write_media
    return {
        "ok": [
            make(folder / "a.mp4", heads, sound=sound, container_options=fast),
            make(folder / "b.mp4", heads, sound=sound),
            make(folder / "c.mkv", heads, sound=sound),
            make(folder / "d.mpg", heads, sound=sound, **mpeg),
            make(folder / "e.mov", heads, sound=sound, codec="mpeg4", options={"b": "1500000"}, container_options=fast),
            make(
                folder / "f.webm",
                heads,
                sound=tone(2.3, sample_rate=48000),
                sample_rate=48000,
                codec="libvpx",
                options={"deadline": "realtime", "b": "1500000"},
                sound_codec="libopus",
            ),
        ],
        "no_face": [make(folder / "g.mp4", blank, sound=sound, container_options=fast)],
        "no_audio": [make(folder / "h.mp4", heads, container_options=fast), make(folder / "i.mkv", heads)],
        "too_short": [make(folder / "j.mp4", heads[:30], sound=tone(1.2), container_options=fast)],
        "unreadable": [make(folder / "k.mp4", sound=sound)],
    }


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """One of eight kinds of damage."""
    data = bytearray(content)
    size = len(data)
    kind = int(rng.integers(8))
    if kind == 0:  # cut off
        return bytes(data[: int(rng.integers(1, size))])
    if kind == 1:  # single bytes anywhere
        for place in rng.integers(0, size, int(rng.integers(1, 40))):
            data[place] = int(rng.integers(256))
    elif kind == 2:  # single bytes in the header
        for place in rng.integers(0, min(size, 2048), int(rng.integers(1, 12))):
            data[place] = int(rng.integers(256))
    elif kind == 3:  # a stretch of zeros
        start = int(rng.integers(size))
        end = min(size, start + int(rng.integers(1, 20_000)))
        data[start:end] = bytes(end - start)
    elif kind == 4:  # two stretches swapped
        length = int(rng.integers(1, size // 3))
        data[:length], data[-length:] = data[-length:], data[:length]
    elif kind in {5, 6}:  # numbers in the index
        _damage_index(data, rng)
    else:  # a stretch left out
        start = int(rng.integers(size))
        del data[start : start + int(rng.integers(1, 5000))]
    return bytes(data)


def _damage_index(data: bytearray, rng: np.random.Generator) -> None:
    present = [name for name in INDEX_BOXES if name in data]
    extremes = [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", bytes(4), b"\x00\x00\x75\x30", rng.bytes(4)]
    for _ in range(int(rng.integers(1, 4))):
        word = extremes[int(rng.integers(len(extremes)))]
        if present:
            start = data.index(present[int(rng.integers(len(present)))]) + 4 * int(rng.integers(-1, 12))
        else:
            start = int(rng.integers(min(len(data), 4096)))
        data[max(start, 0) : max(start, 0) + 4] = word


class Child:
    """A process that answers one line per path."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def ask(self, path: Path, *, limit_s: float = HANGS_S) -> tuple[str, int]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        try:
            answer = self._answers.get(timeout=limit_s)
        except queue.Empty:
            pytest.fail(f"{path} hangs for more than {limit_s} s")
        if not answer:
            pytest.fail(f"{path} crashed the process: exit code {self.process.wait()}")
        status, peak_mb = json.loads(answer)
        return status, peak_mb

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=30)


@pytest.mark.parametrize("num_files", [NUM_FILES, pytest.param(NUM_FILES_LONG, marks=pytest.mark.long)])
def test_damaged_files(tmp_path: Path, num_files: int) -> None:
    bases = make_bases(tmp_path)
    rng = np.random.default_rng(20240607)
    # Most damage is done to good files; the rest makes sure that every status comes up under damage.
    kinds = rng.choice(list(bases), num_files, p=[0.6, 0.12, 0.12, 0.12, 0.04])
    child, histogram, peak = Child(), collections.Counter(), 0
    for name, paths in bases.items():
        assert child.ask(paths[0])[0] == name, "the undamaged file"
    for number, kind in enumerate(kinds):
        base = bases[kind][int(rng.integers(len(bases[kind])))]
        path = tmp_path / f"mutated-{number}-{base.stem}{base.suffix}"
        path.write_bytes(damage(base.read_bytes(), rng))
        status, peak_mb = child.ask(path)
        assert status in STATUSES, f"{path}: {status}"
        histogram[status] += 1
        peak = max(peak, peak_mb)
        path.unlink()
    child.close()
    print(dict(histogram), f"peak {peak} MB")
    assert sum(histogram.values()) == num_files
    assert min(histogram[status] for status in STATUSES) >= num_files // 30, histogram
    assert peak < MAX_MEMORY_MB
