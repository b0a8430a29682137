"""Equalised videos are alike whatever they were before, in step, and the videos themselves untouched."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from dfkit.errors import MediaError
from dfkit.media.audio import read_waveform
from dfkit.media.equalise import Equalised, equalise_video
from dfkit.media.equalise_spec import EqualiseSpec
from dfkit.media.faces import FaceModels
from dfkit.media.facts import VideoFacts, probe
from dfkit.media.framing import FacePlace, frame_face, places_of
from dfkit.media.track import FaceTracker
from dfkit.media.video import read_frames
from dfkit.synthetic.heads import make_heads
from tests.media.media_files import write_media
from tests.media.test_hdr import hdr_frame

SPEC = EqualiseSpec()
RATE = 48_000
SECONDS = 2.4
SILENT_S = 0.4


@pytest.fixture(scope="module")
def models() -> FaceModels:
    return FaceModels("int8")


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    (path,) = make_heads(tmp_path_factory.mktemp("head"), num_speakers=1, seconds=SECONDS, seed=4)
    return [rgb for _, _, rgb in read_frames(path, 25.0)]


def voice(*, rate: int = RATE, level: float = 0.1, silent_s: float = SILENT_S) -> np.ndarray:
    """(1, N) noise whose level rises and falls four times a second, after a silence."""
    times = np.arange(round(SECONDS * rate)) / rate
    noise = np.random.default_rng(3).standard_normal(len(times))
    sound = level * noise * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * times)) * (times >= silent_s)
    return np.clip(sound, -1, 1).astype(np.float32)[None]


def portrait(rgb: np.ndarray) -> np.ndarray:
    """The head, larger, on a canvas of a phone held upright."""
    large = cv2.resize(rgb, (576, 480), interpolation=cv2.INTER_AREA)
    canvas = np.full((960, 544, 3), 90, np.uint8)
    canvas[200:680] = large[:, 16:560]
    return canvas


def make_input(kind: str, folder: Path, head: list[np.ndarray]) -> Path:
    if kind == "portrait, 30 fps, 5.1":
        quiet = np.zeros((6, voice().shape[1]), np.float32)
        quiet[2] = voice(level=0.02, silent_s=0.0)
        frames = (portrait(head[min(round(index * 25 / 30), len(head) - 1)]) for index in range(round(SECONDS * 30)))
        return write_media(folder / "portrait.mp4", frames, fps=30, sound=quiet, sample_rate=RATE, layout="5.1")
    if kind == "small, 8 kHz":
        small = (cv2.resize(rgb, (192, 160), interpolation=cv2.INTER_AREA) for rgb in head)
        return write_media(
            folder / "small.mkv",
            small,
            codec="mpeg4",
            sound=voice(rate=8000, level=0.3),
            sample_rate=8000,
            sound_codec="pcm_s16le",
        )
    assert kind == "HDR"
    return write_hdr(folder / "hdr.mkv", head)


def write_hdr(path: Path, head: list[np.ndarray]) -> Path:
    """HLG in 10 bits, as a phone records, with sound at 44.1 kHz."""
    sound = voice(rate=44_100, level=0.02)
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"crf": "12", "preset": "ultrafast"})
        video.height, video.width, video.pix_fmt = *head[0].shape[:2], "yuv420p10le"
        context = video.codec_context
        context.color_trc, context.colorspace, context.color_primaries = 18, 9, 9
        audio = out.add_stream("aac", rate=44_100, layout="mono")
        for index, rgb in enumerate(head):
            frame = hdr_frame(rgb, "hlg").reformat(format="yuv420p10le")
            frame.pts = index
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        block = av.AudioFrame.from_ndarray(sound, "fltp", "mono")
        block.sample_rate, block.pts = 44_100, 0
        out.mux(audio.encode(block))
        out.mux(audio.encode(None))
    return path


@dataclass(frozen=True)
class Done:
    path: Path
    facts: VideoFacts
    equalised: Equalised


def equalise(path: Path, models: FaceModels) -> Done:
    before = hashlib.sha256(path.read_bytes()).digest()
    target = path.with_name("equalised.mp4")
    equalised = equalise_video(path, target, SPEC, models=models)
    assert hashlib.sha256(path.read_bytes()).digest() == before
    return Done(target, probe(target), equalised)


@pytest.mark.parametrize("kind", ["portrait, 30 fps, 5.1", "small, 8 kHz", "HDR"])
def test_whatever_comes_in_is_alike(kind: str, head: list[np.ndarray], models: FaceModels, tmp_path: Path) -> None:
    source = make_input(kind, tmp_path, head)
    done = equalise(source, models)
    facts = done.facts
    assert (facts.width, facts.height, facts.fps) == (SPEC.side_px, SPEC.side_px, pytest.approx(SPEC.fps))
    assert (facts.codec, facts.audio_codec, facts.pixel_format) == ("h264", "aac", "yuv420p")
    assert (facts.audio_sample_rate, facts.audio_channels) == (SPEC.sample_rate, 1)
    # AAC at 32 kbit/s changes the power of noise by a tenth of a dB or two.
    assert facts.loudness_db == pytest.approx(SPEC.loudness_db, abs=0.5)
    # One silent picture, and the fade up to -50 dBFS.
    assert 0.03 <= facts.leading_silence_s <= 0.07
    tracker = FaceTracker(models)
    widths = [place.width for _, _, rgb in read_frames(done.path, 25.0) for place in places_of(tracker.update(rgb))]
    # The tracker measures a face of another size, coded anew, up to 3 % differently.
    assert np.median(widths) == pytest.approx(SPEC.face_px, rel=0.03)
    assert (done.equalised.scale > 1) == (done.equalised.source_face_px < SPEC.face_px)
    assert done.equalised.read.missing is None


def test_picture_and_sound_stay_together(head: list[np.ndarray], models: FaceModels, tmp_path: Path) -> None:
    flash, silent = 37, 0.32
    lit = [np.clip(rgb * 1.5, 0, 255).astype(np.uint8) if index == flash else rgb for index, rgb in enumerate(head)]
    sound = voice(level=0.02, silent_s=silent)
    start = round(flash / 25 * RATE)
    sound[:, start : start + RATE // 100] = 0.9
    source = write_media(tmp_path / "source.mp4", lit, sound=sound, sample_rate=RATE)
    done = equalise(source, models)
    assert done.equalised.cut_s == pytest.approx(silent, abs=0.041)
    brightness = [float(rgb.mean()) for _, _, rgb in read_frames(done.path, 25.0)]
    shown_s = float(np.argmax(brightness)) / 25
    heard = read_waveform(
        done.path,
        sample_rate=SPEC.sample_rate,
        first_picture_s=done.facts.first_picture_s,
        num_samples=round(done.facts.duration_s * SPEC.sample_rate),
    )
    heard_s = float(np.argmax(np.abs(heard))) / SPEC.sample_rate
    assert shown_s == pytest.approx(flash / 25 - done.equalised.cut_s, abs=1e-6)
    # The click lies within the picture of the flash.
    assert abs(heard_s - shown_s) <= 1 / 25


def test_same_file_gives_the_same_bytes(head: list[np.ndarray], models: FaceModels, tmp_path: Path) -> None:
    source = write_media(tmp_path / "source.mp4", head, sound=voice(), sample_rate=RATE)
    first = equalise(source, models).path.read_bytes()
    assert equalise(source, models).path.read_bytes() == first


@pytest.mark.parametrize("sound", [None, np.zeros((1, round(SECONDS * RATE)), np.float32)], ids=["none", "muted"])
def test_without_sound_stays_no_audio(
    sound: np.ndarray | None, head: list[np.ndarray], models: FaceModels, tmp_path: Path
) -> None:
    source = write_media(tmp_path / "source.mp4", head, sound=sound, sample_rate=RATE)
    with pytest.raises(MediaError) as error:
        equalise_video(source, tmp_path / "equalised.mp4", SPEC, models=models)
    assert error.value.status == "no_audio"
    assert not (tmp_path / "equalised.mp4").exists()


def test_a_short_video_keeps_a_clip(head: list[np.ndarray], models: FaceModels, tmp_path: Path) -> None:
    source = write_media(tmp_path / "source.mp4", head[:52], sound=voice()[:, : round(2.08 * RATE)], sample_rate=RATE)
    done = equalise(source, models)
    assert (done.facts.num_frames, done.equalised.cut_s) == (50, pytest.approx(2 / 25))


def place(track_id: int, x: float, width: float) -> FacePlace:
    return FacePlace(track_id, x, 50.0, width)


def test_the_face_seen_most_is_followed_with_one_width() -> None:
    two = [place(0, 100.0 + index, 40.0) for index in range(40)]
    pictures = [[each, place(1, 300.0, 30.0)] for each in two] + [[] for _ in range(5)]
    framing = frame_face(pictures)
    assert framing is not None and framing.face_px == 40.0
    assert len(framing.boxes) == 45
    assert {box.side for box in framing.boxes} == {40.0}
    # A steady walk keeps its place; at the end the cut stays.
    assert framing.boxes[20].x == pytest.approx(120.0)
    assert framing.boxes[44].x == pytest.approx(139.0, abs=3.0)


def test_no_face_no_framing() -> None:
    assert frame_face([[], []]) is None
