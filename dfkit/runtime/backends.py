"""Runs a bundle's two graphs through TFLite or ONNX Runtime.

Both take the same arrays under dfkit's names: uint8 pictures, float32 features and PCM. What type a graph
itself takes stands in the manifest and is converted here. Pictures go through `encode` in the batch that the
manifest names, never more: a picture's features must not depend on what else was at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from dfkit.errors import BundleError, ConfigError, ShapeError
from dfkit.native_log import native_log
from dfkit.runtime.bundle import FIX_COPY, Bundle
from dfkit.runtime.first_open import open_first
from dfkit.runtime.graph_check import check_tflite
from dfkit.runtime.manifest import Backend, Signature, TensorEntry
from dfkit.runtime.proven import refuse_older

BackendName = Literal["tflite", "onnx"]
BACKEND_ORDER: tuple[BackendName, ...] = ("tflite", "onnx")
"""What is taken where several are there: the one that the phone runs comes first."""
PICTURES = ("face", "lip")


class Graphs(Protocol):
    """The two graphs of one backend, loaded. Not thread-safe: an interpreter keeps its tensors between calls."""

    name: BackendName
    recipe: str
    num_threads: int

    def encode(self, pictures: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Features of pictures.

        Args:
            pictures: `face` and `lip` (n, side, side, 3), uint8 RGB; what the model does not
                take is ignored.
        Returns:
            `face_features`, `lip_features`, as far as the model has them: (n, C) float32.
        Raises:
            ShapeError: A picture of another shape or type, or one that the model takes is not there.
        """
        ...

    def score(self, inputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Logits of one clip.

        Args:
            inputs: `face_features`, `lip_features` (T, C), `pcm` (num_samples,) or `mfcc` (T, n_mfcc),
                `landmarks` (T, 468, 2) in source pixels, all float32; what the model does not take is ignored.
        Returns:
            Frame logits (T, 2) and clip logits (2,), float32, class 1 fake.
        Raises:
            ShapeError: An array of another shape, or one that the model takes is not there.
        """
        ...


def open_backend(
    bundle: Bundle,
    name: BackendName | None = None,
    *,
    num_threads: int = 1,
    files: Mapping[str, str] | None = None,
) -> Graphs:
    """Loads the graphs of one backend; files that were never opened here, in a process of their own first.

    Args:
        bundle: Verified bundle.
        name: `tflite` or `onnx`; None takes the first that the bundle has, in that order.
        num_threads: Threads of the interpreter.
        files: Files of the bundle to read in place of those that the signatures name.
    Returns:
        The graphs.
    Raises:
        ConfigError: The bundle does not have that backend.
        BundleError: A graph cannot be loaded or run, is not as dfkit makes them, or not as the manifest says.
    """
    backends = bundle.manifest.backends
    if name is None:
        name = next(n for n in BACKEND_ORDER if n in backends)
    if name not in backends:
        raise ConfigError(
            f"bundle {bundle.path} has no graphs for {name}, only for {', '.join(backends)}",
            fix=f"choose {' or '.join(backends)}, or export with --format {name}",
        )
    backend = backends[name]
    content = graph_files(bundle, backend, files)
    open_first(name, backend, content, where=str(bundle.path))
    return load_graphs(name, backend, content, num_threads=num_threads, where=str(bundle.path), checked=True)


def load_graphs(
    name: str,
    backend: Backend,
    content: Mapping[str, bytes],
    *,
    num_threads: int,
    where: str,
    checked: bool = False,
) -> TfliteGraphs | OnnxGraphs:
    """Loads graphs into this process, whatever they are; `open_backend` is for those of a bundle.

    Args:
        name: Of the backend.
        backend: The manifest's entry.
        content: Bytes by file name.
        num_threads: Threads of the interpreter.
        where: Named in errors.
        checked: Whether `open_first` let these bytes pass.
    """
    if name == "tflite":
        return TfliteGraphs(backend, content, num_threads=num_threads, where=where, checked=checked)
    return OnnxGraphs(backend, content, num_threads=num_threads, where=where)


def graph_files(bundle: Bundle, backend: Backend, stand_ins: Mapping[str, str] | None = None) -> dict[str, bytes]:
    """Content of a backend's graph files by the names that the signatures have, from `stand_ins` where it names others.

    Raises:
        BundleError: A file is not listed, or changed.
    """
    names = sorted({signature.file for _, signature in signature_parts(backend)})
    return {name: bundle.read((stand_ins or {}).get(name, name)) for name in names}


class _SignatureGraphs:
    """Conversion of arrays by the manifest; a subclass runs the graph."""

    def __init__(self, backend: Backend, *, num_threads: int) -> None:
        self.recipe = backend.recipe
        self.num_threads = num_threads
        self._encode, self._score = backend.encode, backend.score
        picture_inputs = () if backend.encode is None else backend.encode.inputs
        self._tables = {entry.name: picture_table(entry) for entry in picture_inputs}

    def _run(self, part: str, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        raise NotImplementedError

    def encode(self, pictures: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Features of pictures, in batches of the size that the graph takes; see `Graphs.encode`."""
        if self._encode is None:
            return {}
        entries = self._encode.inputs
        for entry in entries:
            _check_picture(entry, pictures.get(entry.name))
        counts = {pictures[entry.name].shape[0] for entry in entries}
        if len(counts) != 1:
            raise ShapeError(f"encode takes as many faces as lips, got {sorted(counts)}")
        count, batch = counts.pop(), entries[0].shape[0]
        if count == batch:
            return self._encode_batch({e.name: pictures[e.name] for e in entries})
        # An empty part in front: without pictures there still are features, of zero rows.
        features = {e.name: [np.zeros((0, *e.shape[1:]), np.float32)] for e in self._encode.outputs}
        for start in range(0, count, batch):
            encoded = self._encode_batch({e.name: pictures[e.name][start : start + batch] for e in entries})
            for name, values in encoded.items():
                features[name].append(values)
        return {name: np.concatenate(parts) for name, parts in features.items()}

    def _encode_batch(self, pictures: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs one batch, which may be short: it is filled up with black pictures, whose features are dropped."""
        assert self._encode is not None
        feeds = {}
        count = 0
        for entry in self._encode.inputs:
            picture = pictures[entry.name]
            count = picture.shape[0]
            num_missing = entry.shape[0] - count
            if num_missing:
                black = np.zeros((num_missing, *picture.shape[1:]), np.uint8)
                picture = np.concatenate([picture, black])
            feeds[entry.tensor] = picture_to_graph(picture, entry, self._tables[entry.name])
        outputs = self._run("encode", feeds)
        return {e.name: from_graph(outputs[e.tensor], e).reshape(e.shape)[:count] for e in self._encode.outputs}

    def score(self, inputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Logits of one clip; see `Graphs.score`."""
        feeds = {}
        for entry in self._score.inputs:
            array = inputs.get(entry.name)
            if array is None:
                raise ShapeError(f"score takes '{entry.name}', got only {sorted(inputs)}")
            if _without_batch(array.shape) != _without_batch(entry.shape):
                raise ShapeError(f"score takes '{entry.name}' as {entry.shape}, got {array.shape}")
            feeds[entry.tensor] = to_graph(array, entry).reshape(entry.shape)
        outputs = self._run("score", feeds)
        logits = {e.name: from_graph(outputs[e.tensor], e) for e in self._score.outputs}
        return logits["frame_logits"].reshape(-1, 2), logits["clip_logits"].reshape(2)


class TfliteGraphs(_SignatureGraphs):
    """Two signatures of one .tflite, through ai-edge-litert."""

    name: BackendName = "tflite"
    package = "ai-edge-litert"
    """That brings the interpreter."""

    def __init__(
        self,
        backend: Backend,
        content: Mapping[str, bytes],
        *,
        num_threads: int,
        where: str,
        checked: bool = False,
        interpreters: dict[str, Any] | None = None,
    ) -> None:
        """Loads the file and holds the signatures against the manifest.

        Args:
            backend: The manifest's entry.
            content: Bytes by file name.
            num_threads: Threads of the interpreter.
            where: Named in errors.
            checked: Whether `check_tflite` let these bytes pass, by the rules of this installation: it takes 30 ms.
            interpreters: Those of files that are loaded already, by name; others are added, so that graphs which share
                a file and are not run at once are loaded once.
        Raises:
            BundleError: Not a TFLite file, one that dfkit would not make, another than the manifest describes, or made
                for a newer runtime.
        """
        super().__init__(backend, num_threads=num_threads)
        refuse_older(backend, self.package, where=where)
        self._interpreters: dict[str, Any] = {} if interpreters is None else interpreters
        for file in sorted({signature.file for _, signature in signature_parts(backend)}):
            if not checked and file not in self._interpreters:
                check_tflite(content[file], where=f"{where}: {file}")
        make_interpreter = self.interpreter_class()
        self._runners: dict[str, Any] = {}
        for part, signature in signature_parts(backend):
            try:
                with native_log():
                    if signature.file not in self._interpreters:
                        self._interpreters[signature.file] = make_interpreter(
                            model_content=content[signature.file], num_threads=num_threads
                        )
                        self._interpreters[signature.file].allocate_tensors()
                    runner = self._interpreters[signature.file].get_signature_runner(signature.key)
            except (ValueError, RuntimeError) as error:
                raise BundleError(f"{where}: {signature.file} cannot be loaded: {error}", fix=FIX_COPY) from error
            for details, entries in (
                (runner.get_input_details(), signature.inputs),
                (runner.get_output_details(), signature.outputs),
            ):
                found = {n: (tuple(d["shape"]), np.dtype(d["dtype"]).name) for n, d in details.items()}
                _check_tensors(f"{where}: {signature.file}, signature {signature.key}", found, entries)
            self._runners[part] = runner

    @staticmethod
    def interpreter_class() -> Any:
        """Class of the interpreter, imported on first use."""
        from ai_edge_litert.interpreter import Interpreter

        return Interpreter

    def _run(self, part: str, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return self._runners[part](**feeds)


class OnnxGraphs(_SignatureGraphs):
    """One or two .onnx files, through ONNX Runtime on the CPU."""

    name: BackendName = "onnx"
    optimized = True
    """Whether ONNX Runtime rewrites the graph when it loads it."""

    def __init__(self, backend: Backend, content: Mapping[str, bytes], *, num_threads: int, where: str) -> None:
        """Loads the files and holds their inputs and outputs against the manifest.

        Args:
            backend: The manifest's entry.
            content: Bytes by file name.
            num_threads: Threads within an operator; operators run one after another.
            where: Named in errors.
        Raises:
            BundleError: Not an ONNX file, another one than the manifest describes, or an older runtime than it names.
        """
        super().__init__(backend, num_threads=num_threads)
        refuse_older(backend, "onnxruntime", where=where)
        self._sessions: dict[str, Any] = {}
        self._outputs: dict[str, list[str]] = {}
        for part, signature in signature_parts(backend):
            where_file = f"{where}: {signature.file}"
            session = _open_session(content[signature.file], num_threads, where_file, optimized=self.optimized)
            for values, entries in (
                (session.get_inputs(), signature.inputs),
                (session.get_outputs(), signature.outputs),
            ):
                found = {v.name: (tuple(v.shape), _ONNX_TYPES.get(v.type, v.type)) for v in values}
                _check_tensors(f"{where}: {signature.file}", found, entries)
            self._sessions[part] = session
            self._outputs[part] = [entry.tensor for entry in signature.outputs]

    def _run(self, part: str, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        names = self._outputs[part]
        return dict(zip(names, self._sessions[part].run(names, feeds), strict=True))


NO_FOLDER = str(Path(__file__).with_name("no external data"))
"""Does not exist: a bundle's .onnx holds all its weights."""
_ONNX_TYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(int8)": "int8"}


def _open_session(content: bytes, num_threads: int, where: str, *, optimized: bool) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    # Else weights that a crafted file says lie beside it are read from wherever this process stands.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", NO_FOLDER)
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own exceptions share no public base class
        raise BundleError(f"{where} cannot be loaded: {error}", fix=FIX_COPY) from error


def _check_tensors(where: str, found: dict[str, tuple[Any, str]], entries: tuple[TensorEntry, ...]) -> None:
    """Names, shapes and types of the manifest against those of the graph; a dynamic axis takes any size."""
    for entry in entries:
        if entry.tensor not in found:
            raise BundleError(f"{where} has no tensor '{entry.tensor}', only {sorted(found)}", fix=FIX_COPY)
        shape, dtype = found[entry.tensor]
        if not _shape_fits(shape, entry.shape) or dtype != entry.dtype:
            raise BundleError(
                f"{where}: '{entry.tensor}' is {dtype} {shape}, the manifest says {entry.dtype} {entry.shape}",
                fix=FIX_COPY,
            )


def _shape_fits(found: tuple[Any, ...], expected: tuple[int, ...]) -> bool:
    """Whether a graph's shape, in which a dynamic axis is a name or None, takes arrays of the expected one."""
    if len(found) != len(expected):
        return False
    fixed = [(axis, size) for axis, size in zip(found, expected, strict=True) if isinstance(axis, int | np.integer)]
    return all(axis == size for axis, size in fixed)


def _check_picture(entry: TensorEntry, picture: np.ndarray | None) -> None:
    if picture is None:
        raise ShapeError(f"encode takes '{entry.name}'")
    if picture.dtype != np.uint8 or picture.shape[1:] != entry.shape[1:]:
        raise ShapeError(
            f"encode takes '{entry.name}' as uint8 (n, {', '.join(map(str, entry.shape[1:]))}), "
            f"got {picture.dtype} {picture.shape}"
        )


def _without_batch(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[1:] if len(shape) > 1 and shape[0] == 1 else shape


def picture_table(entry: TensorEntry) -> np.ndarray | None:
    """Stored value of each of the 256 grey levels; None where no table is needed.

    None for float32 (divided by 255), and for an integer input whose table is the identity (uint8) or flips
    the highest bit (int8 with scale 1/255 and zero point -128).
    """
    if entry.dtype == "float32":
        return None
    levels = np.arange(256)
    low, high = (0, 255) if entry.dtype == "uint8" else (-128, 127)
    stored = np.clip(np.rint(levels / 255 / entry.scale) + entry.zero_point, low, high).astype(entry.dtype)
    identity = levels.astype(np.uint8)
    if entry.dtype == "uint8":
        # An ONNX graph that casts by itself takes uint8 with scale 1.
        needs_no_table = entry.scale == 1.0 or np.array_equal(stored, identity)
    else:
        needs_no_table = np.array_equal(stored, (identity ^ 0x80).view(np.int8))
    return None if needs_no_table else stored


def picture_to_graph(picture: np.ndarray, entry: TensorEntry, table: np.ndarray | None) -> np.ndarray:
    """Turns uint8 pictures into what the graph takes.

    Args:
        picture: (n, side, side, 3) uint8.
        entry: The input.
        table: From `picture_table`.
    Returns:
        The same shape, `entry.dtype`.
    """
    if entry.dtype == "float32":
        return picture.astype(np.float32) / np.float32(255)
    if table is not None:
        return table[picture]
    return picture if entry.dtype == "uint8" else (picture ^ np.uint8(0x80)).view(np.int8)


def to_graph(array: np.ndarray, entry: TensorEntry) -> np.ndarray:
    """Turns a float32 array into the input's type: stored = round(real / scale) + zero_point."""
    if entry.dtype == "float32":
        return np.ascontiguousarray(array, dtype=np.float32)
    low, high = (0, 255) if entry.dtype == "uint8" else (-128, 127)
    return np.clip(np.rint(array / entry.scale) + entry.zero_point, low, high).astype(entry.dtype)


def from_graph(array: np.ndarray, entry: TensorEntry) -> np.ndarray:
    """Turns an output into float32: real = (stored - zero_point) * scale."""
    if entry.dtype == "float32":
        return np.asarray(array, dtype=np.float32)
    return ((array.astype(np.int32) - entry.zero_point) * np.float32(entry.scale)).astype(np.float32)


def signature_parts(backend: Backend) -> tuple[tuple[str, Signature], ...]:
    """The signatures that a backend has, each with its part, `encode` or `score`; without pictures only `score`."""
    parts = (("encode", backend.encode), ("score", backend.score))
    return tuple((part, signature) for part, signature in parts if signature is not None)
