"""Replays a bundle's golden vectors: the same inputs have to give the same outputs on this machine.

Each case is held to its order: names, then shapes, then values. A NaN or infinity on either side fails, and
so does a bundle without cases.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, Field, NonNegativeInt, PositiveFloat, ValidationError

from dfkit.errors import BundleError, ShapeError
from dfkit.measures.finite import finite_or_none
from dfkit.runtime.backends import BACKEND_ORDER, BackendName, Graphs, open_backend
from dfkit.runtime.bundle import FIX_COPY, Bundle, open_bundle
from dfkit.runtime.manifest import validation_faults

GOLDEN_FOLDER = "golden"
GOLDEN_FILE = "golden/golden.json"
GOLDEN_VERSION = 1
_DTYPES = {"float32": "<f4", "uint8": "u1"}
Part = Literal["encode", "score"]


class ArrayFile(BaseModel, frozen=True, extra="forbid"):
    """A file with one array as raw little-endian bytes, C order."""

    file: str
    """Relative to golden.json."""
    shape: tuple[NonNegativeInt, ...]
    dtype: Literal["float32", "uint8"]


class GoldenCase(BaseModel, frozen=True, extra="forbid"):
    """Inputs of one call of a graph, and the outputs that each backend gave at export."""

    name: str
    inputs: dict[str, ArrayFile]
    outputs: dict[str, dict[str, ArrayFile]]
    """By backend, then by output."""


class Tolerance(BaseModel, frozen=True, extra="forbid"):
    """Largest absolute differences from the golden outputs that pass, of features and of logits."""

    features: PositiveFloat
    logits: PositiveFloat


class BackendTolerance(BaseModel, frozen=True, extra="forbid"):
    """Tolerances of one backend's outputs."""

    tolerance: Tolerance


class GoldenIndex(BaseModel, frozen=True, extra="forbid"):
    """Content of golden.json: the cases of both graphs, and each backend's tolerances."""

    schema_version: Annotated[int, Field(ge=1, le=GOLDEN_VERSION)]
    backends: dict[str, BackendTolerance]
    encode: tuple[GoldenCase, ...] = ()
    score: tuple[GoldenCase, ...] = ()


@dataclass(frozen=True)
class OutputReplay:
    """Comparison of one output of one golden case with the stored one."""

    backend: str
    part: Part
    case: str
    output: str
    max_difference: float
    """Largest absolute difference; NaN where `failure` is not about values."""
    mean_difference: float
    tolerance: float
    failure: str | None
    """What is wrong, or None."""

    @property
    def passed(self) -> bool:
        """Whether the output is within its tolerance."""
        return self.failure is None


