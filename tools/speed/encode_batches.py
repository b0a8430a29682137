"""`encode` on several pictures a call, in turns with one: `python -m tools.speed.encode_batches BUNDLE`.

With one thread the calling thread's processor time, with several the clock: medians, then the least, milliseconds a
picture, and whether the features are those of one picture a call, bit for bit. The .tflite takes one picture a call
alone since neighbouring pixels are taken for one of more channels, by a RESHAPE to a fixed shape.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from dfkit.benchmarks.latency import make_inputs
from dfkit.runtime.backends import BackendName, load_graphs
from dfkit.runtime.bundle import Bundle, open_bundle
from dfkit.runtime.manifest import Backend, Signature, TensorEntry

SIZES: dict[BackendName, tuple[int, ...]] = {"tflite": (1,), "onnx": (1, 2, 3, 5)}
NUM_PICTURES = 30
"""Divided by each of the sizes."""


def of_batch(backend: Backend, size: int) -> Backend:
    """The manifest's entry with another batch of `encode`."""
    signature = backend.encode
    assert signature is not None, "a model without pictures encodes nothing"

    def resized(entries: tuple[TensorEntry, ...]) -> tuple[TensorEntry, ...]:
        return tuple(entry.model_copy(update={"shape": (size, *entry.shape[1:])}) for entry in entries)

    update = {"inputs": resized(signature.inputs), "outputs": resized(signature.outputs)}
    changed: Signature = signature.model_copy(update=update)
    return backend.model_copy(update={"encode": changed})


def measure(bundle: Bundle, name: BackendName, num_threads: int, rounds: int) -> str:
    """One line of figures."""
    clock = time.thread_time if num_threads == 1 else time.perf_counter
    backend = bundle.manifest.backends[name]
    assert backend.encode is not None
    content = {file: bundle.read(file) for file in {backend.encode.file, backend.score.file}}
    spec = bundle.manifest.clip_spec
    inputs = {m: pictures[:NUM_PICTURES] for m, pictures in make_inputs(spec).items() if m in ("face", "lip")}
    loaded = {}
    sizes = SIZES[name]
    for size in sizes:
        # Held against the file with one picture a call; it takes more at run time.
        loaded[size] = load_graphs(name, backend, content, num_threads=num_threads, where=str(bundle.path))
        loaded[size]._encode = of_batch(backend, size).encode
    times: dict[int, list[float]] = {size: [] for size in sizes}
    features = {}
    for turn in range(rounds + 2):
        for size, graphs in loaded.items():
            begin = clock()
            parts = [
                graphs.encode({m: pictures[start : start + size] for m, pictures in inputs.items()})
                for start in range(0, NUM_PICTURES, size)
            ]
            taken = clock() - begin
            features[size] = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
            if turn >= 2:
                times[size].append(1e3 * taken / NUM_PICTURES)
    equal = all(np.array_equal(features[size][key], features[1][key]) for size in sizes for key in features[1])
    figures = [f"{size}: {statistics.median(times[size]):.4f} ({min(times[size]):.4f})" for size in sizes]
    return f"{name}, {num_threads} threads: {', '.join(figures)}; {'bit-equal' if equal else 'NOT EQUAL'}"


def main() -> None:
    """Measures each backend of a bundle with one and two threads."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=100)
    arguments = parser.parse_args()
    bundle = open_bundle(arguments.bundle)
    for num_threads in (1, 2):
        for name in bundle.manifest.backends:
            print(measure(bundle, name, num_threads, arguments.rounds), flush=True)


if __name__ == "__main__":
    main()
