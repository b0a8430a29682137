"""To look at forgeries: contact sheets and side-by-side videos."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from dfkit.config.forge import PICTURE_METHODS
from dfkit.errors import DataError
from dfkit.media.audio import read_waveform
from dfkit.media.encode import EncodeSettings, even_size, write_video
from dfkit.media.video import read_frames

SHEET_HEIGHT_PX = 200
SOUND_COLUMN_PX = 240
DIFFERENCE_GAIN = 4
FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True)
class Pair:
    """A forgery and the twin of its source."""

    method: str
    twin: Path
    forged: Path
    start_frame: int
    end_frame: int
    num_frames: int


def read_pairs(out_dir: Path) -> list[Pair]:
    """Twins and forgeries of a forge's folder.

    Args:
        out_dir: What `forge` wrote.
    Returns:
        One pair per forgery, in the order of `forged.jsonl`.
    Raises:
        DataError: The folder holds no forged videos.
    """
    index = out_dir / "forged.jsonl"
    if not index.is_file():
        raise DataError(f"{out_dir} holds no forged videos (forged.jsonl is missing)", fix="run: dfkit forge")
    entries = [json.loads(line) for line in index.read_text(encoding="utf-8").splitlines()]
    twins = {entry["source"]: out_dir / entry["path"] for entry in entries if not entry["method"]}
    return [
        Pair(e["method"], twins[e["source"]], out_dir / e["path"], e["start_frame"], e["end_frame"], e["num_frames"])
        for e in entries
        if e["method"]
    ]


def contact_sheet(pairs: Sequence[Pair], path: Path, *, columns: int = 6) -> Path:
    """Pictures of some forgeries: above the twin, in the middle the forgery, below four times their difference.

    Pictures that the forgery changed have a red edge. Where only the sound was changed, spectrograms are shown
    in the same order, with red lines at both ends of what was changed.

    Args:
        pairs: What is shown, one below the other.
        path: PNG file.
        columns: Pictures per forgery, spread over its changed stretch with one before or after it.
    Returns:
        `path`.
    Raises:
        DataError: No pairs.
    """
    if not pairs:
        raise DataError("there is no forgery to show", fix="run: dfkit forge")
    blocks = [
        _block(pair, columns) if pair.method in PICTURE_METHODS else _sound_block(pair, columns) for pair in pairs
    ]
    width = max(block.shape[1] for block in blocks)
    blocks = [cv2.copyMakeBorder(b, 0, 6, 0, width - b.shape[1], cv2.BORDER_CONSTANT) for b in blocks]
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), np.vstack(blocks)[..., ::-1]):
        raise OSError(f"{path} cannot be written")
    return path


def side_by_side(pair: Pair, path: Path) -> Path:
    """A video with the twin at the left and the forgery at the right, with the forgery's sound.

    Args:
        pair: The two.
        path: MP4 file.
    Returns:
        `path`.
    """
    waveform = read_waveform(
        pair.forged, sample_rate=16000, first_picture_s=0.0, num_samples=round(pair.num_frames * 640)
    )
    settings = EncodeSettings(video_kbps=1500)
    write_video(path, _joined(pair), waveform, sample_rate=16000, settings=settings)
    return path


def _joined(pair: Pair) -> Iterator[np.ndarray]:
    readers = (read_frames(path, 25.0, num_threads=1) for path in (pair.twin, pair.forged))
    for (index, _, left), (_, _, right) in zip(*readers, strict=False):
        marked = _edge(right.copy(), pair, index)
        joined = np.hstack([left, marked])
        width, height = even_size(joined.shape[1], joined.shape[0])
        yield np.ascontiguousarray(joined[:height, :width])


def _block(pair: Pair, columns: int) -> np.ndarray:
    shown = np.linspace(pair.start_frame, pair.end_frame - 1, columns).round().astype(int)
    if pair.end_frame < pair.num_frames:
        shown[-1] = min(pair.num_frames - 1, pair.end_frame + 2)
    rows = []
    for index, (twin, forged) in zip(shown, _pick(pair, shown), strict=True):
        difference = np.clip(DIFFERENCE_GAIN * cv2.absdiff(twin, forged).astype(int), 0, 255).astype(np.uint8)
        rows.append(np.vstack([_small(twin), _small(_edge(forged, pair, int(index))), _small(difference)]))
    return _titled(np.hstack(rows), pair)


def _sound_block(pair: Pair, columns: int) -> np.ndarray:
    twin, forged = (_spectrogram(path, pair.num_frames) for path in (pair.twin, pair.forged))
    difference = np.clip(DIFFERENCE_GAIN * np.abs(forged - twin), 0, 255)
    size = columns * SOUND_COLUMN_PX, SHEET_HEIGHT_PX
    rows = []
    for values in (twin, forged, difference):
        grey = cv2.resize(values[::-1].astype(np.uint8), size, interpolation=cv2.INTER_AREA)
        picture = cv2.applyColorMap(grey, cv2.COLORMAP_MAGMA)[..., ::-1].copy()
        for frame in (pair.start_frame, pair.end_frame):
            x = min(size[0] - 1, round(frame / pair.num_frames * size[0]))
            cv2.line(picture, (x, 0), (x, size[1]), (255, 0, 0), 2)
        rows.append(picture)
    return _titled(np.vstack(rows), pair)


def _spectrogram(path: Path, num_frames: int) -> np.ndarray:
    """(257, num_stft_frames) in [0, 255]: 80 dB below full scale to full scale."""
    waveform = read_waveform(path, sample_rate=16000, first_picture_s=0.0, num_samples=num_frames * 640)
    stft_frames = np.lib.stride_tricks.sliding_window_view(waveform, 512)[::128] * np.hanning(512)
    level_db = 20 * np.log10(np.abs(np.fft.rfft(stft_frames, axis=1)) / 128 + 1e-6)
    return np.clip((level_db.T + 80) / 80, 0, 1) * 255


def _titled(sheet: np.ndarray, pair: Pair) -> np.ndarray:
    label = f"{pair.method}  {pair.forged.name}  frames {pair.start_frame}-{pair.end_frame}"
    title = np.zeros((22, sheet.shape[1], 3), np.uint8)
    cv2.putText(title, label, (4, 16), FONT, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    return np.vstack([title, sheet])


def _pick(pair: Pair, shown: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    wanted = {int(index) for index in shown}
    found = []
    for path in (pair.twin, pair.forged):
        found.append({i: rgb.copy() for i, _, rgb in read_frames(path, 25.0, num_threads=1) if i in wanted})
    return [(found[0][int(index)], found[1][int(index)]) for index in shown]


def _edge(rgb: np.ndarray, pair: Pair, index: int) -> np.ndarray:
    if pair.start_frame <= index < pair.end_frame:
        cv2.rectangle(rgb, (0, 0), (rgb.shape[1] - 1, rgb.shape[0] - 1), (255, 0, 0), 4)
    return rgb


def _small(rgb: np.ndarray) -> np.ndarray:
    width = round(rgb.shape[1] * SHEET_HEIGHT_PX / rgb.shape[0])
    return cv2.resize(rgb, (width, SHEET_HEIGHT_PX), interpolation=cv2.INTER_AREA)
