"""What the app's benchmark measured on a phone: its JSON, read and held against the bundle.

The app (`android_demo/`) writes it, with the names and meanings of `dfkit bench`. It may have travelled by mail:
nothing in it is believed before it was checked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from dfkit.benchmarks.latency import STAGES
from dfkit.benchmarks.sizes import graph_files
from dfkit.errors import NOT_JSON, PhoneError
from dfkit.runtime.bundle import Bundle

PHONE_VERSION = 1
"""The version of the JSON that is read."""
BACKEND: Literal["tflite"] = "tflite"
MAX_BYTES = 10_000_000
"""A measurement of ten minutes has some 15 kB."""
FIX_SEND = "measure with this bundle's app (make android BUNDLE=...) or with dfkit bench --adb, and send what it shares"

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]
Word = Annotated[str, Field(min_length=1, max_length=200)]


class Part(BaseModel, frozen=True, extra="forbid"):
    """A part of the JSON; unknown keys are refused."""


class Times(Part, frozen=True):
    """Percentiles of a stage's times, ms."""

    p50_ms: Positive
    p90_ms: Positive
    p99_ms: Positive
    num: Count
    """Timed runs."""

    @model_validator(mode="after")
    def _rise(self) -> Times:
        if not self.p50_ms <= self.p90_ms <= self.p99_ms:
            raise ValueError(f"percentiles {self.p50_ms}, {self.p90_ms}, {self.p99_ms} do not rise")
        return self


class PhoneStart(Part, frozen=True):
    """Start of the app, ms, and memory, MB of 10^6 bytes."""

    import_ms: Positive | None
    """From the start of the process; None where the app was at work before, so that nothing here was cold."""
    load_ms: Positive
    first_ms: Positive
    baseline_mb: Positive | None
    peak_mb: Positive | None
    num: Count


class Heat(Part, frozen=True):
    """How warm the phone was."""

    status: Word | None
    """Android's thermal state, such as `none` or `severe`; None before Android 10."""
    battery_c: Finite | None
    """Degrees Celsius."""


class HeatWindow(Part, frozen=True):
    """Times of a clip over some seconds of work without a pause, and the heat at their end."""

    end_s: Positive
    clip: Times
    heat: Heat


class GoldenResult(Part, frozen=True):
    """Whether the phone calculates as it should."""

    passed: bool
    num_outputs: Annotated[int, Field(ge=0)]
    num_controls: Annotated[int, Field(ge=0)]


class Device(Part, frozen=True):
    """What measured, as it says itself."""

    manufacturer: Word
    model: Word
    soc: str
    android: Word
    api: Count
    abi: Word
    num_cores: Count
    memory_gb: Positive
    app: Word
    date: Word
    """UTC, ISO 8601."""


class PhoneRun(Part, frozen=True):
    """A measurement of a bundle by a phone."""

    schema_version: int
    measured_by: Literal["phone"]
    name: Word
    files: dict[str, str]
    """SHA-256 by name of the graphs that ran and of the face models: which bundle this is."""
    primary: Word
    latency_ms: dict[str, dict[str, Times]]
    """By variant, then by stage."""
    fresh: dict[str, PhoneStart]
    """By variant."""
    sustained: tuple[HeatWindow, ...]
    """Work without a pause, in order of time; empty where none was asked for."""
    golden: GoldenResult
    device: Device
    runtime: Word
    num_threads: Count
    repeats: Count
    warnings: tuple[str, ...]

    @model_validator(mode="after")
    def _is_whole(self) -> PhoneRun:
        missing = sorted(set(STAGES) - set(self.latency_ms.get(self.primary, {})))
        if missing:
            raise ValueError(f"latency_ms['{self.primary}'] lacks {', '.join(missing)}")
        if self.primary not in self.fresh:
            raise ValueError(f"fresh lacks '{self.primary}'")
        return self

    @property
    def stages(self) -> Mapping[str, Times]:
        """Times of the variant that was measured."""
        return self.latency_ms[self.primary]

    @property
    def cold_start(self) -> PhoneStart:
        """Its start."""
        return self.fresh[self.primary]

    @property
    def title(self) -> str:
        """Who measured, such as `Google Pixel 8, Android 14`; an emulator is called one."""
        name = f"{self.device.manufacturer} {self.device.model}, Android {self.device.android}"
        return name if self.device.abi.startswith("arm") else f"{name} (emulator or no phone: {self.device.abi})"


