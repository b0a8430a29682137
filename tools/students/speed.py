"""What each change to a student is worth in time and bytes: `python -m tools.students.speed [--also NAME=FILE.tflite]`.

Weights are random, since the time does not depend on them. All graphs take turns on one thread within one run, a clip
each (50 x encode and score), and are quoted against the straight FP32 conversion at the teacher's widths and sizes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from dfkit.benchmarks.latency import Percentiles, Variant, measure_latency
from dfkit.clip import CLIP2S, ClipSpec
from dfkit.export import tflite
from dfkit.export.compact import compact
from dfkit.export.recipes import INT8_DEFAULT, recipe_named
from dfkit.export.straight import straight_model, straight_network
from dfkit.files import write_atomically
from dfkit.measures.environment import read_environment
from dfkit.models.mmms_ba import MMMSBA, NetworkSpec
from dfkit.runtime.backends import TfliteGraphs

STRAIGHT = "straight FP32, teacher's widths"
DEFAULT = NetworkSpec(face_channels=(32, 64, 128), lip_channels=(16, 32, 64), gru_hidden=128)
QUARTER = {"face_channels": (16, 32, 64), "lip_channels": (8, 16, 32)}
WHOLE = {"face_channels": (64, 128, 256), "lip_channels": (32, 64, 128)}
NUM_PICTURES = 8


def main(argv: Sequence[str] | None = None) -> int:
    """Converts, measures, prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=25, help="timed clips of each graph")
    parser.add_argument("--also", action="append", default=[], help="NAME=FILE of a default student's .tflite")
    parser.add_argument("--out", type=Path, help="file for the figures as JSON")
    arguments = parser.parse_args(argv)
    variants, sizes = [], {}
    for name, model, network, spec in (*models(), *others(arguments.also)):
        backend = tflite.describe(model, network, spec, "x")
        graphs = TfliteGraphs(backend, {tflite.MODEL_FILE: model}, num_threads=1, where=name)
        variants.append(Variant(name, graphs, spec))
        sizes[name] = len(model)
    latency = measure_latency(variants, repeats=arguments.repeats)
    environment = read_environment()
    print(f"{environment.cpu}, load {environment.load}, one thread, medians of {arguments.repeats} interleaved clips\n")
    for line in table_lines(latency, sizes):
        print(line)
    if arguments.out is not None:
        figures = {name: {stage: asdict(p) for stage, p in stages.items()} for name, stages in latency.items()}
        content = {"environment": asdict(environment), "bytes": sizes, "latency": figures}
        write_atomically(arguments.out, json.dumps(content, indent=1))
    return 0


def models() -> Iterator[tuple[str, bytes, MMMSBA, ClipSpec]]:
    """Each change alone, then together: name, content, network and contract."""
    network = made(DEFAULT)
    straight = straight_network(network)
    whole = CLIP2S.resized(224, None)
    yield STRAIGHT, straight_model(straight, whole), straight, whole
    yield from converted("recurrence", made(DEFAULT.model_copy(update=WHOLE)), 224, int8=False)
    yield from converted("+ half width", network, 224, int8=True)
    yield from converted("+ quarter width", made(DEFAULT.model_copy(update=QUARTER)), 224, int8=True)
    patched = made(DEFAULT.model_copy(update={"stem": "patch4"}))
    yield from converted("+ half width, patch4", patched, 224, int8=True)
    yield from converted("+ half width, 112 px", network, 112, int8=True)
    yield from converted("+ half width, patch4, 160 px", patched, 160, int8=True)
    yield from converted("+ half width, patch4, 112 px", patched, 112, int8=True)
    for blocks in (5, 3, 2):
        texture = made(DEFAULT.model_copy(update={"face_trunk": "efficientnet_lite0", "face_blocks": blocks}))
        yield from converted(f"+ face trunk EfficientNet-Lite0, {blocks} blocks, 112 px", texture, 112, int8=True)


def made(spec: NetworkSpec) -> MMMSBA:
    """A network of random weights."""
    torch.manual_seed(0)
    return MMMSBA(spec).eval()


def converted(name: str, network: MMMSBA, face_px: int, *, int8: bool) -> Iterator[tuple[str, bytes, MMMSBA, ClipSpec]]:
    """A network as `dfkit export` converts it, in FP32, and in INT8 if asked for."""
    spec = CLIP2S.resized(face_px)
    plain = tflite.convert(network, spec)
    yield f"{name}, FP32", compact(plain), network, spec
    if int8:
        rng = np.random.default_rng(0)
        sides = {"face": spec.picture.face_px, "lip": spec.picture.lip_px}
        clip = {m: rng.integers(0, 256, (NUM_PICTURES, side, side, 3), np.uint8) for m, side in sides.items()}
        quantized = tflite.quantize(plain, recipe_named(INT8_DEFAULT), network, spec, [clip])
        yield f"{name}, INT8", compact(quantized), network, spec


def others(named: Sequence[str]) -> Iterator[tuple[str, bytes, MMMSBA, ClipSpec]]:
    """Models that another version exported, of the default student."""
    for each in named:
        name, file = each.split("=", 1)
        yield name, Path(file).read_bytes(), made(DEFAULT), CLIP2S


def table_lines(latency: dict[str, dict[str, Percentiles]], sizes: dict[str, int]) -> list[str]:
    """A Markdown table: sizes, times of the stages, and the whole clip against the straight conversion."""
    baseline = latency[STRAIGHT]["clip"].p50_ms
    lines = ["| graph | MB | 50 x encode, ms | score, ms | clip, ms | next clip, ms | straight over it |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for name, stages in latency.items():
        times = [stages[stage].p50_ms for stage in ("encode_clip", "score", "clip", "next_clip")]
        cells = [f"{sizes[name] / 1e6:.3f}", *(f"{time_ms:.2f}" for time_ms in times), f"{baseline / times[2]:.1f}x"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
