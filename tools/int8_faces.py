"""Writes the INT8 face models from MediaPipe's float16 ones, byte for byte the same on every machine.

    python tools/int8_faces.py            writes dfkit/media/face_models/*_int8.tflite
    python tools/int8_faces.py --measure  measures the landmarks' mean offset anew first

Weights of convolutions become int8 with a scale per output channel; activations stay float32, because with int8
activations the tracker loses its face. A DEQUANTIZE in front of each convolution stays in the graph: XNNPACK runs it
once, while it loads, so a picture costs as much as before. dfkit reads x and y only, so the rows for z go.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
OFFSETS = Path(__file__).with_name("int8_faces_offsets.json")
DETECTOR, LANDMARK = "face_detection_short_range", "face_landmark"
FULL_RANGE = "face_detection_full_range_sparse"
# In int8 this layer alone, the last of the backbone, makes the detector's boxes 5.5 % too small.
KEPT_FLOAT16: dict[str, tuple[int, ...]] = {DETECTOR: (143,), LANDMARK: (), FULL_RANGE: (3, 372, 381)}
# XNNPACK takes a float16 bias only beside float16 weights; it runs neither otherwise, eight times as slow.
PER_CHANNEL_DEQUANTIZE_VERSION = 5
OFFSET_PER_PX = 256


class Graph:
    """The tables of a .tflite with one subgraph, and its constants."""

    def __init__(self, content: bytes) -> None:
        from ai_edge_litert import schema_py_generated as schema

        from dfkit.runtime.tflite_file import buffer_bytes, read_tables

        self.schema = schema
        self.tables = read_tables(content, where="the face model")
        self.graph = self.tables.subgraphs[0]
        self.constants = [buffer_bytes(content, buffer) for buffer in self.tables.buffers]
        self.source_of = self._by_output("DEQUANTIZE")
        self.sparse_of = self._by_output("DENSIFY")

    def _by_output(self, kind: str) -> dict[int, Any]:
        return {int(op.outputs[0]): op for op in self.graph.operators if self.code(op) == self._kind(kind)}

    def _kind(self, name: str) -> int:
        return int(getattr(self.schema.BuiltinOperator, name))

    def code(self, operator: Any) -> int:
        """Builtin operator; files of 2020 hold it in the old field only."""
        code = self.tables.operatorCodes[operator.opcodeIndex]
        return max(code.builtinCode, code.deprecatedBuiltinCode)

    def convolutions(self) -> list[tuple[int, Any]]:
        """Place and operator of every CONV_2D; the depthwise ones are small and stay float16."""
        return [(n, op) for n, op in enumerate(self.graph.operators) if self.code(op) == self._kind("CONV_2D")]

    def stored(self, tensor: int) -> Any:
        """The float16 tensor behind a constant, sparse where a DENSIFY fills its zeros in."""
        source = int(self.source_of[tensor].inputs[0])
        if source in self.sparse_of:
            source = int(self.sparse_of[source].inputs[0])
        return self.graph.tensors[source]

    def read(self, tensor: int) -> np.ndarray:
        """A float16 constant as float32, dense."""
        stored = self.stored(tensor)
        values = np.frombuffer(self.constants[stored.buffer], np.float16).astype(np.float32)
        if stored.sparsity is None:
            return values.reshape(stored.shape)
        dense = np.zeros((stored.shape[0], stored.shape[-1]), np.float32)
        dense[sparse_places(stored)] = values
        return dense.reshape(stored.shape)

    def store_int8(self, tensor: int, weights: np.ndarray) -> None:
        """Puts int8 weights where float16 ones were."""
        stored, full = self.stored(tensor), self.graph.tensors[tensor]
        largest = np.abs(weights).reshape(len(weights), -1).max(axis=1)
        scale = (np.where(largest > 0, largest, 1) / 127).astype(np.float32)
        column = scale.reshape(-1, 1, 1, 1)
        values = np.clip(np.rint(weights / column), -127, 127).astype(np.int8)
        quantization = self.schema.QuantizationParametersT()
        quantization.scale, quantization.zeroPoint = scale.tolist(), [0] * len(scale)
        quantization.quantizedDimension = 0
        quantized = self.graph.tensors[int(self.source_of[tensor].inputs[0])]
        stored.type = quantized.type = self.schema.TensorType.INT8
        # What DENSIFY reads needs no scale: it copies.
        quantized.quantization = quantization
        stored.shape = full.shape = list(weights.shape)
        if stored.sparsity is not None:
            values = values.reshape(len(values), -1)[sparse_places(stored)]
        self.constants[stored.buffer] = values.tobytes()

    def store_float32_bias(self, operator: Any, bias: np.ndarray) -> None:
        """Lets a convolution read its bias directly."""
        source = self.source_of.pop(int(operator.inputs[2]))
        stored = self.graph.tensors[int(source.inputs[0])]
        stored.type, stored.shape = self.schema.TensorType.FLOAT32, [len(bias)]
        self.constants[stored.buffer] = bias.astype(np.float32).tobytes()
        operator.inputs = [int(operator.inputs[0]), int(operator.inputs[1]), int(source.inputs[0])]
        self.graph.operators = [op for op in self.graph.operators if op is not source]

    def write(self, description: str) -> bytes:
        """The finished file, without names."""
        import flatbuffers

        from dfkit.export.compact import compact
        from dfkit.runtime.tflite_file import FILE_IDENTIFIER

        for code in self.tables.operatorCodes:
            code.builtinCode = max(code.builtinCode, code.deprecatedBuiltinCode)
            if code.builtinCode == self._kind("DEQUANTIZE"):
                code.version = PER_CHANNEL_DEQUANTIZE_VERSION
        for buffer, content in zip(self.tables.buffers, self.constants, strict=True):
            buffer.data, buffer.offset, buffer.size = np.frombuffer(content, np.uint8) if content else None, 0, 0
        self.tables.metadata = self.tables.metadataBuffer = None
        self.tables.description = description
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.tables.Pack(builder), file_identifier=FILE_IDENTIFIER)
        return compact(bytes(builder.Output()))


def sparse_places(tensor: Any) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each stored value of a sparse 1 x 1 convolution, (n, 1, 1, c): rows are compressed (CSR)."""
    *dense, columns = tensor.sparsity.dimMetadata
    assert [int(part.denseSize) for part in dense] == [int(size) for size in tensor.shape[:3]]
    starts, indices = (np.asarray(part.values, np.int64) for part in (columns.arraySegments, columns.arrayIndices))
    return np.repeat(np.arange(len(starts) - 1), np.diff(starts)), indices


