"""`dfkit inspect`: what a bundle or a lone model file consists of, byte by byte and operator by operator.

Reads tables and loads no graph, so that a file which no interpreter takes can be looked at, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dfkit.errors import BundleError, MissingExtraError
from dfkit.runtime.backends import signature_parts
from dfkit.runtime.bundle import FIX_COPY, Bundle, open_bundle
from dfkit.runtime.manifest import Manifest
from dfkit.runtime.operators import onnx_operators, tflite_operators, unnamed_graphs
from dfkit.runtime.tflite_file import (
    FILE_IDENTIFIER,
    FIX_FILE,
    buffer_bytes,
    dtype_name,
    embedded_manifest,
    metadata_of,
    read_tables,
    text_of,
)

SHARED = "shared"
"""Part of the constants that more than one signature reads."""
UNUSED = "unused"
TABLES = "tables"
"""Part of a file that is neither constant nor metadata: operators, tensors, shapes, alignment."""
CALLED = "called graph {}"
"""A graph without a signature, by its number."""
METADATA = "metadata"


@dataclass(frozen=True)
class TensorFacts:
    """Name, shape and type of a graph's input or output."""

    name: str
    """Of the tensor, inside the graph."""
    shape: tuple[int | str, ...]
    """A dynamic axis by its name."""
    dtype: str
    scale: float | None = None
    """real = (stored - zero_point) * scale; None where it is not quantized."""
    zero_point: int | None = None

    def text(self) -> str:
        """Such as `face_0 int8 [1, 112, 112, 3] scale 0.00392 zero point -128`."""
        quantized = "" if self.scale is None else f" scale {self.scale:.6g} zero point {self.zero_point}"
        return f"{self.name} {self.dtype} [{', '.join(map(str, self.shape))}]{quantized}"


@dataclass(frozen=True)
class GraphFacts:
    """Interface and operators of one signature of a .tflite, or of one .onnx."""

    name: str
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    operators: dict[str, int]
    """Count by name, most frequent first."""
    num_tensors: int
    kinds: dict[str, dict[str, int]]
    """Count by name, then by kind of arithmetic, see `dfkit.runtime.operators`."""

    def operator_texts(self) -> list[str]:
        """Such as `CONV_2D 6 (6 static)`; nothing in brackets where there is no INT8."""
        texts = []
        for name, number in self.operators.items():
            kinds = self.kinds.get(name, {})
            shown = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
            texts.append(f"{name} {number}" if set(kinds) <= {"float"} else f"{name} {number} ({shown})")
        return texts


@dataclass(frozen=True)
class FileFacts:
    """Graphs of one model file, and where its bytes go."""

    file: str
    bytes: int
    format: str
    """Such as `TFLite schema 3` or `ONNX opset 20`."""
    graphs: tuple[GraphFacts, ...]
    parts: dict[str, dict[str, int]]
    """Bytes by part (a signature, `shared`, `metadata`, `tables`), then by type or entry; they add up to `bytes`."""

    def lines(self) -> list[str]:
        """Lines for the terminal: each graph's interface and operators, then the bytes by part."""
        lines = [f"{self.file}: {self.bytes / 1e6:.3f} MB, {self.format}"]
        for graph in self.graphs:
            count = sum(graph.operators.values())
            lines.append(f"  {graph.name}: {count} operators, {graph.num_tensors} tensors")
            lines += [f"    in  {tensor.text()}" for tensor in graph.inputs]
            lines += [f"    out {tensor.text()}" for tensor in graph.outputs]
            lines.append("    " + ", ".join(graph.operator_texts()))
        lines.append("  bytes by part:")
        for part, sizes in self.parts.items():
            shown = ", ".join(f"{name} {size}" for name, size in sizes.items())
            lines.append(f"    {part}: {sum(sizes.values())} ({shown})" if sizes else f"    {part}: 0")
        return lines


