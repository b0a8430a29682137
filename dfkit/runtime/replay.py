"""Replays a bundle's golden vectors: the same inputs have to give the same outputs on this machine.

Each case is held to its order: names, then shapes, then values. A NaN or infinity on either side fails, and so does a
bundle without cases. Vectors that prove nothing pass nothing: every output of every backend needs a set of vectors in
which it has power (`OutputLimits`), and there every wrong answer that the bundle holds must fail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dfkit.errors import ShapeError
from dfkit.measures.finite import finite_or_none
from dfkit.runtime.backends import BACKEND_ORDER, BackendName, Graphs, open_backend, signature_parts
from dfkit.runtime.bundle import Bundle, open_bundle
from dfkit.runtime.golden_index import (
    GoldenCase,
    GoldenControl,
    GoldenSet,
    OutputLimits,
    Part,
    read_array,
    read_golden,
    rms,
)
from dfkit.runtime.manifest import Backend

SHIPPED_SET = "shipped"


@dataclass(frozen=True)
class OutputReplay:
    """Comparison of one output of one golden case with the stored one."""

    vectors: str
    """Name of the set, `shipped` or `stressed`."""
    backend: str
    part: Part
    case: str
    output: str
    difference: float
    """Root mean square difference; NaN where `failure` is not about values."""
    max_difference: float
    """Largest absolute difference of a single value."""
    tolerance: float
    """Of `difference`."""
    power: bool
    """Whether passing proves anything."""
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
    num_controls: int
    """Wrong answers that were held against the tolerances, over all backends."""
    faults: tuple[str, ...] = ()
    """What the vectors themselves lack: wrong answers that pass, outputs that no set decides."""

    @property
    def passed(self) -> bool:
        """Whether every output is decided by vectors with power, all are within tolerance, and no wrong answer is."""
        return bool(self.outputs) and not self.faults and all(output.passed for output in self.outputs)

    def summary(self) -> list[str]:
        """Lines for the terminal: per backend and output the differences of the worst case; every failure."""
        lines = []
        for key in sorted({(o.vectors, o.backend, o.part, o.output) for o in self.outputs}):
            cases = [o for o in self.outputs if (o.vectors, o.backend, o.part, o.output) == key]
            num_failed = sum(not case.passed for case in cases)
            verdict = f"{num_failed} FAILED" if num_failed else "pass" if cases[0].power else "no power"
            vectors, *names = key
            lines.append(
                f"{'' if vectors == SHIPPED_SET else f'{vectors} '}{' '.join(names)}: {len(cases)} cases, difference "
                f"at most {_largest(c.difference for c in cases):.3g} rms, tolerance {cases[0].tolerance:.3g}, single "
                f"value {_largest(c.max_difference for c in cases):.3g}: {verdict}"
            )
        failures = [f"{o.backend} {o.part} {o.case} {o.output}: {o.failure}" for o in self.outputs if not o.passed]
        if not self.outputs:
            return ["no golden vectors were replayed: FAILED"]
        controls = f"{self.num_controls} wrong answers held against the tolerances"
        return [*lines, f"{controls}: {'all fail' if not self.faults else 'see below'}", *failures, *self.faults]

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every output; a difference that is not finite is None."""
        outputs = [
            {key: finite_or_none(value) for key, value in vars(output).items()} | {"passed": output.passed}
            for output in self.outputs
        ]
        return {
            "passed": self.passed,
            "num_cases": self.num_cases,
            "num_controls": self.num_controls,
            "faults": list(self.faults),
            "outputs": outputs,
        }


def _largest(values: Iterable[float]) -> float:
    # np.max keeps a NaN, Python's max may lose it.
    return float(np.max(list(values)))


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
    faults: list[str] = []
    num_controls = 0
    for name in names:
        for vectors in index.sets:
            files = vectors.graphs.get(name, {})
            if vectors.graphs and not files:
                continue  # these graphs have no form for this backend
            graphs = open_graphs(bundle, name, num_threads=num_threads, files=files)
            outputs += _replay_set(bundle, graphs, vectors, index.peak)
            found = _replay_controls(bundle, name, vectors, index.peak)
            num_controls += len(found)
            faults += [fault for fault in found if fault]
        faults += _undecided(name, bundle.manifest.backends[name], outputs)
    return ReplayReport(tuple(outputs), sum(len(v.encode) + len(v.score) for v in index.sets), num_controls, (*faults,))


def replay_bundle(path: str | Path) -> ReplayReport:
    """Verifies a bundle and replays its golden vectors through every backend; see `open_bundle`, `replay`."""
    return replay(open_bundle(path))


def _replay_set(bundle: Bundle, graphs: Graphs, vectors: GoldenSet, peak: float) -> list[OutputReplay]:
    limits = vectors.limits.get(graphs.name, {})
    cases: list[tuple[Part, GoldenCase]] = [("encode", case) for case in vectors.encode]
    cases += [("score", case) for case in vectors.score]
    found: list[OutputReplay] = []
    for part, case in cases:
        found += _replay_case(bundle, graphs, vectors.name, part, case, limits, peak)
    return found


