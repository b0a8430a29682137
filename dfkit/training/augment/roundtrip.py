"""Encodes and decodes pictures and sound with lossy codecs, in memory."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import cv2
import numpy as np
from av.audio.stream import AudioStream
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from dfkit.media.channels import to_mono
from dfkit.media.resample import resample

# Matroska takes all three, and tells the decoder how many samples of run-in to drop.
SOUND_ENCODERS = {"aac": "aac", "opus": "libopus", "mp3": "libmp3lame"}
OPUS_RATE = 48000
TAIL_S = 0.1
"""Silence sent after the sound: an encoder may keep its last, unfinished block."""


def roundtrip_h264(crops: NDArray[np.uint8], *, crf: int, fps: float) -> NDArray[np.uint8]:
    """Encodes pictures as H.264 (4:2:0, BT.601) and decodes them.

    Args:
        crops: (T, H, W, 3) RGB.
        crf: x264's constant rate factor, 0 to 51.
        fps: Pictures per second.
    Returns:
        (T, H, W, 3) RGB; the same bytes every time.
    """
    height, width = crops.shape[1:3]
    # 4:2:0 needs even sides; the edge is repeated, and cut off afterwards.
    even = np.pad(crops, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    encoder = av.CodecContext.create("libx264", "w")
    encoder.height, encoder.width = even.shape[1:3]
    encoder.pix_fmt = "yuv420p"
    encoder.time_base = 1 / Fraction(fps).limit_denominator(1001)
    encoder.thread_count = 1
    # mbtree reads memory that nobody wrote: with it, runs differ (see the forge's encoder).
    encoder.options = {"crf": str(crf), "preset": "veryfast", "threads": "1", "x264-params": "mbtree=0"}
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    packets = [packet for index, crop in enumerate(even) for packet in encoder.encode(_to_yuv(crop, index))]
    packets += encoder.encode(None)
    decoded = [frame for packet in packets for frame in decoder.decode(packet)]
    decoded += decoder.decode(None)
    if len(decoded) != len(crops):
        raise RuntimeError(f"H.264 gave back {len(decoded)} of {len(crops)} pictures")
    rgb = np.stack([_to_rgb(frame) for frame in sorted(decoded, key=lambda frame: frame.pts or 0)])
    return np.ascontiguousarray(rgb[:, :height, :width])


def _to_yuv(rgb: NDArray[np.uint8], index: int) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24").reformat(
        format="yuv420p",
        src_colorspace=Colorspace.ITU601,
        dst_colorspace=Colorspace.ITU601,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
    )
    frame.pts = index
    return frame


def _to_rgb(frame: av.VideoFrame) -> NDArray[np.uint8]:
    rgb = frame.reformat(
        format="rgb24",
        src_colorspace=Colorspace.ITU601,
        dst_colorspace=Colorspace.ITU601,
        src_color_range=ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
    )
    return np.asarray(rgb.to_ndarray(), np.uint8)


def roundtrip_jpeg(crops: NDArray[np.uint8], *, quality: int) -> NDArray[np.uint8]:
    """Encodes each picture as JPEG (4:2:0) and decodes it.

    Args:
        crops: (T, H, W, 3) RGB.
        quality: 1 to 100, libjpeg's scale.
    Returns:
        (T, H, W, 3) RGB.
    """
    parameters = [cv2.IMWRITE_JPEG_QUALITY, quality]
    decoded = np.empty_like(crops)
    for index, crop in enumerate(crops):
        done, jpeg = cv2.imencode(".jpg", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), parameters)
        bgr = cv2.imdecode(jpeg, cv2.IMREAD_COLOR) if done else None
        if bgr is None:
            raise RuntimeError(f"OpenCV could not encode a picture of shape {crop.shape} as JPEG")
        cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=decoded[index])
    return decoded


def roundtrip_sound(
    waveform: NDArray[np.float32], *, codec: str, bitrate_kbps: float, sample_rate: int
) -> NDArray[np.float32]:
    """Encodes sound with loss and decodes it, without moving it.

    Args:
        waveform: (N,) mono in [-1, 1].
        codec: One of `SOUND_ENCODERS`.
        bitrate_kbps: Wanted; the encoder takes the nearest that it knows.
        sample_rate: Hz.
    Returns:
        (N,) float32 in [-1, 1]; the run-in of the codec is gone.
    """
    rate = OPUS_RATE if codec == "opus" else sample_rate
    # Opus runs at 48 kHz inside; left to it, resampling would not be ours to keep in place.
    padded = np.concatenate([waveform, np.zeros(int(TAIL_S * sample_rate), np.float32)])
    at_codec_rate = resample(padded, sample_rate, rate) if rate != sample_rate else padded
    decoded = _decode(_encode(at_codec_rate, codec=codec, bitrate_kbps=bitrate_kbps, rate=rate))
    at_sample_rate = resample(decoded, rate, sample_rate) if rate != sample_rate else decoded
    result = np.zeros(len(waveform), np.float32)
    num_samples = min(len(at_sample_rate), len(result))
    result[:num_samples] = np.clip(at_sample_rate[:num_samples], -1, 1)
    return result


def _encode(waveform: NDArray[np.float32], *, codec: str, bitrate_kbps: float, rate: int) -> io.BytesIO:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream(SOUND_ENCODERS[codec], rate=rate, layout="mono")
        assert isinstance(stream, AudioStream)
        stream.bit_rate = round(bitrate_kbps * 1000)
        # Opus takes interleaved samples, the others planes; of one channel the numbers are the same.
        planar = codec != "opus"
        block = av.AudioFrame.from_ndarray(waveform[None], format="fltp" if planar else "flt", layout="mono")
        block.sample_rate = rate
        block.pts = 0
        container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    file.seek(0)
    return file


def _decode(file: io.BytesIO) -> NDArray[np.float32]:
    with av.open(file, "r") as container:
        frames = [to_mono(frame) for frame in container.decode(audio=0)]
    return np.concatenate(frames)
