"""Reads a source video into memory, in the size, rate and sound in which everything is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from dfkit.clip import CLIP2S, NUM_LANDMARKS
from dfkit.config.forge import ForgeConfig
from dfkit.errors import MediaError
from dfkit.media.audio import read_waveform
from dfkit.media.encode import even_size
from dfkit.media.faces import FaceModels
from dfkit.media.track import FaceTracker
from dfkit.media.video import PictureReader

MAX_GAP_FRAMES = CLIP2S.max_gap_frames
# Landmarks tremble by a fraction of a pixel from picture to picture; a pasted face would tremble with them.
SMOOTH_SIGMA_FRAMES = 1.0
MIN_FACE_SHARE = 0.8
MIN_SOUND_DBFS = -70.0


@dataclass(frozen=True)
class Footage:
    """Pictures, sound and the landmarks of the main face of one video."""

    frames: list[np.ndarray]
    """(H, W, 3) uint8 RGB each, even sizes, at the configuration's fps."""
    waveform: np.ndarray
    """(num_samples,) float32, exactly as long as the pictures."""
    landmarks: np.ndarray
    """(num_frames, 468, 2) float32, pixels of `frames`; NaN where no face is."""

    @property
    def has_face(self) -> np.ndarray:
        """Whether the main face is known in each picture, (num_frames,) bool."""
        return ~np.isnan(self.landmarks[:, 0, 0])


def load_footage(path: Path, config: ForgeConfig, models: FaceModels) -> Footage:
    """Reads a video for forging.

    Pictures without sound beside them, at the start or the end, are cut off: a sound that is shifted
    around would carry their silence into the middle.

    Args:
        path: Media file.
        config: Size, rate and length.
        models: The face networks.
    Returns:
        The footage.
    Raises:
        MediaError: `unreadable`, `no_audio`, `too_short`, or `no_face` (also: too small or too seldom).
    """
    frames, first_picture_s = _read_pictures(path, config)
    per_frame = config.sample_rate / config.fps
    waveform = read_waveform(
        path,
        sample_rate=config.sample_rate,
        first_picture_s=first_picture_s,
        num_samples=round(len(frames) * per_frame),
    )
    start, end = _sounding_frames(waveform, per_frame, len(frames), path)
    frames = frames[start:end]
    waveform = waveform[round(start * per_frame) : round(end * per_frame)]
    if len(frames) < CLIP2S.num_frames:
        raise MediaError(
            f"{path}: {len(frames) / config.fps:.2f} s with picture and sound, at least {CLIP2S.clip_s:g} s are needed",
            status="too_short",
        )
    return Footage(frames, waveform, _track_main_face(path, frames, models, config.min_face_px))


def _read_pictures(path: Path, config: ForgeConfig) -> tuple[list[np.ndarray], float]:
    reader = PictureReader(path, config.fps, num_threads=1)
    frames: list[np.ndarray] = []
    for index, _, picture in reader:
        if index >= round(config.max_seconds * config.fps):
            break
        frames.append(_fit(picture.rgb(), config.max_side_px))
    return frames, reader.first_picture_s or 0.0


def _fit(rgb: np.ndarray, max_side_px: int) -> np.ndarray:
    """Scaled to the largest side that is allowed, cut to even sizes; always a copy."""
    height, width = rgb.shape[:2]
    shrink = min(1.0, max_side_px / max(height, width))
    if shrink < 1:
        size = even_size(round(width * shrink), round(height * shrink))
        return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    even_width, even_height = even_size(width, height)
    return np.ascontiguousarray(rgb[:even_height, :even_width]).copy()


def _sounding_frames(waveform: np.ndarray, per_frame: float, num_frames: int, path: Path) -> tuple[int, int]:
    """First frame and end of the stretch that has sound: samples that are not exactly zero."""
    sounding = np.flatnonzero(waveform)
    level = np.sqrt(np.mean(np.square(waveform, dtype=np.float64))) if len(waveform) else 0.0
    if not level > 10 ** (MIN_SOUND_DBFS / 20):
        raise MediaError(f"{path}: its sound is silent (below {MIN_SOUND_DBFS:g} dBFS)", status="no_audio")
    start = int(np.ceil(sounding[0] / per_frame))
    return start, min(num_frames, int((sounding[-1] + 1) / per_frame + 0.01))


