"""The golden vectors of a bundle as they are stored: golden/golden.json and one raw file per array.

A set of vectors belongs to one model: `shipped` to the bundle's own graphs, `stressed`, where there is one, to graphs
of the same shape with weights under which every input moves every output. An output has *power* in a set if a wrong
answer cannot pass there: see `OutputLimits`.
"""

from __future__ import annotations

import json
from typing import Literal

import numpy as np
from pydantic import BaseModel, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError

from dfkit.errors import NOT_JSON, BundleError, one_line
from dfkit.runtime.bundle import FIX_COPY, Bundle
from dfkit.runtime.manifest import validation_faults

GOLDEN_FOLDER = "golden"
GOLDEN_FILE = "golden/golden.json"
GOLDEN_VERSION = 2
PEAK = 5.0
"""What `GoldenIndex.peak` is in vectors that this dfkit writes: INT8 moves single values by up to 5 times their root
mean square."""
_DTYPES = {"float32": "<f4", "uint8": "u1"}
Part = Literal["encode", "score"]


class ArrayFile(BaseModel, frozen=True, extra="forbid"):
    """A file with one array as raw little-endian bytes, C order, of the shape that the signature has."""

    file: str
    """Relative to golden.json."""
    shape: tuple[PositiveInt, ...]
    dtype: Literal["float32", "uint8"]


class OutputLimits(BaseModel, frozen=True, extra="forbid"):
    """What one output of one backend is judged by: the root mean square of its differences from the golden answer.

    The tolerance is a tenth of the smallest difference between two golden cases. An output has power if two
    implementations of the same operators differ by clearly less, and every control by more. No single value may differ
    by more than `peak` times the tolerance, either.
    """

    tolerance: PositiveFloat
    """Largest root mean square difference that passes."""
    smallest_difference: NonNegativeFloat
    """Between the answers of two golden cases: that of the two that are nearest."""
    noise: NonNegativeFloat
    """Largest difference between two implementations of the graph's operators on the exporting machine."""
    power: bool
    """Whether the vectors tell a right answer from a wrong one; without it they decide nothing."""
    reason: str
    """Why there is no power; empty where there is."""


class GoldenCase(BaseModel, frozen=True, extra="forbid"):
    """Inputs of one call of a graph, and the outputs that each backend gave at export."""

    name: str
    inputs: dict[str, ArrayFile]
    outputs: dict[str, dict[str, ArrayFile]]
    """By backend, then by output."""


class GoldenControl(BaseModel, frozen=True, extra="forbid"):
    """A wrong answer, which has to fail where the right one passes."""

    name: str
    """The mistake: `zeros`, `another case's answer`, `channels swapped`, `sound shifted by one step`, ..."""
    part: Part
    output: str
    cases: dict[str, NonNegativeInt]
    """By backend: number of the case whose answer it stands for; the one where the mistake shows most."""
    answers: dict[str, ArrayFile]
    """By backend: what the mistake gives in place of the output."""


class GoldenSet(BaseModel, frozen=True, extra="forbid"):
    """The vectors of one model."""

    name: Literal["shipped", "stressed"]
    graphs: dict[str, dict[str, str]] = {}
    """By backend, then by the file name in the manifest's signatures: the file in the bundle that stands in for it.
    Empty for the bundle's own graphs."""
    limits: dict[str, dict[str, OutputLimits]]
    """By backend, then by output."""
    encode: tuple[GoldenCase, ...] = ()
    score: tuple[GoldenCase, ...] = ()
    controls: tuple[GoldenControl, ...] = ()


class GoldenIndex(BaseModel, frozen=True, extra="forbid"):
    """Content of golden.json."""

    schema_version: Literal[2] = 2
    peak: PositiveFloat = PEAK
    """How many times its tolerance a single value of an output may differ."""
    sets: tuple[GoldenSet, ...]


def rms(difference: np.ndarray) -> float:
    """Root mean square of an array, in double precision."""
    return float(np.sqrt(np.mean(difference.astype(np.float64) ** 2)))


def read_golden(bundle: Bundle) -> GoldenIndex:
    """Reads the index of a bundle's golden vectors.

    Raises:
        BundleError: There is none, it is of another version, or it does not follow the schema.
    """
    if GOLDEN_FILE not in bundle.manifest.files:
        raise BundleError(
            f"bundle {bundle.path} has no golden vectors ({GOLDEN_FILE})",
            fix="export it again with this dfkit",
        )
    try:
        data = json.loads(bundle.read(GOLDEN_FILE))
    except NOT_JSON as error:
        raise BundleError(f"{GOLDEN_FILE} in {bundle.path} is not JSON: {one_line(error)}", fix=FIX_COPY) from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version != GOLDEN_VERSION:
        raise BundleError(
            f"{GOLDEN_FILE} in {bundle.path} has version {version}, this dfkit replays version {GOLDEN_VERSION}",
            fix="export it again with this dfkit" if version < GOLDEN_VERSION else "install the dfkit that made it",
        )
    try:
        return GoldenIndex.model_validate(data)
    except ValidationError as error:
        faults = [f"{GOLDEN_FILE} in {bundle.path} does not follow the schema:", *validation_faults(error)]
        raise BundleError("\n  ".join(faults), fix=FIX_COPY) from error


def stored_array(file: str, array: np.ndarray) -> tuple[ArrayFile, bytes]:
    """An array as `read_array` reads it: its entry, and the content of `file`."""
    content = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
    return ArrayFile.model_validate({"file": file, "shape": array.shape, "dtype": array.dtype.name}), content


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