def _undecided(name: str, backend: Backend, outputs: list[OutputReplay]) -> list[str]:
    """Outputs of a backend that no vector with power decides: they would pass unseen."""
    decided = {(o.part, o.output) for o in outputs if o.backend == name and o.power}
    wanted = [(part, entry.name) for part, signature in signature_parts(backend) for entry in signature.outputs]
    return [
        f"{name} {part} {output}: no golden case with power decides it"
        for part, output in wanted
        if (part, output) not in decided
    ]


def _failed(vectors: str, backend: str, part: Part, case: str, output: str, failure: str) -> OutputReplay:
    nan = float("nan")
    return OutputReplay(vectors, backend, part, case, output, nan, nan, nan, power=False, failure=failure)


def _replay_case(
    bundle: Bundle,
    graphs: Graphs,
    vectors: str,
    part: Part,
    case: GoldenCase,
    limits: Mapping[str, OutputLimits],
    peak: float,
) -> list[OutputReplay]:
    def failed(output: str, failure: str) -> list[OutputReplay]:
        return [_failed(vectors, graphs.name, part, case.name, output, failure)]

    expected = {n: read_array(bundle, entry) for n, entry in case.outputs.get(graphs.name, {}).items()}
    if not expected:
        return failed("all", f"no expected outputs for {graphs.name}")
    inputs = {n: read_array(bundle, entry) for n, entry in case.inputs.items()}
    try:
        found = call_part(graphs, part, inputs)
    except ShapeError as error:
        return failed("all", error.found)
    compared: list[OutputReplay] = []
    for name in sorted(set(expected) | set(found)):
        if name not in expected or name not in found:
            missing = "the golden vectors lack" if name not in expected else "the graph does not give"
            compared += failed(name, f"{missing} this output")
        elif name not in limits:
            compared += failed(name, f"the golden vectors have no tolerance for {graphs.name}")
        else:
            limit = limits[name]
            values = compare(found[name], expected[name], limit.tolerance, peak)
            compared.append(_compared(vectors, graphs.name, part, case.name, name, limit, values))
    return compared


def _compared(
    vectors: str,
    backend: str,
    part: Part,
    case: str,
    output: str,
    limit: OutputLimits,
    values: tuple[float, float, str | None],
) -> OutputReplay:
    difference, largest, failure = values
    return OutputReplay(
        vectors, backend, part, case, output, difference, largest, limit.tolerance, limit.power, failure
    )


def _replay_controls(bundle: Bundle, backend: str, vectors: GoldenSet, peak: float) -> list[str]:
    """A line for each wrong answer of a backend's outputs with power: empty where it fails, as it should."""
    lines = []
    limits = vectors.limits.get(backend, {})
    decisive = {output for output, limit in limits.items() if limit.power}
    controls = [c for c in vectors.controls if c.output in decisive and backend in c.answers]
    for control in controls:
        lines.append(_control_fault(bundle, backend, vectors, control, limits[control.output].tolerance, peak))
    without = decisive - {control.output for control in controls}
    return [*lines, *(f"{vectors.name} {backend} {output}: no negative control" for output in sorted(without))]


def _control_fault(
    bundle: Bundle, backend: str, vectors: GoldenSet, control: GoldenControl, tolerance: float, peak: float
) -> str:
    where = f"{vectors.name} {backend} {control.output}, control '{control.name}'"
    cases = vectors.encode if control.part == "encode" else vectors.score
    number = control.cases.get(backend, len(cases))
    if number >= len(cases) or control.output not in cases[number].outputs.get(backend, {}):
        return f"{where}: stands for no golden case"
    expected = read_array(bundle, cases[number].outputs[backend][control.output])
    failure = compare(read_array(bundle, control.answers[backend]), expected, tolerance, peak)[2]
    return "" if failure else f"{where}: the wrong answer passes, so the right one proves nothing"


def call_part(graphs: Graphs, part: Part, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a graph gives, by name: features (n, C), or `frame_logits` (T, 2) and `clip_logits` (1, 2)."""
    if part == "encode":
        return graphs.encode(inputs)
    frame_logits, clip_logits = graphs.score(inputs)
    return {"frame_logits": frame_logits, "clip_logits": clip_logits[None]}


def compare(found: np.ndarray, expected: np.ndarray, limit: float, peak: float) -> tuple[float, float, str | None]:
    """Compares an output with the expected one: shapes, then values.

    Args:
        found: What a graph gave.
        expected: What it gave at export; axes of one place more or less count as the same shape.
        limit: Largest root mean square difference that passes.
        peak: How many times that a single value may differ.
    Returns:
        Root mean square and largest absolute difference, NaN where shapes differ, and what is wrong, or None.
    """
    nan = float("nan")
    if expected.size != found.size or _squeezed(expected) != _squeezed(found):
        return nan, nan, f"shape {found.shape}, expected {expected.shape}"
    differences = found.reshape(expected.shape).astype(np.float64) - expected
    difference, largest = rms(differences), float(np.abs(differences).max())
    failure = None
    if not (np.isfinite(expected).all() and np.isfinite(found).all()):
        failure = "NaN or infinity"
    elif not difference <= limit:
        failure = f"differs by {difference:.3g}, tolerance {limit:.3g}"
    elif not largest <= peak * limit:
        failure = f"a single value differs by {largest:.3g}, by at most {peak * limit:.3g} it may"
    return difference, largest, failure


def _squeezed(array: np.ndarray) -> tuple[int, ...]:
    return tuple(n for n in array.shape if n != 1)
