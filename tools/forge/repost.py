"""What sharing does to a video: to show which verdicts survive re-posting. Labels stay as they were."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np

from dfkit.config.forge import TWIN
from dfkit.data.hashing import sha256_file
from dfkit.errors import DataError
from dfkit.files import whole_file
from dfkit.media.audio import read_waveform
from dfkit.media.encode import BOX_HEADER, EncodeSettings, even_size, fill_up, write_video
from dfkit.media.facts import VideoFacts, probe
from dfkit.media.video import read_frames

Repost = Literal["crf28", "crf35", "half_size", "aac32", "screen", "muted"]
REPOSTS: tuple[Repost, ...] = get_args(Repost)
# 23 is x264's own default: what is not the point of a repost is left about as it was.
PLAIN = EncodeSettings(crf=23, preset="veryfast", audio_kbps=96)
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
SCREEN_GAMMA = 1.18
SCREEN_TILT = 0.03
MOIRE_DEPTH = 0.05
SCANLINE_DEPTH = 0.03
BEZEL = (24, 24, 28)


def repost(path: Path, out_path: Path, kind: Repost) -> Path:
    """Writes one video as it comes back from being shared.

    Args:
        path: Any readable video with sound.
        out_path: MP4 file.
        kind: `crf28`, `crf35`: compressed harder. `half_size`: half the width and height. `aac32`: sound at
            32 kb/s. `screen`: filmed off a screen: perspective, moire, gamma. `muted`: a silent sound track.
    Returns:
        `out_path`.
    Raises:
        MediaError: The file cannot be read or has no sound.
        OSError: The file cannot be written.
    """
    facts = probe(path)
    sample_rate = max(rate for rate in AAC_RATES if rate <= max(8000, facts.audio_sample_rate or 8000))
    waveform = read_waveform(
        path,
        sample_rate=sample_rate,
        first_picture_s=facts.first_picture_s,
        num_samples=round(facts.duration_s * sample_rate),
    )
    if kind == "muted":
        waveform = np.zeros_like(waveform)
    frames = _frames(path, facts, kind)
    settings = replace(_settings(kind), fps=facts.fps)
    write_video(out_path, frames, waveform, sample_rate=sample_rate, settings=settings)
    return out_path


def repost_folder(out_dir: Path, *, kinds: Sequence[Repost] = REPOSTS) -> dict[str, Path]:
    """Reposts every video of a forge's folder, twins and forgeries alike, and fills those of one source up to one size.

    Constant quality spends fewer bytes on a mouth that stands still: what a file weighs would name it.

    Args:
        out_dir: What `forge` wrote.
        kinds: What is done; each goes to `reposts/<kind>/` with labels of its own.
    Returns:
        The label file by kind.
    Raises:
        DataError: The folder holds no labels.
    """
    labels = out_dir / "labels.csv"
    if not labels.is_file():
        raise DataError(f"{out_dir} holds no forged videos (labels.csv is missing)", fix="run: dfkit forge")
    with labels.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    written: dict[str, Path] = {}
    for kind in kinds:
        folder = out_dir / "reposts" / kind
        for row in rows:
            target = folder / "videos" / Path(row["path"]).name
            if not target.is_file():
                repost(out_dir / row["path"], target, kind)
        for names in _by_source(rows):
            _fill_alike([folder / "videos" / name for name in names])
        written[kind] = _copy_labels(folder / "labels.csv", rows)
    return written


def _by_source(rows: list[dict[str, str]]) -> list[list[str]]:
    """Names of the twin and the forgeries of each source."""
    names: dict[str, list[str]] = {}
    for row in rows:
        name = Path(row["path"]).name
        names.setdefault(name.removesuffix(f"-{row['method'] or TWIN}.mp4"), []).append(name)
    return list(names.values())


def _fill_alike(paths: Sequence[Path]) -> None:
    sizes = [path.stat().st_size for path in paths]
    if len(set(sizes)) == 1:
        return
    wanted = max(sizes) + BOX_HEADER
    for path, size in zip(paths, sizes, strict=True):
        fill_up(path, size, wanted)


def _copy_labels(path: Path, rows: list[dict[str, str]]) -> Path:
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, "path": f"videos/{Path(row['path']).name}"} for row in rows)
    return path


def _settings(kind: Repost) -> EncodeSettings:
    if kind == "crf28":
        return replace(PLAIN, crf=28)
    if kind == "crf35":
        return replace(PLAIN, crf=35)
    if kind == "aac32":
        return replace(PLAIN, audio_kbps=32)
    return PLAIN


def _frames(path: Path, facts: VideoFacts, kind: Repost) -> Iterator[np.ndarray]:
    # Which way the camera stands depends on the file alone, so that the same video looks the same again.
    rng = np.random.default_rng(int(sha256_file(path)[:12], 16))
    screen: _Screen | None = None
    for _, _, rgb in read_frames(path, facts.fps, num_threads=1):
        if kind == "half_size":
            size = even_size(rgb.shape[1] // 2, rgb.shape[0] // 2)
            yield cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
            continue
        width, height = even_size(rgb.shape[1], rgb.shape[0])
        rgb = np.ascontiguousarray(rgb[:height, :width])  # noqa: PLW2901 - the even part of the same picture
        if kind == "screen":
            screen = screen or _Screen(width, height, rng)
            yield screen.film(rgb)
        else:
            yield rgb


class _Screen:
    """A screen, filmed from not quite straight before it."""

    def __init__(self, width: int, height: int, rng: np.random.Generator) -> None:
        corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
        inset = rng.uniform(0.2, 1.0, size=(4, 2)) * SCREEN_TILT * np.array([width, height])
        towards = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
        self._size = (width, height)
        self._matrix = cv2.getPerspectiveTransform(corners, (corners + inset * towards).astype(np.float32))
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        # The screen's lattice seen through the camera's: slow bands where the two nearly agree.
        angle, period = float(rng.uniform(0.1, 0.4)), float(rng.uniform(7, 13))
        bands = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle) + 6 * np.sin(y / 70)) / period)
        lines = np.cos(np.pi * y)
        self._pattern = (1 + MOIRE_DEPTH * bands + SCANLINE_DEPTH * lines)[..., None].astype(np.float32)
        self._colours = np.array([1.03, 1.0, 0.94], np.float32)

    def film(self, rgb: np.ndarray) -> np.ndarray:
        """One picture, (H, W, 3) uint8."""
        lit = 255 * (rgb.astype(np.float32) / 255) ** SCREEN_GAMMA * self._pattern * self._colours
        seen = cv2.warpPerspective(
            np.clip(lit, 0, 255), self._matrix, self._size, flags=cv2.INTER_LINEAR, borderValue=BEZEL
        )
        blurred = cv2.GaussianBlur(seen, (0, 0), 0.6)
        return np.clip(blurred + 6, 0, 255).astype(np.uint8)
