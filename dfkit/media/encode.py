"""Writes video files, twins, forgeries and synthetic heads all in the same way.

A model that could tell forgeries by their encoding would learn that and nothing else. So the picture is
encoded at a constant bit rate (x264 fills up what a smoother picture would save), the sound at a constant
bit rate too, and a file can be filled up to a given size with an empty box, which players skip. One thread:
x264's rate control depends on the number of threads, and with it every byte.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from dfkit.errors import ConfigError
from dfkit.files import whole_file

AAC_FRAME = 1024
BOX_HEADER = 8
# From this height on, pictures without a tag are taken for BT.709 (DESIGN section 3); so these are.
BT709_LINES = 720


@dataclass(frozen=True)
class EncodeSettings:
    """Settings of the encoders; with the content they decide every byte of a file."""

    fps: float = 25.0
    video_kbps: int = 400
    """Constant bit rate of the pictures."""
    gop_frames: int = 50
    """Pictures from one key picture to the next, at most."""
    preset: str = "veryfast"
    """Of x264."""
    audio_kbps: int = 64
    crf: int | None = None
    """Constant quality in place of a constant rate; x264's scale."""


def even_size(width: int, height: int) -> tuple[int, int]:
    """The size rounded down to even numbers, which 4:2:0 needs; at least 2 by 2."""
    return max(2, width // 2 * 2), max(2, height // 2 * 2)


def write_video(
    path: Path,
    frames: Iterable[np.ndarray],
    waveform: np.ndarray,
    *,
    sample_rate: int,
    settings: EncodeSettings,
    size_bytes: int | None = None,
) -> int:
    """Writes H.264 and AAC into an MP4, under a temporary name until it is whole.

    Args:
        path: The file; replaced if it is there.
        frames: (H, W, 3) uint8 RGB of one even size, at `settings.fps`.
        waveform: (N,) mono float32 in [-1, 1]; sample 0 belongs to the first picture.
        sample_rate: Hz; one that AAC knows.
        settings: The encoder.
        size_bytes: The file is filled up to this size; left out, it is as large as it gets.
    Returns:
        Bytes before filling up.
    Raises:
        ConfigError: Frames of odd or unequal size, or more bytes than `size_bytes`.
        OSError: The file cannot be written.
    """
    with whole_file(path) as temporary:
        with av.open(str(temporary), "w", format="mp4") as container:
            _write_streams(container, frames, waveform, sample_rate, settings)
        written = temporary.stat().st_size
        if size_bytes is not None:
            fill_up(temporary, written, size_bytes)
    return written


def coded_level_change_db(waveform: np.ndarray, *, sample_rate: int, settings: EncodeSettings) -> float:
    """How much louder a sound is after it was coded and decoded again; mostly below 0.

    Args:
        waveform: (N,) mono float32 in [-1, 1], not silent.
        sample_rate: Hz; one that AAC knows.
        settings: The encoder.
    """
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        sound = _add_sound(container, sample_rate, settings)
        for block in _sound_frames(waveform, sample_rate):
            container.mux(sound.encode(block))
        container.mux(sound.encode())
    file.seek(0)
    with av.open(file, "r") as coded:
        decoded = np.concatenate([block.to_ndarray()[0] for block in coded.decode(audio=0)])[: len(waveform)]
    before, after = (float(np.mean(np.square(each, dtype=np.float64))) for each in (waveform, decoded))
    return 10 * math.log10(after / before)


def _add_sound(container: av.container.OutputContainer, sample_rate: int, settings: EncodeSettings) -> av.AudioStream:
    sound = container.add_stream("aac", rate=sample_rate, layout="mono")
    sound.bit_rate = settings.audio_kbps * 1000
    return sound


def _write_streams(
    container: av.container.OutputContainer,
    frames: Iterable[np.ndarray],
    waveform: np.ndarray,
    sample_rate: int,
    settings: EncodeSettings,
) -> None:
    sound = _add_sound(container, sample_rate, settings)
    video: av.VideoStream | None = None
    blocks = _sound_frames(waveform, sample_rate)
    sound_s = 0.0
    for index, rgb in enumerate(frames):
        if video is None:
            video = _add_video(container, rgb.shape, settings)
        if rgb.shape[:2] != (video.height, video.width):
            raise ConfigError(
                f"picture {index} is {rgb.shape[1]}x{rgb.shape[0]}, the first was {video.width}x{video.height}"
            )
        container.mux(video.encode(_to_yuv(rgb, index)))
        # Interleaved in time, as recorders do.
        while sound_s <= (index + 1) / settings.fps and (block := next(blocks, None)) is not None:
            container.mux(sound.encode(block))
            sound_s += AAC_FRAME / sample_rate
    if video is None:
        raise ConfigError("there is not one picture to write")
    container.mux(video.encode())
    for block in blocks:
        container.mux(sound.encode(block))
    container.mux(sound.encode())


def _add_video(
    container: av.container.OutputContainer, shape: tuple[int, ...], settings: EncodeSettings
) -> av.VideoStream:
    height, width = shape[:2]
    if (width, height) != even_size(width, height):
        raise ConfigError(f"pictures of {width}x{height} cannot be written: 4:2:0 needs even sizes")
    rate = Fraction(settings.fps).limit_denominator(1001)
    video = container.add_stream("libx264", rate=rate, options=_x264_options(settings))
    video.width, video.height, video.pix_fmt = width, height, "yuv420p"
    video.codec_context.time_base = 1 / rate
    video.codec_context.thread_count = 1
    video.codec_context.gop_size = settings.gop_frames
    matrix = 1 if height >= BT709_LINES else 6
    video.codec_context.colorspace = matrix
    video.codec_context.color_primaries = matrix
    video.codec_context.color_trc = matrix
    video.codec_context.color_range = 1
    if settings.crf is None:
        video.bit_rate = settings.video_kbps * 1000
    return video


def _x264_options(settings: EncodeSettings) -> dict[str, str]:
    # mbtree=0: x264's tree of block importances reads memory that nobody wrote (with preset veryfast, in the
    # build of PyAV 18.1: ten runs gave ten files), and it lets a change of a face alter the whole picture.
    options = {"preset": settings.preset, "profile": "high", "threads": "1", "x264-params": "mbtree=0"}
    if settings.crf is not None:
        return options | {"crf": str(settings.crf)}
    rate = settings.video_kbps
    constant = f"nal-hrd=cbr:vbv-maxrate={rate}:vbv-bufsize={rate // 2}"
    return options | {"x264-params": f"mbtree=0:{constant}"}


def _to_yuv(rgb: np.ndarray, index: int) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
    matrix = Colorspace.ITU709 if rgb.shape[0] >= BT709_LINES else Colorspace.ITU601
    yuv = frame.reformat(
        format="yuv420p",
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
        interpolation="BILINEAR",
    )
    yuv.pts = index
    return yuv


def _sound_frames(waveform: np.ndarray, sample_rate: int) -> Iterator[av.AudioFrame]:
    samples = np.ascontiguousarray(waveform, np.float32)[None]
    for start in range(0, samples.shape[1], AAC_FRAME):
        block = np.ascontiguousarray(samples[:, start : start + AAC_FRAME])
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = sample_rate, start
        frame.time_base = Fraction(1, sample_rate)
        yield frame


def fill_up(path: Path, written: int, size_bytes: int) -> None:
    """Fills an MP4 file up with an empty box, which players skip.

    Args:
        path: The file.
        written: Its bytes.
        size_bytes: What it is to have; at least `BOX_HEADER` more.
    Raises:
        ConfigError: It has too many already.
    """
    missing = size_bytes - written
    if missing < BOX_HEADER:
        raise ConfigError(
            f"{path.name}: {written} bytes were written, {size_bytes - BOX_HEADER} at most were planned",
            fix="lower video_kbps, or raise headroom in the forge's configuration",
        )
    with path.open("ab") as file:
        # ISO/IEC 14496-12, section 8.1.2: a 'free' box is skipped by every reader.
        file.write(missing.to_bytes(4, "big") + b"free" + bytes(missing - BOX_HEADER))
