"""The bundle's index: what is in it, how its graphs are called, and what its numbers rest on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError

from dfkit.clip import ClipSpec, Modality
from dfkit.measures.decision import Aggregation, Calibration, Decision, OperatingPoint
from dfkit.measures.familiarity import Familiarity
from dfkit.runtime.contract import Serving

MANIFEST_FILE = "manifest.json"
MANIFEST_VERSION = 4
"""2: `aggregation`; a bundle of version 1 takes the mean of a track's clips. 3: `serving`, and where the face
models lie and come from. 4: crops come out of planes of Y, U and V, and thin evidence is `review`."""


class FileEntry(BaseModel, frozen=True, extra="forbid"):
    """One file of the bundle."""

    bytes: NonNegativeInt
    """Size."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Hash of the content."""


class FaceModelEntry(FileEntry, frozen=True, extra="forbid"):
    """A face model; a bundle of version 1 or 2 knows its size and hash alone."""

    role: Literal["detector", "landmarks", "full_range_detector"] | None = None
    """What it is run for: section of `serving` with its constants. Without a `full_range_detector` there is no second
    stage."""
    file: str | None = None
    """Where it lies in the bundle."""
    source: str | None = None
    """Where it comes from."""
    license: str | None = None
    """SPDX name and copyright; the text lies beside the file."""


class TensorEntry(BaseModel, frozen=True, extra="forbid"):
    """One input or output of a graph."""

    name: str
    """dfkit's name: inputs `face`, `lip`, `face_features`, `lip_features`, `pcm`, `mfcc`, `landmarks`; outputs
    `face_features`, `lip_features`, `frame_logits`, `clip_logits`."""
    tensor: str
    """Name inside the graph."""
    shape: tuple[PositiveInt, ...]
    """Static shape; pictures are NHWC."""
    dtype: Literal["float32", "int8", "uint8"]
    """The graph's own type; the API takes uint8 pictures and float32 sound."""
    scale: PositiveFloat = 1.0
    """real = (stored - zero_point) * scale; a float32 picture input is stored * 1 with scale 1 and takes
    [0, 1], an int8 picture input has scale 1/255 and zero point -128, which is uint8 XOR 0x80."""
    zero_point: int = 0
    """See `scale`."""


class Signature(BaseModel, frozen=True, extra="forbid"):
    """One callable graph."""

    file: str
    """File of the bundle that holds it."""
    key: str
    """Signature key inside a .tflite; the graph's name for ONNX."""
    inputs: tuple[TensorEntry, ...]
    outputs: tuple[TensorEntry, ...]


class Backend(BaseModel, frozen=True, extra="forbid"):
    """One runtime's graphs. A `lite` student (no pictures) has no `encode`."""

    recipe: str
    """Quantization recipe: `fp32`, `fp16`, `dynamic_int8`, `static_int8` or `mixed_int8`; for ONNX
    `fp32` or `qdq_int8`."""
    encode: Signature | None
    score: Signature
    opset: PositiveInt | None = None
    """ONNX operator set of the graphs; none for a .tflite."""
    ir_version: PositiveInt | None = None
    """ONNX IR version of the graphs' files; none for a .tflite."""
    runtimes: dict[str, str] = {}
    """Smallest version that gave the golden answers, by package; an older one is to be refused. None in a bundle of
    before version 3."""
    operators: dict[str, dict[str, PositiveInt]] = {}
    """Operators of both graphs: count by name, then by arithmetic: `static` and `dynamic` INT8, `weight-only` INT8 that
    is turned into float before use, `float`. Empty in a bundle of before version 3."""
    constant_bytes: dict[str, PositiveInt] = {}
    """Bytes of both graphs' constants by type."""
    int8_share: float | None = None
    """Share of the trained parameters that is stored in 8 bits; none for a float recipe."""


class DecisionEntry(BaseModel, frozen=True, extra="forbid"):
    """A decision beside the manifest's own."""

    operating_point: OperatingPoint
    calibration: Calibration
    aggregation: Aggregation = Aggregation()

    @classmethod
    def of(cls, decision: Decision | None) -> DecisionEntry | None:
        """A decision as the manifest stores it; None of none."""
        return None if decision is None else cls.model_validate(decision.to_facts())

    @property
    def decision(self) -> Decision:
        """How the logits of a video's clips become its verdict."""
        return Decision(self.calibration, self.operating_point, self.aggregation)


class Manifest(BaseModel, frozen=True, extra="forbid"):
    """Content of manifest.json."""

    schema_version: Literal[1, 2, 3, 4] = 4
    name: str
    dfkit_version: str
    clip_spec: ClipSpec
    modalities: tuple[Modality, ...]
    network: dict[str, Any]
    """Widths and variant of the network."""
    backends: dict[Literal["tflite", "onnx"], Backend]
    operating_point: OperatingPoint
    calibration: Calibration
    aggregation: Aggregation = Aggregation()
    """How a track's clips are put together; their mean in a bundle of version 1."""
    decision_muted: DecisionEntry | None = None
    """For a video without sound, scored with a PCM of zeros; without it such a video is `no_audio`. Only of a model
    that was trained with modality dropout, which hides sound the same way."""
    familiarity: Familiarity | None = None
    """What real training videos look like to `encode`: a video too far from them is `review`. None of a model without
    pictures, under `uniform50`, and in a bundle of before."""
    files: dict[str, FileEntry]
    """Every file of the bundle but the manifest; empty in the copy that a .tflite carries, which cannot hold its own
    hash."""
    face_models: dict[str, FaceModelEntry]
    """The face models that the runtime has to run, by name; shipped with dfkit and in the bundle."""
    serving: Serving | None = None
    """Constants of the way from a file to an answer; none in a bundle of version 1 or 2."""
    metrics: dict[str, Any] = {}
    """Measured figures with the data they were measured on."""
    calibration_set: dict[str, Any] = {}
    """Clips that fixed the static INT8 ranges, with their groups; none of them in validation or test."""
    warnings: tuple[str, ...] = ()
    """What a reader has to know before trusting the figures."""
    versions: dict[str, str] = {}
    """Packages that made the bundle."""

    @property
    def decision(self) -> Decision:
        """How the logits of a video's clips become its verdict."""
        return Decision(self.calibration, self.operating_point, self.aggregation)

    def decision_by(self, modalities: Sequence[str]) -> Decision:
        """The decision for a video of which these modalities were there."""
        is_muted = "audio" in self.modalities and "audio" not in modalities
        return self.decision_muted.decision if is_muted and self.decision_muted is not None else self.decision


def validation_faults(error: ValidationError) -> list[str]:
    """One line per fault of a JSON document: the path of the key, and what is wrong with its value."""
    return [f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()]
