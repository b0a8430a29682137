"""Writes what the tests of android_demo/ are held against: inputs, and what dfkit says of them.

    python -m tools.android.golden --bundle android_demo/build/bundle --out android_demo/build/golden

Real clips are read in place from the folder that DFKIT_SHARED names; with `none` only made-up videos are written. The
files are made anew by every build and never committed. Arrays are raw and little-endian, C order.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from dfkit.media.resample import resample
from dfkit.runtime.bundle import open_bundle
from dfkit.runtime.tensorflow_replay import QUIET
from tools.android.video_files import FileVideo, StreamVideo, write_videos

RATES = (8000, 11025, 16000, 22050, 44100, 48000, 96000)
"""Hz: what phones and files have, and what is resampled in both directions or not at all."""
GRID = "lipnet-*.mpg"
CASES = ("surround51.mp4", "sar2.mp4", "vflip.mp4", "still.mp4", "zeros.mp4", "trunc70.mp4", "nomoov.mp4", "base.3gp")
MORE = ("aniportrait-zl-gen.mp4", "linly-talker-example-answer-22b884.mp4")
LARGE = "ditto-talkinghead-clip-xchmk9joypy-p0-c0-f6905-7009.mp4"
"""1920 x 1080; of its pictures as many as a clip and a little more needs."""


def write_graph_answers(bundle_path: Path, out: Path) -> None:
    """See `tools.android.graph_answers`, which this runs in a process of its own."""
    command = [sys.executable, "-m", "tools.android.graph_answers", str(bundle_path), str(out)]
    subprocess.run(command, check=True, env={**os.environ, **QUIET})


def write_resampled(out: Path, rate_out: int) -> None:
    """A second of noise and a chirp at each rate, and the same at the model's."""
    for rate in RATES:
        rng = np.random.default_rng(rate)
        t = np.arange(round(1.1 * rate)) / rate
        waveform = (0.3 * np.sin(2 * np.pi * (200 * t + 3000 * t**2)) + 0.1 * rng.standard_normal(len(t))).astype("<f4")
        waveform.tofile(out / f"{rate}_in.f32")
        resample(waveform, rate, rate_out).astype("<f4").tofile(out / f"{rate}_out.f32")


def real_videos(shared: Path) -> list[FileVideo | StreamVideo]:
    """Clips of the shared folder, whole or changed."""
    grid = sorted((shared / "clips").glob(GRID))
    files = [*grid, *(shared / "clips" / name for name in MORE), *(shared / "cases" / name for name in CASES)]
    large = StreamVideo("large", shared / "clips" / LARGE, num_pictures=56)
    changed = [StreamVideo(name, grid[0], change=name, other=grid[1]) for name in ("rotated", "gap", "two", "no_face")]
    short = StreamVideo("too_short", grid[0], num_pictures=40)
    return [*(FileVideo(path.stem, path) for path in files), large, *changed, short]


def shared_folder() -> Path | None:
    """The folder that DFKIT_SHARED names, or the one beside the checkout; None for `none` or where there is none."""
    named = os.environ.get("DFKIT_SHARED", str(Path(__file__).resolve().parents[3] / "shared"))
    return None if named == "none" or not Path(named).is_dir() else Path(named)


def write_golden(bundle_path: Path, out: Path) -> None:
    """Writes all golden files.

    Args:
        bundle_path: Folder of a bundle.
        out: Folder; what lies there is replaced.
    """
    bundle = open_bundle(bundle_path)
    shutil.rmtree(out, ignore_errors=True)
    for part in ("graphs", "resample", "videos"):
        (out / part).mkdir(parents=True)
    write_graph_answers(bundle_path, out / "graphs")
    write_resampled(out / "resample", bundle.manifest.clip_spec.audio.sample_rate)
    golden_head = FileVideo("golden_head", Path(__file__).resolve().parents[2] / "dfkit" / "export" / "golden_head.mp4")
    shared = shared_folder()
    videos = [golden_head, *(real_videos(shared) if shared else ())]
    write_videos(bundle, videos, out / "videos")
    # Last: it says that all is there.
    _write_json(out / "golden.json", {"bundle": str(bundle_path), "videos": [video.name for video in videos]})


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    write_golden(arguments.bundle, arguments.out)