def make_int8(name: str, original: bytes, offset_px: np.ndarray | None = None) -> bytes:
    """Makes an INT8 face model.

    Args:
        name: `DETECTOR`, `LANDMARK` or `FULL_RANGE`.
        original: Content of MediaPipe's file.
        offset_px: (936,) added to the landmarks x, y: what rounding moves them by on average, taken back.
    Returns:
        Content of the new file.
    """
    from dfkit.clip import NUM_LANDMARKS

    model = Graph(original)
    for place, operator in model.convolutions():
        if place in KEPT_FLOAT16[name]:
            continue
        weights, bias = model.read(int(operator.inputs[1])), model.read(int(operator.inputs[2]))
        if len(weights) == NUM_LANDMARKS * 3:
            rows = np.arange(len(weights)).reshape(NUM_LANDMARKS, 3)[:, :2].ravel()
            weights, bias = weights[rows], bias[rows]
            if offset_px is not None:
                bias = bias + offset_px.astype(np.float32)
            model.graph.tensors[int(operator.outputs[0])].shape = [1, 1, 1, len(rows)]
        model.store_int8(int(operator.inputs[1]), weights)
        model.store_float32_bias(operator, bias)
    return model.write(f"{name} of MediaPipe 0.10.21, Apache-2.0; changed by dfkit: convolution weights int8")


def measure_offset(original: bytes, changed: bytes) -> np.ndarray:
    """Mean difference of the landmarks on the synthetic head, (936,) pixels of the network's picture."""
    from dfkit.media.faces import FaceModels
    from dfkit.media.track import FaceTracker
    from tests.media.face_cases import synthetic_head

    pictures: list[np.ndarray] = []

    class Recorder(FaceModels):
        def landmark(self, picture: np.ndarray) -> tuple[np.ndarray, float]:
            pictures.append(picture.copy())
            return super().landmark(picture)

    tracker = FaceTracker(Recorder(), max_faces=1)
    for rgb in synthetic_head():
        tracker.update(rgb)
    return (_points(original, pictures) - _points(changed, pictures)).mean(axis=0).ravel()


def _points(content: bytes, pictures: list[np.ndarray]) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    from dfkit.clip import NUM_LANDMARKS

    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    output = max(interpreter.get_output_details(), key=lambda detail: int(np.prod(detail["shape"])))["index"]
    points = []
    for picture in pictures:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture[None])
        interpreter.invoke()
        points.append(interpreter.get_tensor(output).reshape(NUM_LANDMARKS, -1)[:, :2].astype(np.float64))
    return np.stack(points)


def make_all(folder: Path, offsets: Path = OFFSETS) -> dict[str, bytes]:
    """The INT8 models by file name, from the originals in a folder and the stored offsets."""
    stored = np.array(json.loads(offsets.read_text(encoding="utf-8"))["offsets"])
    by_name = {DETECTOR: None, LANDMARK: stored / OFFSET_PER_PX, FULL_RANGE: None}
    return {
        f"{name}_int8.tflite": make_int8(name, (folder / f"{name}.tflite").read_bytes(), offset)
        for name, offset in by_name.items()
    }


def main() -> int:
    """Writes the files and prints their sizes and hashes."""
    sys.path.insert(0, str(ROOT))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="measure the landmarks' mean offset anew")
    from dfkit.media.faces import MODEL_FOLDER

    if parser.parse_args().measure:
        original = (MODEL_FOLDER / f"{LANDMARK}.tflite").read_bytes()
        offset = np.rint(measure_offset(original, make_int8(LANDMARK, original)) * OFFSET_PER_PX).astype(int)
        facts = {"unit": f"1/{OFFSET_PER_PX} px of the 192 px picture", "offsets": offset.tolist()}
        OFFSETS.write_text(json.dumps(facts) + "\n", encoding="utf-8")
    for name, content in make_all(MODEL_FOLDER).items():
        (MODEL_FOLDER / name).write_bytes(content)
        print(f"{name}: {len(content)} bytes, {hashlib.sha256(content).hexdigest()}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
