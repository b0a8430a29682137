"""Latency of the model alone: the stages that a user waits for, all variants interleaved in one run.

Variants take turns within a round, so that a slow minute of the machine falls on all of them. Times include
turning uint8 pictures into the graph's own type; they leave out everything before the crops.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dfkit.clip import ClipSpec
from dfkit.runtime.backends import Graphs

STAGES = ("encode_one", "encode_clip", "score", "clip", "next_clip")
STAGE_NAMES = {
    "encode_one": "encode, one picture",
    "encode_clip": "encode, all pictures of a clip",
    "score": "score",
    "clip": "one clip, encode and score",
    "next_clip": "next clip of a stream",
}
WARM_UP_ROUNDS = 3


@dataclass(frozen=True)
class Percentiles:
    """Percentiles of a stage's times, milliseconds."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    num: int
    """Timed runs."""


@dataclass(frozen=True)
class Variant:
    """Loaded graphs to time, under the name that the report shows."""

    name: str
    """Such as `tflite mixed_int8`."""
    graphs: Graphs
    spec: ClipSpec
    """Contract of the clips that it takes."""


def percentiles(times_s: Sequence[float]) -> Percentiles:
    """Percentiles of times, linear between neighbours.

    Args:
        times_s: Seconds, at least one.
    """
    p50, p90, p99 = (float(v) * 1e3 for v in np.percentile(np.asarray(times_s), (50, 90, 99)))
    return Percentiles(p50, p90, p99, len(times_s))


def make_inputs(spec: ClipSpec) -> dict[str, np.ndarray]:
    """Pictures and sound of a clip, noise by a fixed seed: the time does not depend on what they show."""
    rng = np.random.default_rng(0)
    face_px, lip_px = spec.picture.face_px, spec.picture.lip_px
    pictures = {
        "face": rng.integers(0, 256, (spec.num_frames, face_px, face_px, 3), dtype=np.uint8),
        "lip": rng.integers(0, 256, (spec.num_frames, lip_px, lip_px, 3), dtype=np.uint8),
    }
    return pictures | {
        "pcm": (0.1 * rng.standard_normal(spec.num_samples)).astype(np.float32),
        "mfcc": rng.standard_normal((spec.num_frames, spec.audio.n_mfcc)).astype(np.float32),
        "landmarks": rng.uniform(0, 200, (spec.num_frames, 468, 2)).astype(np.float32),
    }


def measure_latency(variants: Sequence[Variant], *, repeats: int) -> dict[str, dict[str, Percentiles]]:
    """Times every variant's stages.

    Args:
        variants: Loaded graphs.
        repeats: Rounds that count; a clip is timed once a round, single pictures T times.
    Returns:
        By variant, then by stage; without `next_clip` for a preset that knows no stream.
    """
    inputs = {variant.spec: make_inputs(variant.spec) for variant in variants}
    times: dict[str, dict[str, list[float]]] = {v.name: {stage: [] for stage in STAGES} for v in variants}
    for turn in range(WARM_UP_ROUNDS + repeats):
        for variant in variants:
            measured = time_clip(variant.graphs, inputs[variant.spec], variant.spec)
            if turn >= WARM_UP_ROUNDS:
                for stage, values in measured.items():
                    times[variant.name][stage] += values
    return {
        name: {stage: percentiles(values) for stage, values in stages.items() if values}
        for name, stages in times.items()
    }


def time_clip(graphs: Graphs, inputs: Mapping[str, np.ndarray], spec: ClipSpec) -> dict[str, list[float]]:
    """Runs one clip, and the next one of a stream.

    Args:
        graphs: The model.
        inputs: From `make_inputs`.
        spec: The clip contract.
    Returns:
        Seconds per stage; T of them for `encode_one`.
    """
    begin = time.perf_counter()
    singles, features = [], []
    for index in range(spec.num_frames):
        start = time.perf_counter()
        features.append(graphs.encode({m: inputs[m][index : index + 1] for m in ("face", "lip")}))
        singles.append(time.perf_counter() - start)
    encoded = time.perf_counter()
    _score(graphs, features, inputs)
    end = time.perf_counter()
    measured = {
        "encode_one": singles,
        "encode_clip": [encoded - begin],
        "score": [end - encoded],
        "clip": [end - begin],
    }
    if spec.preset != "clip2s":
        return measured
    # A stream has the features of the frames before the hop already.
    for index in range(min(spec.hop_frames, spec.num_frames)):
        features[index] = graphs.encode({m: inputs[m][index : index + 1] for m in ("face", "lip")})
    _score(graphs, features, inputs)
    return measured | {"next_clip": [time.perf_counter() - end]}


def _score(graphs: Graphs, features: Sequence[Mapping[str, np.ndarray]], inputs: Mapping[str, np.ndarray]) -> None:
    joined = {name: np.concatenate([f[name] for f in features]) for name in features[0]}
    graphs.score({**joined, **{name: inputs[name] for name in ("pcm", "mfcc", "landmarks")}})