def read_phone_file(path: Path, bundle: Bundle) -> PhoneRun:
    """Reads a measurement that somebody sent.

    Args:
        path: The JSON that the app shares.
        bundle: Verified; what was measured has to be this one.
    Raises:
        PhoneError: As `read_phone_run`, or the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise PhoneError(f"{path} cannot be read: {error.strerror}", fix="name the JSON that the app shares") from error
    if len(content) > MAX_BYTES:
        raise PhoneError(f"{path} has more than {MAX_BYTES} bytes, a measurement has some 15 kB", fix=FIX_SEND)
    return read_phone_run(content, str(path), bundle)


def read_phone_run(content: bytes, where: str, bundle: Bundle) -> PhoneRun:
    """Reads and checks a measurement.

    Args:
        content: JSON, UTF-8.
        where: Named in errors.
        bundle: What was measured has to be this one.
    Raises:
        PhoneError: No JSON, another version, keys or values against the schema (all at once), another bundle (each
            file that is off is named), or a phone that calculates wrongly.
    """
    tree = _parse(content, where)
    try:
        run = PhoneRun.model_validate(tree)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, e['loc'])) or 'as a whole'}: {e['msg']}" for e in error.errors()]
        raise PhoneError("\n  ".join([f"{where} does not follow the schema:", *faults]), fix=FIX_SEND) from error
    faults = bundle_faults(run, bundle)
    if faults:
        raise PhoneError("\n  ".join([f"{where} was not measured with bundle {bundle.path}:", *faults]), fix=FIX_SEND)
    if not run.golden.passed:
        raise PhoneError(
            f"{where}: {run.title} calculates differently from where the bundle was exported; its times mean nothing",
            fix="let 'Check this phone' in the app say which outputs are off",
        )
    return run


def _parse(content: bytes, where: str) -> dict[str, Any]:
    try:
        tree = json.loads(content.decode("utf-8"))
    except NOT_JSON as error:
        raise PhoneError(f"{where} is no JSON: {error}", fix=FIX_SEND) from error
    if not isinstance(tree, dict):
        raise PhoneError(f"{where} is no JSON object", fix=FIX_SEND)
    version = tree.get("schema_version")
    if version != PHONE_VERSION:
        newer = isinstance(version, int) and version > PHONE_VERSION
        raise PhoneError(
            f"{where} has schema_version {json.dumps(version)}, this dfkit reads {PHONE_VERSION}",
            fix="update dfkit" if newer else FIX_SEND,
        )
    if set(tree) == {"schema_version", "error"}:
        raise PhoneError(f"the app measured nothing: {tree['error']}", fix="repair what it names, and measure again")
    return tree


def bundle_faults(run: PhoneRun, bundle: Bundle) -> list[str]:
    """What shows that another bundle was measured; empty where it was this one."""
    expected = measured_files(bundle)
    faults = [f"{name} was not measured" for name in sorted(set(expected) - set(run.files))]
    faults += [f"{name} is not in the bundle" for name in sorted(set(run.files) - set(expected))]
    faults += [
        f"{name} has SHA-256 {run.files[name]}, the bundle's {expected[name]}"
        for name in sorted(set(expected) & set(run.files))
        if run.files[name] != expected[name]
    ]
    return faults


def measured_files(bundle: Bundle) -> dict[str, str]:
    """SHA-256 by name of what a phone runs of a bundle: graphs and face models.

    Raises:
        PhoneError: The bundle has no graphs for a phone.
    """
    manifest = bundle.manifest
    graphs = manifest.backends.get(BACKEND)
    if graphs is None:
        raise PhoneError(f"bundle {bundle.path} has no {BACKEND} graphs", fix="dfkit export --format tflite")
    names = graph_files(graphs) | {entry.file for entry in manifest.face_models.values() if entry.file is not None}
    return {name: manifest.files[name].sha256 for name in names}
