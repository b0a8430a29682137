"""Odd but whole videos, as encoders and muxers let them pass: sizes, pixel formats, clocks, numbers of streams."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from tools.fuzz.damage import extreme

SIDES = (1, 2, 3, 7, 15, 16, 17, 33, 64, 65, 97, 192, 193, 320)
"""Of pictures, pixels; besides, long strips."""
CODECS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("ffv1", ("yuv420p", "yuv422p", "yuv444p", "yuv411p", "yuv410p", "yuv440p", "gray", "bgr0", "yuv420p10le",
              "yuv444p10le", "yuv422p12le", "yuva420p", "gray16le", "gbrp10le", "rgb48le", "yuv420p16le")),
    ("rawvideo", ("yuv420p", "yuyv422", "uyvy422", "nv12", "rgb24", "rgba", "gray", "monow", "pal8", "yuvj420p")),
    ("mjpeg", ("yuvj420p", "yuvj422p", "yuvj444p")),
    ("png", ("rgb24", "rgba", "gray", "ya8", "rgb48be")),
    ("mpeg4", ("yuv420p",)),
    ("libx264", ("yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "gray")),
    ("libvpx", ("yuv420p",)),
    ("flv", ("yuv420p",)),
)  # fmt: skip
IN_BAND = ("mjpeg", "png", "rawvideo")
"""Codecs whose pictures state their own size, so that it may change."""
SOUND_CODECS = ("pcm_s16le", "pcm_f32le", "pcm_u8", "pcm_s32le", "pcm_f64le", "flac", "aac", "mp2")
SAMPLE_FORMATS = {"pcm_s16le": "s16", "pcm_f32le": "flt", "pcm_u8": "u8", "pcm_s32le": "s32", "pcm_f64le": "dbl",
                  "flac": "s16", "aac": "fltp", "mp2": "s16"}  # fmt: skip
RATES = (1, 7, 1000, 4000, 8000, 11025, 16000, 22050, 44100, 48000, 96000, 192000)
LAYOUTS = ("mono", "stereo", "2.1", "quad", "5.1", "7.1", "22.2")


class NotMadeError(Exception):
    """An encoder or a muxer refuses what was drawn: no case."""


def make_video(path: Path, heads: np.ndarray, rng: np.random.Generator) -> None:
    """Writes a video.

    Args:
        path: Its suffix names the container.
        heads: (N, H, W, 3) uint8 RGB, pictures to be shown.
        rng: Decides all.
    Raises:
        NotMadeError: It cannot be written.
    """
    try:
        with av.open(str(path), "w") as out:
            packets = _picture_packets(out, heads, rng) if rng.random() < 0.97 else []
            packets += _sound_packets(out, rng) if rng.random() < 0.85 else []
            _add_empty_streams(out, rng)
            if rng.random() < 0.8:
                packets.sort(key=lambda packet: float((packet.dts or 0) * (packet.time_base or 0)))
            for packet in packets:
                out.mux_one(packet)
    except Exception as error:  # what encoders, muxers and PyAV refuse, they refuse as any of a dozen types
        raise NotMadeError(str(error)) from error
    if not path.exists() or not path.stat().st_size:
        raise NotMadeError("an empty file")


def _draw_size(rng: np.random.Generator, *, even: bool) -> tuple[int, int]:
    kind = int(rng.integers(10))
    if kind < 4:
        size = (192, 192)
    elif kind == 4:
        size = (int(rng.choice([1, 2, 16])), int(rng.choice([2000, 8192, 8200])))
        size = size if rng.integers(2) else size[::-1]
    else:
        size = (int(rng.choice(SIDES)), int(rng.choice(SIDES)))
    return tuple(max(side - side % 2, 2) if even else side for side in size)  # type: ignore[return-value]


def _picture_packets(out: Any, heads: np.ndarray, rng: np.random.Generator) -> list[Any]:
    codec, formats = CODECS[int(rng.integers(len(CODECS)))]
    pixel_format = str(rng.choice(formats))
    even = codec in ("mpeg4", "libx264", "libvpx", "flv") and rng.random() < 0.8
    rate = Fraction(int(rng.choice([25, 25, 25, 30, 12, 1, 120, 1000]))) * rng.choice([1, 1, 1, Fraction(1000, 1001)])
    base = Fraction(1, int(rng.choice([25, 1000, 90_000, 1_000_000, 3]))) if rng.random() < 0.4 else 1 / rate
    stream = out.add_stream(codec, rate=rate)
    width, height = _draw_size(rng, even=even)
    _set_up(stream.codec_context, width, height, pixel_format, base)
    if rng.random() < 0.3:
        stream.codec_context.sample_aspect_ratio = Fraction(
            int(rng.choice([1, 2, 16, 255, 65535])), int(rng.choice([1, 11, 64, 65535]))
        )
    if codec == "libx264":
        stream.codec_context.options = {"preset": "ultrafast", "crf": "14", "threads": "1"}
    times = _draw_times(int(rng.choice([0, 1, 2, 10, 56, 56, 56, 56])), 1 / rate, base, rng)
    changes = codec in IN_BAND and rng.random() < 0.4
    packets = []
    for number, ticks in enumerate(times):
        if changes and number and rng.random() < 0.1:
            packets += _own_encoder(stream, codec, heads, number, ticks, base, rng)
            continue
        packets += stream.encode(_frame(heads[number % len(heads)], width, height, pixel_format, ticks, base))
    return [*packets, *stream.encode(None)] if times else packets


def _set_up(context: Any, width: int, height: int, pixel_format: str, base: Fraction) -> None:
    context.width, context.height, context.pix_fmt, context.time_base = width, height, pixel_format, base


def _own_encoder(
    stream: Any, codec: str, heads: np.ndarray, number: int, ticks: int, base: Fraction, rng: np.random.Generator
) -> list[Any]:
    """One picture of another size, in the same stream."""
    formats = dict(CODECS)[codec]
    pixel_format, (width, height) = str(rng.choice(formats)), _draw_size(rng, even=False)
    context = av.CodecContext.create(codec, "w")
    _set_up(context, width, height, pixel_format, base)
    made = [*context.encode(_frame(heads[number % len(heads)], width, height, pixel_format, ticks, base)),
            *context.encode(None)]  # fmt: skip
    for packet in made:
        packet.stream = stream
        packet.pts = packet.dts = ticks
        packet.time_base = base
    return made


def _frame(rgb: np.ndarray, width: int, height: int, pixel_format: str, ticks: int, base: Fraction) -> Any:
    sized = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(sized), "rgb24").reformat(format=pixel_format)
    frame.pts, frame.time_base = ticks, base
    return frame


def _draw_times(count: int, step_s: Fraction, base: Fraction, rng: np.random.Generator) -> list[int]:
    """Times of pictures in ticks of `base`: even, with jumps, beginning again, uneven, or far away."""
    even = [round(n * step_s / base) for n in range(count)]
    kind = int(rng.integers(8))
    if kind == 0:
        at, by = int(rng.integers(max(count, 1))), round(float(rng.choice([-1, 0.6, 9, 11, 70, 1e6])) / float(base))
        return [time + (by if n >= at else 0) for n, time in enumerate(even)]
    if kind == 1:
        again = int(rng.integers(1, 20))
        return [even[n % again] for n in range(count)]
    if kind == 2:
        return [time + int(rng.integers(-2, 3)) * max(round(step_s / base), 1) for time in even]
    if kind == 3:
        away = int(rng.choice([-1000, 10**6, 2**31, 2**40]))
        return [time + away for time in even]
    if kind == 4:
        return [0] * count
    return even


def _sound_packets(out: Any, rng: np.random.Generator) -> list[Any]:
    packets: list[Any] = []
    for _ in range(int(rng.choice([1, 1, 1, 2, 5]))):
        codec, layout = str(rng.choice(SOUND_CODECS)), str(rng.choice(LAYOUTS))
        rate = 16000 if rng.random() < 0.5 else int(rng.choice(RATES))
        stream = out.add_stream(codec, rate=rate, layout=layout)
        made = _sound(float(rng.choice([0, 0.01, 1, 2.3, 2.3])), rate, rng)
        start, block = round(float(rng.choice([0, 0, -0.5, 0.5, 20])) * rate), 1152
        for place in range(0, len(made), block):
            part = made[place : place + block]
            jump = extreme(rng, bits=16) if rng.random() < 0.02 else 0
            packets += stream.encode(_sound_frame(part, codec, layout, rate, start + place + jump))
        packets += stream.encode(None) if len(made) else []
    return packets


def _sound(seconds: float, rate: int, rng: np.random.Generator) -> np.ndarray:
    t = np.arange(round(seconds * rate)) / rate
    values = 0.3 * np.sin(2 * np.pi * 180 * t)
    kind = int(rng.integers(6))
    if kind == 0 and len(values):
        values[int(rng.integers(len(values))) :] = rng.choice([np.nan, np.inf, -np.inf, 1e30, 0])
    return values if kind != 1 else values * 0


def _sound_frame(part: np.ndarray, codec: str, layout: str, rate: int, start: int) -> Any:
    channels = len(av.AudioLayout(layout).channels)
    sample_format = SAMPLE_FORMATS[codec]
    if sample_format in ("flt", "fltp", "dbl"):
        values = part.astype(np.float64 if sample_format == "dbl" else np.float32)
    else:
        scale, kind, zero = {"s16": (32767, np.int16, 0), "s32": (2**31 - 1, np.int32, 0), "u8": (127, np.uint8, 128)}[
            sample_format
        ]
        values = (np.clip(np.nan_to_num(part), -1, 1) * scale + zero).astype(kind)
    spread = np.repeat(values[None], channels, axis=0)
    array = spread if sample_format.endswith("p") else spread.T.reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(array), sample_format, layout)
    frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), start
    return frame


def _add_empty_streams(out: Any, rng: np.random.Generator) -> None:
    """Streams that no packet follows, up to hundreds."""
    if rng.random() < 0.15:
        for _ in range(int(rng.choice([1, 8, 200]))):
            if rng.integers(2):
                stream = out.add_stream("mpeg4", rate=25)
                _set_up(stream.codec_context, 64, 64, "yuv420p", Fraction(1, 25))
            else:
                out.add_stream("pcm_s16le", rate=16000, layout="mono")