@dataclass(frozen=True)
class Inspection:
    """What a bundle or a lone model file consists of."""

    path: str
    name: str | None
    """Of the manifest, in a bundle or in a .tflite; None for a file that carries none."""
    manifest: Manifest | None
    models: tuple[FileFacts, ...]
    others: dict[str, int]
    """Bytes of a bundle's other files."""

    def summary(self) -> list[str]:
        """Lines for the terminal: the manifest's head, each model file, the other files."""
        lines = [f"{self.path}: {self.name or 'carries no manifest'}"]
        if self.manifest is not None:
            recipes = ", ".join(f"{name} {backend.recipe}" for name, backend in self.manifest.backends.items())
            lines.append(
                f"made by dfkit {self.manifest.dfkit_version}; takes {', '.join(self.manifest.modalities)}; "
                f"{self.manifest.clip_spec.preset}, {self.manifest.clip_spec.num_frames} pictures; {recipes}"
            )
        for model in self.models:
            lines += model.lines()
        if self.others:
            lines.append(f"other files: {sum(self.others.values())} bytes")
            lines += [f"  {name} {size}" for name, size in self.others.items()]
        return lines

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return {
            "path": self.path,
            "name": self.name,
            "manifest": None if self.manifest is None else self.manifest.model_dump(mode="json"),
            "models": [asdict(model) for model in self.models],
            "others": self.others,
        }


def inspect_path(path: str | Path) -> Inspection:
    """Looks into a bundle, a .tflite or an .onnx.

    Args:
        path: Bundle folder or .zip, or a model file, which may stand alone.
    Returns:
        Its graphs and sizes; of a lone file that carries no manifest, without one.
    Raises:
        BundleError: Missing, damaged, or none of these.
        MissingExtraError: An .onnx is to be read and the package `onnx` is not installed.
    """
    path = Path(path)
    if not path.is_file():
        return inspect_bundle(open_bundle(path))
    with path.open("rb") as file:
        head = file.read(8)
    if head[:2] == b"PK":
        return inspect_bundle(open_bundle(path))
    content = path.read_bytes()
    if head[4:8] == FILE_IDENTIFIER:
        manifest = embedded_manifest(content, where=str(path))
        name = manifest.name if manifest else None
        return Inspection(str(path), name, manifest, (inspect_tflite(content, path.name),), {})
    if path.suffix == ".onnx":
        return Inspection(str(path), None, None, (inspect_onnx(content, path.name),), {})
    raise BundleError(f"{path} is neither a bundle nor a .tflite or .onnx", fix="name what dfkit export wrote")


def inspect_bundle(bundle: Bundle) -> Inspection:
    """The graphs of a verified bundle's backends, and the sizes of all other files."""
    models = []
    others = {}
    own = {signature.file for backend in bundle.manifest.backends.values() for _, signature in signature_parts(backend)}
    for name, entry in bundle.manifest.files.items():
        if name not in own:
            others[name] = entry.bytes
        elif name.endswith(".tflite"):
            models.append(inspect_tflite(bundle.read(name), name))
        elif name.endswith(".onnx"):
            models.append(inspect_onnx(bundle.read(name), name))
        else:
            others[name] = entry.bytes
    return Inspection(str(bundle.path), bundle.manifest.name, bundle.manifest, tuple(models), others)


