"""From a frame of sound to one channel, as a player mixes it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from av.audio.frame import AudioFrame

NAN_AS, INFINITE_AS = 0.0, 1.0
"""What a sample that is no number, and one that is infinite (with its sign), is read as."""
FULL_SCALE = {"u8": 128.0, "s16": 32768.0, "s32": 2147483648.0, "s64": 9223372036854775808.0}
SAMPLE_TYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}
"""By FFmpeg's name of a sample format, without its planar form."""
CENTRE, SIDE, SURROUND = 1.0, 0.5, 0.35355339059327373
"""Weights of a channel in the mix. A voice in the centre keeps its level, and so does one that left and right share;
what is behind or beside comes in 3 dB lower, as ITU-R BS.775 has it; the bass channel is left out."""
CHANNEL_WEIGHTS = {
    "FC": CENTRE,
    **dict.fromkeys(("FL", "FR", "FLC", "FRC", "DL", "DR", "WL", "WR"), SIDE),
    **dict.fromkeys(("BL", "BR", "BC", "SL", "SR", "TFL", "TFR", "TBL", "TBR", "TFC", "TBC", "TC"), SURROUND),
    **dict.fromkeys(("LFE", "LFE2"), 0.0),
}
"""By FFmpeg's name of a channel."""


@lru_cache(maxsize=32)
def mix_weights(channels: tuple[str, ...]) -> np.ndarray:
    """Weights of a layout's channels.

    Args:
        channels: Names in order.
    Returns:
        (N,) float32; equal shares where a name is unknown or nothing would be left.
    """
    weights = np.array([CHANNEL_WEIGHTS.get(name, np.nan) for name in channels], np.float32)
    if len(channels) == 1 or not np.isfinite(weights).all() or not weights.any():
        weights = np.full(len(channels), 1 / len(channels), np.float32)
    weights.setflags(write=False)
    return weights


def to_mono(frame: AudioFrame) -> np.ndarray:
    """Mixes a frame's channels into one.

    Args:
        frame: Decoded sound in any sample format.
    Returns:
        (N,) float32; of one or two channels their mean, which spans [-1, 1) for whole-number formats.
    """
    values = read_channels(frame)
    # Not `@`: BLAS would wake its threads for this.
    return values[0] if len(values) == 1 else np.einsum("c,cn->n", mix_weights(channel_names(frame)), values)


def separate_power(frame: AudioFrame) -> float:
    """Mean square of what `to_mono` would give if the channels had nothing in common."""
    weights = mix_weights(channel_names(frame)).astype(np.float64)
    power = np.square(read_channels(frame), dtype=np.float64).mean(axis=1)
    return float((weights**2 * power).sum()) if frame.samples else 0.0


def channel_names(frame: AudioFrame) -> tuple[str, ...]:
    """FFmpeg's names of a frame's channels, in order."""
    return tuple(channel.name for channel in frame.layout.channels)


def read_channels(frame: AudioFrame) -> np.ndarray:
    """A frame's samples, (channels, N) float32; whole-number formats span [-1, 1), no sample is NaN or infinite."""
    # Not `frame.to_ndarray`: of eight planes or more PyAV 18 takes one too many, at a wild address.
    sample_format, num_channels = frame.format.name.removesuffix("p"), len(frame.layout.channels)
    kind = np.dtype(SAMPLE_TYPES[sample_format])
    if frame.format.is_planar:
        planes = [np.frombuffer(memoryview(plane), kind, frame.samples) for plane in frame.planes[:num_channels]]
        values = np.stack(planes).astype(np.float32)
    else:
        interleaved = np.frombuffer(memoryview(frame.planes[0]), kind, frame.samples * num_channels)
        values = interleaved.reshape(-1, num_channels).T.astype(np.float32)
    if sample_format == "u8":
        values -= np.float32(128.0)
    # Before mixing: one channel that is no number would spoil the others. A decoder can be made to give such by damage.
    values = np.nan_to_num(values, copy=False, nan=NAN_AS, posinf=INFINITE_AS, neginf=-INFINITE_AS)
    scale = FULL_SCALE.get(sample_format)
    return values if scale is None else values / np.float32(scale)