@dataclass(frozen=True)
class ReplayReport:
    """Comparison of all outputs of all golden cases."""

    outputs: tuple[OutputReplay, ...]
    num_cases: int

    @property
    def passed(self) -> bool:
        """Whether there was something to replay and all of it is within tolerance."""
        return bool(self.outputs) and all(output.passed for output in self.outputs)

    def summary(self) -> list[str]:
        """Lines for the terminal: per backend and output the largest and mean difference; every failure."""
        lines = []
        for backend, part, output in sorted({(o.backend, o.part, o.output) for o in self.outputs}):
            cases = [o for o in self.outputs if (o.backend, o.part, o.output) == (backend, part, output)]
            num_failed = sum(not case.passed for case in cases)
            mean_difference = np.mean([case.mean_difference for case in cases])
            verdict = f"{num_failed} FAILED" if num_failed else "pass"
            lines.append(
                f"{backend} {part} {output}: {len(cases)} cases, largest difference {_largest(cases):.3g}, "
                f"mean {mean_difference:.3g}, tolerance {cases[0].tolerance:.3g}: {verdict}"
            )
        failures = [f"{o.backend} {o.part} {o.case} {o.output}: {o.failure}" for o in self.outputs if not o.passed]
        return [*lines, *failures] if self.outputs else ["no golden vectors were replayed: FAILED"]

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every output; a difference that is not finite is None."""
        outputs = [
            {key: finite_or_none(value) for key, value in vars(output).items()} | {"passed": output.passed}
            for output in self.outputs
        ]
        return {"passed": self.passed, "num_cases": self.num_cases, "outputs": outputs}


def _largest(outputs: list[OutputReplay]) -> float:
    # np.max keeps a NaN, Python's max may lose it.
    return float(np.max([o.max_difference for o in outputs]))


def read_golden(bundle: Bundle) -> GoldenIndex:
    """Reads the index of a bundle's golden vectors.

    Raises:
        BundleError: There is none, or it does not follow the schema.
    """
    if GOLDEN_FILE not in bundle.manifest.files:
        raise BundleError(
            f"bundle {bundle.path} has no golden vectors ({GOLDEN_FILE})",
            fix="export it again with this dfkit",
        )
    try:
        return GoldenIndex.model_validate(json.loads(bundle.read(GOLDEN_FILE)))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{GOLDEN_FILE} in {bundle.path} is not JSON: {error}", fix=FIX_COPY) from error
    except ValidationError as error:
        faults = [f"{GOLDEN_FILE} in {bundle.path} does not follow the schema:", *validation_faults(error)]
        raise BundleError("\n  ".join(faults), fix=FIX_COPY) from error


def read_array(bundle: Bundle, entry: ArrayFile) -> np.ndarray:
    """Reads one array.

    Raises:
        BundleError: The file has not as many bytes as shape and type say.
    """
    content = bundle.read(f"{GOLDEN_FOLDER}/{entry.file}")
    dtype = np.dtype(_DTYPES[entry.dtype])
    expected = int(np.prod(entry.shape)) * dtype.itemsize
    if len(content) != expected:
        raise BundleError(
            f"{GOLDEN_FOLDER}/{entry.file} in {bundle.path} has {len(content)} bytes, "
            f"{entry.dtype} {entry.shape} takes {expected}",
            fix=FIX_COPY,
        )
    return np.frombuffer(content, dtype).reshape(entry.shape)


def replay(
    bundle: Bundle,
    *,
    backend: BackendName | None = None,
    num_threads: int = 1,
    open_graphs: Callable[..., Graphs] = open_backend,
) -> ReplayReport:
    """Runs every golden case and compares.

    Args:
        bundle: Verified bundle.
        backend: Only this one; None takes all that the bundle has.
        num_threads: Threads of the interpreter.
        open_graphs: Loads a backend, as `open_backend` does; another engine may stand in.
    Returns:
        The differences; `passed` says whether all are within tolerance.
    Raises:
        BundleError: No golden vectors, or they do not follow the schema.
        ConfigError: The bundle does not have that backend.
    """
    index = read_golden(bundle)
    names = [backend] if backend else [name for name in BACKEND_ORDER if name in bundle.manifest.backends]
    outputs: list[OutputReplay] = []
    for name in names:
        graphs = open_graphs(bundle, name, num_threads=num_threads)
        cases: list[tuple[Part, GoldenCase]] = [("encode", case) for case in index.encode]
        cases += [("score", case) for case in index.score]
        if name not in index.backends:
            outputs.append(_failed(name, "score", "all", "all", f"{GOLDEN_FILE} has no tolerance for {name}"))
            continue
        for part, case in cases:
            outputs += _replay_case(bundle, graphs, part, case, index.backends[name].tolerance)
        # A graph without one case would pass unseen.
        has_encode = bundle.manifest.backends[name].encode is not None
        if has_encode and not index.encode:
            outputs.append(_failed(name, "encode", "all", "all", "no golden case"))
        if not index.score:
            outputs.append(_failed(name, "score", "all", "all", "no golden case"))
    return ReplayReport(tuple(outputs), len(index.encode) + len(index.score))


def replay_bundle(path: str | Path) -> ReplayReport:
    """Verifies a bundle and replays its golden vectors through every backend; see `open_bundle`, `replay`."""
    return replay(open_bundle(path))


def _failed(backend: str, part: Part, case: str, output: str, failure: str) -> OutputReplay:
    nan = float("nan")
    return OutputReplay(backend, part, case, output, nan, nan, nan, failure)


def _replay_case(
    bundle: Bundle, graphs: Graphs, part: Part, case: GoldenCase, tolerance: Tolerance
) -> list[OutputReplay]:
    expected = {n: read_array(bundle, entry) for n, entry in case.outputs.get(graphs.name, {}).items()}
    if not expected:
        return [_failed(graphs.name, part, case.name, "all", f"no expected outputs for {graphs.name}")]
    inputs = {n: read_array(bundle, entry) for n, entry in case.inputs.items()}
    try:
        found = _call(graphs, part, inputs)
    except ShapeError as error:
        return [_failed(graphs.name, part, case.name, "all", error.found)]
    limit = tolerance.features if part == "encode" else tolerance.logits
    names = sorted(set(expected) | set(found))
    return [_compare(graphs.name, part, case.name, n, expected.get(n), found.get(n), limit) for n in names]


def _call(graphs: Graphs, part: Part, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    if part == "encode":
        return graphs.encode(inputs)
    frame_logits, clip_logits = graphs.score(inputs)
    return {"frame_logits": frame_logits, "clip_logits": clip_logits}


def _compare(
    backend: str,
    part: Part,
    case: str,
    output: str,
    expected: np.ndarray | None,
    found: np.ndarray | None,
    limit: float,
) -> OutputReplay:
    """Compares one output with the expected one: that both are there, then shapes, then values."""
    if expected is None or found is None:
        missing = "golden vectors lack this output" if expected is None else "the graph does not give this output"
        return _failed(backend, part, case, output, missing)
    if expected.size != found.size or _squeezed(expected) != _squeezed(found):
        return _failed(backend, part, case, output, f"shape {found.shape}, expected {expected.shape}")
    if expected.size == 0:
        return _failed(backend, part, case, output, "no values")
    difference = np.abs(found.reshape(expected.shape).astype(np.float64) - expected)
    largest, mean = float(difference.max()), float(difference.mean())
    failure = None
    if not (np.isfinite(expected).all() and np.isfinite(found).all()):
        failure = "NaN or infinity"
    elif not largest <= limit:
        failure = f"differs by {largest:.3g}, tolerance {limit:.3g}"
    return OutputReplay(backend, part, case, output, largest, mean, limit, failure)


def _squeezed(array: np.ndarray) -> tuple[int, ...]:
    return tuple(n for n in array.shape if n != 1)