def inspect_tflite(content: bytes, file: str) -> FileFacts:
    """Signatures, operators and bytes of a .tflite.

    Raises:
        BundleError: Damaged.
    """
    tables = read_tables(content, where=file)
    try:
        graphs = tuple(_tflite_graph(tables, signature) for signature in tables.signatureDefs or [])
        graphs += tuple(_called_graph(tables, number) for number in unnamed_graphs(tables))
        parts = _tflite_parts(content, tables)
    except (IndexError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{file} is damaged: {type(error).__name__}: {error}", fix=FIX_FILE) from error
    return FileFacts(file, len(content), f"TFLite schema {tables.version}", graphs, parts)


def _tflite_graph(tables: Any, signature: Any) -> GraphFacts:
    graph = tables.subgraphs[signature.subgraphIndex]
    kinds = tflite_operators(tables, graph)
    return GraphFacts(
        name=text_of(signature.signatureKey),
        inputs=tuple(_tflite_tensor(graph, entry) for entry in signature.inputs),
        outputs=tuple(_tflite_tensor(graph, entry) for entry in signature.outputs),
        operators=_counts(kinds),
        kinds=kinds,
        num_tensors=len(graph.tensors),
    )


def _called_graph(tables: Any, number: int) -> GraphFacts:
    """A graph that another one calls: the step of a recurrence."""
    graph = tables.subgraphs[number]
    kinds = tflite_operators(tables, graph)
    return GraphFacts(
        name=CALLED.format(number),
        inputs=(),
        outputs=(),
        operators=_counts(kinds),
        kinds=kinds,
        num_tensors=len(graph.tensors),
    )


def _counts(kinds: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    return {name: sum(found.values()) for name, found in kinds.items()}


def _tflite_tensor(graph: Any, entry: Any) -> TensorFacts:
    tensor = graph.tensors[entry.tensorIndex]
    quantization = tensor.quantization
    scale = zero_point = None
    if quantization is not None and quantization.scale is not None and len(quantization.scale) == 1:
        scale, zero_point = float(quantization.scale[0]), int(quantization.zeroPoint[0])
    shape = tuple(int(n) for n in (() if tensor.shape is None else tensor.shape))
    return TensorFacts(text_of(entry.name), shape, dtype_name(tensor), scale, zero_point)


def _tflite_parts(content: bytes, tables: Any) -> dict[str, dict[str, int]]:
    """Each buffer once: under the signature that reads it, or as shared."""
    keys = {signature.subgraphIndex: text_of(signature.signatureKey) for signature in tables.signatureDefs or []}
    readers: dict[int, set[str]] = {}
    types: dict[int, str] = {}
    for number, graph in enumerate(tables.subgraphs):
        for tensor in graph.tensors:
            readers.setdefault(tensor.buffer, set()).add(keys.get(number, CALLED.format(number)))
            types[tensor.buffer] = dtype_name(tensor)
    sizes = [len(buffer_bytes(content, buffer)) for buffer in tables.buffers]
    parts: dict[str, Counter[str]] = {key: Counter() for key in keys.values()}
    entries = {name: len(value) for name, value in metadata_of(content, tables).items()}
    in_metadata = {entry.buffer for entry in tables.metadata or []}
    for number, size in enumerate(sizes):
        if size and number not in in_metadata:
            owners = readers.get(number, {UNUSED})
            part = next(iter(owners)) if len(owners) == 1 else SHARED
            parts.setdefault(part, Counter())[types.get(number, UNUSED)] += size
    rest = len(content) - sum(sizes)
    return {part: dict(found.most_common()) for part, found in parts.items()} | {
        METADATA: entries,
        TABLES: {"operators, tensors, alignment": rest},
    }


def inspect_onnx(content: bytes, file: str) -> FileFacts:
    """Inputs, outputs, operators and bytes of an .onnx.

    Raises:
        BundleError: Damaged.
        MissingExtraError: The package `onnx` is not installed.
    """
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise MissingExtraError("onnx", "export") from error
    try:
        model = onnx.load_from_string(content)
    except Exception as error:  # protobuf's DecodeError has no public base class
        raise BundleError(f"{file} is not an ONNX file: {error}", fix=FIX_COPY) from error
    weights: Counter[str] = Counter()
    for tensor in model.graph.initializer:
        weights[onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).name] += tensor.ByteSize()
    graph = GraphFacts(
        name=Path(file).stem,
        inputs=tuple(_onnx_tensors(model.graph.input)),
        outputs=tuple(_onnx_tensors(model.graph.output)),
        operators=dict(Counter(node.op_type for node in model.graph.node).most_common()),
        num_tensors=len(model.graph.initializer),
        kinds=onnx_operators(model.graph),
    )
    opsets = ", ".join(f"{entry.domain or 'ai.onnx'} {entry.version}" for entry in model.opset_import)
    parts: Mapping[str, dict[str, int]] = {
        graph.name: dict(weights.most_common()),
        TABLES: {"nodes, names": len(content) - sum(weights.values())},
    }
    return FileFacts(file, len(content), f"ONNX opset {opsets}, IR {model.ir_version}", (graph,), dict(parts))


def _onnx_tensors(values: Sequence[Any]) -> list[TensorFacts]:
    import onnx

    found = []
    for value in values:
        kind = value.type.tensor_type
        shape = tuple(axis.dim_param or axis.dim_value for axis in kind.shape.dim)
        found.append(TensorFacts(value.name, shape, onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name))
    return found
