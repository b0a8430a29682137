"""Re-encodes and crops a video so that it is like all others in what files and recordings differ in.

Size of the face, frame rate, picture and sound codec and their rates, pixel format, loudness, band and leading silence
become the same for every video: for evaluation, to see what a detector's figures owe to them. What is left: the length,
pictures repeated or left out on the way to 25 fps, what earlier compression took away, and, of a small picture, edges
that go on where the cut reaches beyond it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from dfkit.media.audio import SoundReader, no_sound_error
from dfkit.media.container import media_error
from dfkit.media.coverage import Coverage, FileRead, read_notes
from dfkit.media.crop import SquareBox, crop_square
from dfkit.media.encode import EncodeSettings, write_video
from dfkit.media.equalise_spec import EqualiseSpec
from dfkit.media.facts import SILENCE_DB
from dfkit.media.framing import FacePlace, Framing, frame_face, places_of
from dfkit.media.resample import resample
from dfkit.media.stream import MAX_TRACKED_PX, ahead_of, decoder_share
from dfkit.media.survey import SoundTrack, Survey, survey_file
from dfkit.media.track import FaceTracker
from dfkit.media.video import PictureReader

if TYPE_CHECKING:
    from dfkit.media.faces import FaceModels

ONSET_S = 0.01
"""Stretches of sound that are silent or not."""
FADE_S = 0.04
"""Silence that every sound begins with, and length of the rise after it: one picture each at 25 fps."""
KEPT_S = 2.0
"""Leading silence is cut only as far as this much is left: what was long enough for a clip stays so."""
KEY_EVERY_S = 2.0
LEAST_POWER = 1e-12
"""Of sound whose level is raised; -120 dBFS."""
OVERSAMPLE = 2
"""Faces are sampled at twice the size, then made of means of 2 x 2: so the last filter is the same for all."""

SoundReadings = tuple[Coverage, SoundTrack | None]


@dataclass(frozen=True)
class Equalised:
    """What was done to one video, and how much of it was read."""

    source_face_px: float
    """Median width of its face before, pixels of the source."""
    scale: float
    """What the face was multiplied by; above 1 it was enlarged."""
    cut_s: float
    """Leading silence that was cut off, in pictures and sound alike; whole pictures."""
    gain_db: float
    clipped_share: float
    """Share of the samples that exceeded full scale."""
    read: FileRead
    """Of the source."""


def equalise_video(
    path: Path,
    target: Path,
    spec: EqualiseSpec,
    *,
    models: FaceModels,
    num_threads: int = 1,
    survey: Survey | None = None,
) -> Equalised:
    """Writes the equalised form of a video. The video itself is only read.

    The sound is held in memory, 230 MB an hour; pictures are decoded twice and not held.

    Args:
        path: The video.
        target: MP4 to write; replaced if it is there.
        spec: What to make of it.
        models: The face networks.
        num_threads: 1 does all in this thread; else decoding has one of its own.
        survey: Of the file; made where left out.
    Returns:
        What was done.
    Raises:
        MediaError: `unreadable`, `no_audio`, or `no_face` where no face is seen in any picture.
        OSError: The disk is full.
    """
    survey = survey or survey_file(path)
    reader = _reader(survey, spec, num_threads)
    framing = _find_face(reader, models, num_threads)
    waveform, sound_read = _read_sound(reader, spec, num_frames=len(framing.boxes))
    most = max(len(framing.boxes) - round(KEPT_S * spec.fps), 0)
    cut_frames = min(_silent_frames(waveform, spec), most)
    heard, gain_db, clipped_share = _equalise_sound(waveform[round(cut_frames / spec.fps * spec.sample_rate) :], spec)
    settings = EncodeSettings(
        fps=spec.fps,
        video_kbps=spec.video_kbps,
        gop_frames=round(KEY_EVERY_S * spec.fps),
        audio_kbps=spec.audio_kbps,
    )
    frames = _cut_faces(_reader(survey, spec, num_threads), framing, spec, first=cut_frames, num_threads=num_threads)
    write_video(target, frames, heard, sample_rate=spec.sample_rate, settings=settings)
    source_face_px = framing.face_px * reader.shrink
    return Equalised(
        source_face_px=round(source_face_px, 2),
        scale=round(spec.face_px / source_face_px, 4),
        cut_s=cut_frames / spec.fps,
        gain_db=round(gain_db, 2),
        clipped_share=round(clipped_share, 6),
        read=FileRead(reader.coverage, sound_read[0], read_notes(survey, sound_read[1])),
    )


def _reader(survey: Survey, spec: EqualiseSpec, num_threads: int) -> PictureReader:
    return PictureReader(
        survey.path,
        spec.fps,
        num_threads=decoder_share(num_threads),
        max_area_px=MAX_TRACKED_PX,
        survey=survey,
    )


def _find_face(reader: PictureReader, models: FaceModels, num_threads: int) -> Framing:
    tracker = FaceTracker(models)
    pictures: list[list[FacePlace]] = []
    with closing(ahead_of(reader.__iter__(), num_threads)) as decoded:
        for _index, _t_s, picture in decoded:
            pictures.append(places_of(tracker.update(picture)))
    framing = frame_face(pictures)
    if framing is None:
        fix = "use a recording in which a face is in view"
        raise media_error(reader.path, "no_face", "no face is seen in any picture", fix)
    return framing


def _read_sound(reader: PictureReader, spec: EqualiseSpec, *, num_frames: int) -> tuple[np.ndarray, SoundReadings]:
    """Sound of all pictures, (N,) float32 without what is above `band_hz`, and how much was read of which track."""
    num_samples = round(num_frames / spec.fps * spec.sample_rate)
    with SoundReader(
        reader.path,
        sample_rate=spec.sample_rate,
        first_picture_s=reader.first_picture_s or 0.0,
        survey=reader.survey,
    ) as sound:
        waveform = sound.read(0, num_samples)
        readings = (sound.finish(), sound.track)
    band_rate = 2 * spec.band_hz
    if band_rate < spec.sample_rate:
        waveform = resample(resample(waveform, spec.sample_rate, band_rate), band_rate, spec.sample_rate)
    if not np.square(waveform, dtype=np.float64).sum() > 0:
        raise no_sound_error(reader.survey, is_silent=True)
    return waveform[:num_samples], readings


def _silent_frames(waveform: np.ndarray, spec: EqualiseSpec) -> int:
    """Whole pictures before the sound, brought to its loudness, first exceeds the level at which facts call it so."""
    gain = _gain(waveform, spec)
    block = round(ONSET_S * spec.sample_rate)
    whole = len(waveform) // block
    power = np.square(waveform[: whole * block].reshape(whole, block), dtype=np.float64).mean(axis=1)
    loud = np.flatnonzero(power * gain**2 > 10 ** (SILENCE_DB / 10))
    return int(loud[0] * ONSET_S * spec.fps) if len(loud) else 0


def _equalise_sound(waveform: np.ndarray, spec: EqualiseSpec) -> tuple[np.ndarray, float, float]:
    """Fades sound in and brings it to its loudness.

    Returns:
        (N,) float32 in [-1, 1], the gain in dB, and the share of its samples that was clipped.
    """
    faded = waveform.copy()
    num = min(round(FADE_S * spec.sample_rate), len(faded) // 2)
    faded[:num] = 0.0
    faded[num : 2 * num] *= np.sin(np.linspace(0, np.pi / 2, num, endpoint=False, dtype=np.float32)) ** 2
    gain = _gain(faded, spec)
    louder = faded * np.float32(gain)
    clipped = np.clip(louder, -1, 1)
    return clipped, 20 * math.log10(gain), float(np.mean(np.abs(louder) > 1))


def _gain(waveform: np.ndarray, spec: EqualiseSpec) -> float:
    power = float(np.mean(np.square(waveform, dtype=np.float64)))
    return 10 ** (spec.loudness_db / 20) / math.sqrt(max(power, LEAST_POWER))


def _cut_faces(
    reader: PictureReader, framing: Framing, spec: EqualiseSpec, *, first: int, num_threads: int
) -> Iterator[np.ndarray]:
    """Squares of (side, side, 3) uint8 RGB around the face, from a picture of the grid on."""
    with closing(ahead_of(reader.__iter__(), num_threads)) as decoded:
        for index, _t_s, picture in decoded:
            if index < first:
                continue
            x, y, width = framing.boxes[index]
            box = SquareBox(x, y, width * spec.side_px / spec.face_px)
            large = crop_square(picture, box, OVERSAMPLE * spec.side_px)
            yield cv2.resize(large, (spec.side_px, spec.side_px), interpolation=cv2.INTER_AREA)
