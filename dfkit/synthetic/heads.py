"""Synthetic talking heads: videos with faces that no person has, and with sound that fits their lips.

They exist so that every stage can be shown and tested anywhere. They prove nothing about real faces.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from dfkit.files import open_text, whole_file
from dfkit.media.encode import EncodeSettings, write_video
from dfkit.synthetic.face_warp import Mouth, Pose, close_eye, move_mouth, paint_mouth
from dfkit.synthetic.portrait import CANVAS_HEIGHT, CANVAS_WIDTH, Head, make_head
from dfkit.synthetic.scenery import MARGIN, Scenery, make_scenery
from dfkit.synthetic.speakers import Speaker, make_speakers
from dfkit.synthetic.voice import Speech, VoiceSettings, speak

FPS = 25.0
WIDTH_PX, HEIGHT_PX = 384, 320
SAMPLE_RATE = 32000
ENCODING = EncodeSettings(fps=FPS, video_kbps=900, audio_kbps=96)
BLINK_S = 0.28
NOISE_SIGMA = 1.6


@dataclass(frozen=True)
class Motion:
    """Movements of head and camera, one value per picture; angles in radians, shifts in canvas pixels."""

    head_x: np.ndarray
    head_y: np.ndarray
    roll: np.ndarray
    yaw: np.ndarray
    pitch: np.ndarray
    camera_x: np.ndarray
    camera_y: np.ndarray
    zoom: np.ndarray
    blink: np.ndarray


def make_heads(
    out_dir: Path,
    *,
    num_speakers: int = 8,
    videos_per_speaker: int = 1,
    seconds: float = 4.0,
    seed: int = 0,
    width: int = WIDTH_PX,
    height: int = HEIGHT_PX,
) -> list[Path]:
    """Writes talking-head videos and their labels.

    A video that is already there, made by the same call, is kept. Beside the videos lies `labels.csv`
    (path, label = real, group = the speaker's name).

    Args:
        out_dir: Folder; made if needed.
        num_speakers: People; the first eight are presets, further ones vary them.
        videos_per_speaker: Each with words, movements and framing of its own.
        seconds: Length of each video.
        seed: Decides all that is random.
        width: Pixels, even.
        height: Pixels, even.
    Returns:
        The videos, speaker by speaker.
    Raises:
        MissingExtraError: scikit-image, which holds the portrait, is not installed.
    """
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    settings = {"seconds": seconds, "seed": seed, "width": width, "height": height, "version": 1}
    rows = []
    for number, speaker in enumerate(make_speakers(num_speakers, seed=seed)):
        for take in range(videos_per_speaker):
            path = out_dir / f"{speaker.name}-{take}.mp4"
            video_settings = {**settings, "speaker": number, "take": take}
            stamp = path.with_suffix(".json")
            if not (path.is_file() and stamp.is_file() and json.loads(stamp.read_text()) == video_settings):
                stamp.unlink(missing_ok=True)
                make_head_video(path, speaker, seconds=seconds, seed=seed, take=take, width=width, height=height)
                stamp.write_text(json.dumps(video_settings))
            rows.append((path, speaker.name))
    _write_labels(out_dir / "labels.csv", rows)
    return [path for path, _ in rows]


def make_head_video(
    path: Path,
    speaker: Speaker,
    *,
    seconds: float,
    seed: int,
    take: int = 0,
    width: int = WIDTH_PX,
    height: int = HEIGHT_PX,
) -> Speech:
    """Writes one video of one speaker.

    Args:
        path: MP4 file.
        speaker: Looks and voice.
        seconds: Length.
        seed: With the speaker's name and the take, decides all that is random.
        take: Number of the recording.
        width: Pixels, even.
        height: Pixels, even.
    Returns:
        The speech in it, with the track of the mouth.
    """
    # The name's bytes, not hash(): that one differs from process to process.
    number = int.from_bytes(speaker.name.encode()[:6], "big")
    rng = np.random.default_rng([seed, take, number])
    words, looks = int(rng.integers(2**31)), number % 2**31 + seed
    voice = VoiceSettings(speaker.pitch_hz, speaker.formant_scale, speaker.syllables_per_s, speaker.breathiness)
    speech = speak(voice, seconds=seconds, sample_rate=SAMPLE_RATE, seed=words)
    head = make_head(speaker, seed=looks)
    renderer = HeadRenderer(speaker, head, make_scenery(speaker, head, seed=looks), width=width, height=height)
    frames = renderer.render(speech, round(seconds * FPS), rng)
    write_video(path, frames, speech.waveform, sample_rate=SAMPLE_RATE, settings=ENCODING)
    return speech


class HeadRenderer:
    """Draws one speaker, picture by picture."""

    def __init__(self, speaker: Speaker, head: Head, scenery: Scenery, *, width: int, height: int) -> None:
        """Prepares the layers for drawing.

        Args:
            speaker: Whose light colours the picture.
            head: The speaker's head at rest.
            scenery: Background, long hair and garment around it.
            width: Of the picture, pixels.
            height: Of the picture, pixels.
        """
        self._head, self._scenery = head, scenery
        curves = head.curves
        self._mouth = Mouth(
            curves["upper_lip_inner"],
            curves["lower_lip_inner"],
            float(curves["nose"][-1, 1]),
            float(curves["chin"][0, 1]),
        )
        self._eyes = [(curves[f"{side}_eye_upper"], curves[f"{side}_eye_lower"]) for side in ("left", "right")]
        self._centre = np.array([float(curves["nose"][:, 0].mean()), float(curves["nose"][-1, 1])])
        self._light = 0.35 + 0.65 * min(1.0, speaker.skin_lightness)
        self._warmth = np.array([1 + 0.05 * speaker.light_warmth, 1, 1 - 0.07 * speaker.light_warmth], np.float32)
        self._width, self._height = width, height
        # Canvas pixels per picture pixel so that the canvas fills the picture.
        self._scale = min(CANVAS_WIDTH / width, CANVAS_HEIGHT / height)

    def render(self, speech: Speech, num_frames: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """Draws a whole video.

        Args:
            speech: Its mouth is shown.
            num_frames: Pictures at 25 fps.
            rng: Of movements and noise.
        Yields:
            (height, width, 3) uint8 RGB.
        """
        times_s = np.arange(num_frames) / FPS
        opening, spread = speech.at(times_s)
        motion = make_motion(num_frames, opening, rng)
        grain = rng.normal(0, NOISE_SIGMA, (self._height + 64, self._width + 64, 3)).astype(np.float32)
        for index in range(num_frames):
            pose = Pose(float(opening[index]), float(spread[index]), float(motion.blink[index]))
            picture = self._draw(motion, index, pose)
            dx, dy = rng.integers(0, 64, size=2)
            picture += grain[dy : dy + self._height, dx : dx + self._width]
            yield np.clip(picture * self._warmth + 0.5, 0, 255).astype(np.uint8)

    def _draw(self, motion: Motion, index: int, pose: Pose) -> np.ndarray:
        camera = self._camera(motion, index)
        size = (self._width, self._height)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        far = camera.copy()
        far[:, 2] += MARGIN
        picture = cv2.warpAffine(self._scenery.background, far, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        picture = picture.astype(np.float32)
        x, y = self._head_positions(camera, motion, index)
        if self._scenery.back_hair.any():
            hair = cv2.remap(self._scenery.back_hair, x + MARGIN, y + MARGIN, cv2.INTER_LINEAR)
            picture = _blend(picture, hair)
        picture = _blend(picture, self._draw_face(x, y, pose))
        if self._head.glasses is not None:
            picture = _blend(picture, cv2.remap(self._head.glasses, x, y, cv2.INTER_LINEAR))
        garment = cv2.warpAffine(self._scenery.garment, far, size, flags=flags)
        return _blend(picture, garment)

    def _camera(self, motion: Motion, index: int) -> np.ndarray:
        """(2, 3) float64 from picture pixels to canvas pixels."""
        scale = self._scale / motion.zoom[index]
        shift_x = CANVAS_WIDTH / 2 - scale * (self._width - 1) / 2 + motion.camera_x[index]
        shift_y = CANVAS_HEIGHT / 2 - scale * (self._height - 1) / 2 + motion.camera_y[index]
        return np.array([[scale, 0, shift_x], [0, scale, shift_y]])

    def _head_positions(self, camera: np.ndarray, motion: Motion, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Where on the head's canvas each pixel of the picture lies, before jaw and lids move."""
        row, column = np.mgrid[0 : self._height, 0 : self._width].astype(np.float32)
        x = camera[0, 0] * column + camera[0, 2] - motion.head_x[index]
        y = camera[1, 1] * row + camera[1, 2] - motion.head_y[index]
        neck = self._centre + np.array([0, 150])
        cos, sin = np.cos(motion.roll[index]), np.sin(motion.roll[index])
        u, v = x - neck[0], y - neck[1]
        x, y = cos * u + sin * v + neck[0], cos * v - sin * u + neck[1]
        # A turned head: what stands nearer to the camera moves more, as on a ball.
        depth = np.exp(-(((x - self._centre[0]) / 110) ** 2) - ((y - self._centre[1]) / 130) ** 2)
        x, y = x - 60 * motion.yaw[index] * depth, y - 60 * motion.pitch[index] * depth
        return x.astype(np.float32), y.astype(np.float32)

    def _draw_face(self, x: np.ndarray, y: np.ndarray, pose: Pose) -> np.ndarray:
        """(height, width, 4) float32 in [0, 255]."""
        x, y = x.copy(), y.copy()
        rows, columns = _region(x, y, self._mouth.box)
        pixels = move_mouth(x[rows, columns], y[rows, columns], self._mouth, pose)
        for upper, lower in self._eyes if pose.blink > 0 else []:
            half = float(upper[-1, 0] - upper[0, 0])
            top = float(upper[:, 1].min()) - half
            eye = _region(x, y, (float(upper[0, 0]), top, float(upper[-1, 0]), float(lower[:, 1].max()) + 2))
            y[eye] = close_eye(x[eye], y[eye], upper, lower, pose.blink)
        x[rows, columns], y[rows, columns] = pixels.x, pixels.y
        face = cv2.remap(self._head.rgba, x, y, cv2.INTER_LINEAR).astype(np.float32)
        face[rows, columns, :3] = paint_mouth(face[rows, columns, :3], pixels, self._light)
        return face


def _region(x: np.ndarray, y: np.ndarray, box: tuple[float, float, float, float]) -> tuple[slice, slice]:
    """Rows and columns of the picture that show a box of the canvas."""
    inside = (x > box[0]) & (y > box[1]) & (x < box[2]) & (y < box[3])
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _blend(below: np.ndarray, layer: np.ndarray) -> np.ndarray:
    cover = layer[..., 3:].astype(np.float32) / 255
    return below + cover * (layer[..., :3] - below)


def make_motion(num_frames: int, opening: np.ndarray, rng: np.random.Generator) -> Motion:
    """Small movements: drifting, nodding along with the speech, a hand-held camera, blinks.

    Args:
        num_frames: Pictures at 25 fps.
        opening: (num_frames,) of the mouth; the head nods with it.
        rng: Local generator.
    Returns:
        One value per picture each.
    """
    nod = _drift(num_frames, 0.25, rng) * 0.6 + (opening - opening.mean())
    return Motion(
        head_x=5.0 * _drift(num_frames, 0.8, rng),
        head_y=3.0 * _drift(num_frames, 0.8, rng) + 1.2 * nod,
        roll=0.022 * _drift(num_frames, 0.9, rng),
        yaw=0.09 * _drift(num_frames, 0.7, rng),
        pitch=0.05 * _drift(num_frames, 0.6, rng) + 0.02 * nod,
        camera_x=rng.uniform(-8, 8) + 2.5 * _drift(num_frames, 0.5, rng),
        camera_y=rng.uniform(-6, 2) + 2.0 * _drift(num_frames, 0.5, rng),
        zoom=rng.uniform(1.0, 1.1) * (1 + 0.004 * _drift(num_frames, 1.0, rng)),
        blink=_blinks(num_frames, rng),
    )


def _drift(num_frames: int, sigma_s: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise of about unit size, bounded by 2."""
    sigma = sigma_s * FPS
    radius = int(3 * sigma) + 1
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    noise = np.convolve(rng.standard_normal(num_frames + 2 * radius), kernel / np.sqrt(np.sum(kernel**2)), "valid")
    return 2 * np.tanh(noise / 2)


def _blinks(num_frames: int, rng: np.random.Generator) -> np.ndarray:
    times_s = np.arange(num_frames) / FPS
    blink = np.zeros(num_frames)
    moment = float(rng.uniform(0.4, 1.8))
    while moment < times_s[-1]:
        # Lids close faster than they open.
        phase = (times_s - moment) / BLINK_S
        closing, opening = np.clip(phase / 0.35, 0, 1), np.clip((1 - phase) / 0.5, 0, 1)
        blink = np.maximum(blink, np.minimum(closing, opening))
        moment += float(rng.uniform(1.5, 4.0))
    return blink


def _write_labels(path: Path, rows: list[tuple[Path, str]]) -> None:
    with whole_file(path) as temporary, open_text(temporary) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "label", "group"])
        writer.writerows([video.name, "real", group] for video, group in rows)