def _track_main_face(path: Path, frames: list[np.ndarray], models: FaceModels, min_face_px: int) -> np.ndarray:
    tracker = FaceTracker(models, max_faces=CLIP2S.track.max_faces, max_missing=MAX_GAP_FRAMES)
    tracks: dict[int, np.ndarray] = {}
    empty = np.full((len(frames), NUM_LANDMARKS, 2), np.nan, np.float32)
    for index, rgb in enumerate(frames):
        for face in tracker.update(rgb).faces:
            tracks.setdefault(face.track_id, empty.copy())[index] = face.landmarks
    if not tracks:
        raise MediaError(f"{path}: no face was found", status="no_face")
    # The face that is large for long; ties go to the first one seen.
    main = max(sorted(tracks), key=lambda track_id: float(np.nansum(face_widths(tracks[track_id]))))
    landmarks = tracks[main]
    width = float(np.nanmedian(face_widths(landmarks)))
    if not width >= min_face_px:
        raise MediaError(
            f"{path}: the face is {width:.0f} px wide, at least {min_face_px} px are needed", status="no_face"
        )
    landmarks = _fill_gaps(landmarks)
    share = float(np.mean(~np.isnan(landmarks[:, 0, 0])))
    if share < MIN_FACE_SHARE:
        raise MediaError(
            f"{path}: its face is seen in {share:.0%} of the pictures, {MIN_FACE_SHARE:.0%} are needed",
            status="no_face",
        )
    return _smooth(landmarks)


def face_widths(landmarks: np.ndarray) -> np.ndarray:
    """Width of the face in each picture, (num_frames,); NaN where none is."""
    return landmarks[:, :, 0].max(axis=1) - landmarks[:, :, 0].min(axis=1)


def _fill_gaps(landmarks: np.ndarray) -> np.ndarray:
    """Interpolates gaps inside and holds the ends, up to the clip contract's longest gap."""
    seen = np.flatnonzero(~np.isnan(landmarks[:, 0, 0]))
    index = np.arange(len(landmarks))
    flat = landmarks.reshape(len(landmarks), -1)
    filled = np.stack([np.interp(index, seen, column[seen]) for column in flat.T], axis=1)
    before = seen[np.clip(np.searchsorted(seen, index, side="right") - 1, 0, None)]
    after = seen[np.clip(np.searchsorted(seen, index), None, len(seen) - 1)]
    # Before the first and after the last sighting the nearest one is held: the distance to it counts as the gap.
    gap = after - before - 1
    gap = np.where(after < index, index - before, gap)
    gap = np.where(before > index, after - index, gap)
    filled[gap > MAX_GAP_FRAMES] = np.nan
    return filled.reshape(landmarks.shape).astype(np.float32)


def _smooth(landmarks: np.ndarray) -> np.ndarray:
    """Gaussian over time that looks neither into gaps nor beyond the ends."""
    radius = int(3 * SMOOTH_SIGMA_FRAMES)
    total, weights = np.zeros_like(landmarks), np.zeros((len(landmarks), 1, 1), np.float32)
    known = ~np.isnan(landmarks[:, :1, :1])
    values = np.where(known, landmarks, 0)
    for offset in range(-radius, radius + 1):
        weight = np.float32(np.exp(-0.5 * (offset / SMOOTH_SIGMA_FRAMES) ** 2))
        target = slice(max(0, -offset), len(landmarks) - max(0, offset))
        origin = slice(max(0, offset), len(landmarks) - max(0, -offset))
        total[target] += weight * values[origin]
        weights[target] += weight * known[origin]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known, total / weights, np.nan).astype(np.float32)
