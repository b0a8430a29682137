"""A .tflite that dfkit would not make is refused before an interpreter sees it."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from dfkit.errors import BundleError
from dfkit.runtime.backends import TfliteGraphs
from dfkit.runtime.flat_tables import read_graphs
from dfkit.runtime.graph_check import check_tflite
from dfkit.runtime.graph_operators import OPERATORS
from dfkit.runtime.manifest import Backend, Signature, TensorEntry
from dfkit.runtime.tflite_file import buffer_bytes, read_tables
from tests.runtime.bundles import convert_network

SCORE, STEP = 1, 2
"""Subgraphs of `score` and of a step of its recurrence."""
RUN_MANY = """
import sys
from pathlib import Path
import numpy as np
from ai_edge_litert.interpreter import Interpreter
for path in map(Path, sys.argv[1:]):
    print(path.name, flush=True)
    try:
        interpreter = Interpreter(model_content=path.read_bytes(), num_threads=1)
        for key in interpreter.get_signature_list():
            runner = interpreter.get_signature_runner(key)
            runner(**{n: np.zeros(d["shape"], d["dtype"]) for n, d in runner.get_input_details().items()})
    except (ValueError, RuntimeError) as error:
        print("refused", error, flush=True)
print("done")
"""


@pytest.fixture(scope="module")
def models() -> dict[str, bytes]:
    """The test bundle's float32 and mixed INT8 file."""
    return {name: convert_network()[name][1]["model.tflite"] for name in ("tflite_fp32", "tflite")}


def pack(tables: Any) -> bytes:
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(tables.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def unpack(content: bytes) -> Any:
    """A file's tables with the constants inside of them."""
    tables = read_tables(content, where="test")
    for buffer in tables.buffers:
        buffer.data = np.frombuffer(buffer_bytes(content, buffer), np.uint8)
        buffer.offset = buffer.size = 0
    return tables


def test_every_number_is_the_schemas() -> None:
    known = vars(schema.BuiltinOperator)
    assert {number: known[kind.name] for number, kind in OPERATORS.items()} == {n: n for n in OPERATORS}
    options = vars(schema.BuiltinOptions)
    named = {kind.name: kind.options_type for kind in OPERATORS.values() if kind.options_type}
    assert named["FULLY_CONNECTED"] == options["FullyConnectedOptions"]
    assert named["CONV_2D"] == options["Conv2DOptions"] and named["MEAN"] == options["ReducerOptions"]
    assert named["SPLIT"] == options["SplitOptions"] and named["IF"] == options["IfOptions"]
    assert named["BATCH_MATMUL"] == options["BatchMatMulOptions"] and named["RESHAPE"] == options["ReshapeOptions"]


def test_exports_pass(models: dict[str, bytes]) -> None:
    for name, content in models.items():
        check_tflite(content, where=name)
        check_tflite(pack(unpack(content)), where=f"{name}, packed again")


def operators_of(graph: Any, tables: Any, name: str) -> Iterator[Any]:
    number = getattr(schema.BuiltinOperator, name)
    for operator in graph.operators:
        code = tables.operatorCodes[operator.opcodeIndex]
        if max(code.builtinCode, code.deprecatedBuiltinCode) == number:
            yield operator


def first(tables: Any, name: str) -> tuple[Any, Any]:
    """The first operator of that name and its graph."""
    return next((op, graph) for graph in tables.subgraphs for op in operators_of(graph, tables, name))


def change_shape(name: str, place: int, shape: list[int]) -> Callable[[Any], None]:
    """States another shape for an operator's input, or its output where `place` is -1; a constant keeps its bytes."""

    def change(tables: Any) -> None:
        operator, graph = first(tables, name)
        number = operator.outputs[0] if place < 0 else operator.inputs[place]
        graph.tensors[number].shape = np.array(shape, np.int32)

    return change


def change_constant(name: str, place: int, edit: Callable[[np.ndarray], np.ndarray]) -> Callable[[Any], None]:
    """Edits an operator's int32 constant, in a buffer of its own."""

    def change(tables: Any) -> None:
        operator, graph = first(tables, name)
        tensor = graph.tensors[operator.inputs[place]]
        values = np.frombuffer(bytes(bytearray(tables.buffers[tensor.buffer].data)), np.int32).copy()
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(edit(values).astype(np.int32).tobytes(), np.uint8)
        tables.buffers.append(buffer)
        copy = schema.TensorT()
        vars(copy).update(vars(tensor))
        copy.buffer, copy.shape = len(tables.buffers) - 1, tensor.shape if len(edit(values)) == len(values) else None
        if copy.shape is None:
            copy.shape = np.array([len(edit(values))], np.int32)
        graph.tensors.append(copy)
        operator.inputs[place] = len(graph.tensors) - 1

    return change


def change_option(name: str, **changes: Any) -> Callable[[Any], None]:
    return lambda tables: vars(first(tables, name)[0].builtinOptions).update(changes)


def change_operator(name: str, **changes: Any) -> Callable[[Any], None]:
    return lambda tables: vars(first(tables, name)[0]).update(changes)


def change_score(edit: Callable[[Any], None]) -> Callable[[Any], None]:
    return lambda tables: edit(tables.subgraphs[SCORE])


def drop_input(name: str) -> Callable[[Any], None]:
    def change(tables: Any) -> None:
        operator, _ = first(tables, name)
        operator.inputs = operator.inputs[:-1]

    return change


def weights(tables: Any) -> Any:
    operator, graph = first(tables, "CONV_2D")
    return graph.tensors[operator.inputs[1]]


def quantize_weights(**changes: Any) -> Callable[[Any], None]:
    return lambda tables: vars(weights(tables).quantization).update(changes)


def use_builtin(name: str) -> Callable[[Any], None]:
    def change(tables: Any) -> None:
        number = getattr(schema.BuiltinOperator, name)
        tables.operatorCodes[0].builtinCode = number
        tables.operatorCodes[0].deprecatedBuiltinCode = min(number, 127)

    return change


def swap_weights(tables: Any) -> None:
    """A product gets the weights of one that takes more values."""
    found = [
        (op, graph.tensors[op.inputs[1]])
        for graph in tables.subgraphs
        for op in operators_of(graph, tables, "FULLY_CONNECTED")
        if graph.tensors[op.inputs[1]].type == schema.TensorType.INT8
    ]
    (narrow, _), (wide, _) = (
        min(found, key=lambda pair: pair[1].shape[1]),
        max(found, key=lambda pair: pair[1].shape[1]),
    )
    narrow.inputs[1] = wide.inputs[1]


def swap_bias(tables: Any) -> None:
    """Each convolution's bias belongs to the last one."""
    graph = tables.subgraphs[0]
    convolutions = list(operators_of(graph, tables, "CONV_2D"))
    widest = max(convolutions, key=lambda op: graph.tensors[op.inputs[2]].shape[0])
    first(tables, "CONV_2D")[0].inputs[2] = widest.inputs[2]


def set_of(target: Callable[[Any], Any], **changes: Any) -> Callable[[Any], None]:
    return lambda tables: vars(target(tables)).update(changes)


def swap_operators(graph: Any) -> None:
    graph.operators[0], graph.operators[-1] = graph.operators[-1], graph.operators[0]


def call_within(tables: Any) -> None:
    """The step of the recurrence calls itself."""
    call, graph = first(tables, "IF")
    step = tables.subgraphs[STEP]
    step.tensors += [graph.tensors[call.inputs[0]], graph.tensors[call.outputs[0]]]
    inner = schema.OperatorT()
    vars(inner).update(vars(call))
    condition = len(step.tensors) - 2
    inner.inputs = np.array([condition, *step.inputs], np.int32)
    inner.outputs = np.array([condition + 1], np.int32)
    step.operators.append(inner)


DAMAGE: dict[str, tuple[Callable[[Any], None], str]] = {
    "an operator that no export has": (use_builtin("WHILE"), "operator 119, which no export has"),
    "a custom operator": (set_of(lambda t: t.operatorCodes[0], customCode="Detect"), "operator Detect"),
    "an operator code": (change_operator("PAD", opcodeIndex=99), r"operator \d+: unknown code 99"),
    "a tensor of no graph": (change_operator("PAD", inputs=np.array([999, 1], np.int32)), "tensor 999 of"),
    "a negative tensor": (change_operator("CONV_2D", outputs=np.array([-7], np.int32)), "tensor -7 of"),
    "a buffer": (set_of(weights, buffer=9999), "buffer 9999 of"),
    "a subgraph": (set_of(lambda t: t.signatureDefs[0], subgraphIndex=7), "signature encode: subgraph 7 of 3"),
    "a signature's tensor": (set_of(lambda t: t.signatureDefs[1].inputs[0], tensorIndex=5), "score: its inputs"),
    "metadata": (set_of(lambda t: t.metadata[0], buffer=9999), "metadata in buffer 9999"),
    "a version": (lambda tables: setattr(tables, "version", 4), "schema version 4"),
    "a type": (set_of(weights, type=schema.TensorType.STRING), "type 5, which no export has"),
    "weights of another size": (set_of(weights, shape=np.array([8, 3, 3, 99], np.int32)), "its constant has"),
    "a size below zero": (change_shape("CONV_2D", -1, [1, -2, 3, 4]), "expected sizes from 1 on"),
    "an overflow of sizes": (change_shape("CONV_2D", -1, [65536, 65536, 1, 1]), "bytes, 268435456 at most"),
    "a dynamic shape": (
        set_of(lambda t: t.subgraphs[0].tensors[0], shapeSignature=np.array([-1, 112, 112, 3], np.int32)),
        "it has shape_signature",
    ),
    "a variable": (set_of(lambda t: t.subgraphs[0].tensors[0], isVariable=True), "it has is_variable"),
    "scales": (quantize_weights(scale=np.ones(3, np.float32), zeroPoint=np.zeros(3, np.int64)), "3 scales along"),
    "another axis of scales": (quantize_weights(quantizedDimension=1), "8 scales along axis 1 of"),
    "an axis of no tensor": (quantize_weights(quantizedDimension=9), "axis 9 of"),
    "no scale": (set_of(weights, quantization=None), "int8 without a scale"),
    "a scale of zero": (quantize_weights(scale=np.zeros(8, np.float32)), "zero, negative or no number"),
    "zero points": (quantize_weights(zeroPoint=np.full(8, 400, np.int64)), "zero points outside of -128 to 127"),
    "an input less": (drop_input("CONV_2D"), "2 inputs, expected 3 to 3"),
    "no output": (change_operator("PAD", outputs=np.array([], np.int32)), "0 outputs, expected 1 to 1"),
    "custom options": (change_operator("PAD", customOptions=[1, 2, 3]), "it has custom_options"),
    "other options": (
        change_operator("CONV_2D", builtinOptionsType=5, builtinOptions=schema.Pool2DOptionsT()),
        r"\(CONV_2D\): options of kind 5, expected 1",
    ),
    "an activation": (change_option("CONV_2D", fusedActivationFunction=4), "fused activation 4"),
    "a stride of zero": (change_option("CONV_2D", strideW=0), r"in steps of \(2, 0\)"),
    "a window beyond the picture": (change_option("MAX_POOL_2D", filterWidth=500), "a window of"),
    "a dilation": (change_option("CONV_2D", dilationWFactor=3), "a dilated convolution"),
    "a stated output": (change_shape("CONV_2D", -1, [1, 5, 5, 8]), r"\(CONV_2D\): its inputs give \[1, 56, 56, 8\]"),
    "negative padding": (change_constant("PAD", 1, lambda v: v - 1), "negative padding"),
    "more padding": (change_constant("PAD", 1, lambda v: v + 9), r"\(PAD\): its inputs give"),
    "a longer shape, as in #124982": (
        change_constant("RESHAPE", 1, lambda v: np.append(v, [1, 1, 1])),
        r"\(RESHAPE\): it asks for",
    ),
    "another shape": (change_constant("RESHAPE", 1, lambda v: v + 1), r"\(RESHAPE\): it asks for"),
    "a slice beyond": (change_constant("SLICE", 1, lambda v: v + 100), "reaches out of"),
    "an axis twice": (change_constant("TRANSPOSE", 1, np.zeros_like), r"axes \(0, 0"),
    "an axis beyond": (change_constant("MEAN", 1, lambda v: v + 100), r"axis 10\d of"),
    "a concatenation's axis": (change_option("CONCATENATION", axis=9), "axis 9 of"),
    "a split in more": (change_option("SPLIT", numSplits=7), "50 outputs, its options say 7"),
    "a split in fewer": (
        lambda tables: vars(first(tables, "SPLIT")[0]).update(outputs=first(tables, "SPLIT")[0].outputs[:49]),
        "49 outputs, its options say 50",
    ),
    "a split's output": (
        change_shape("SPLIT", -1, [7, 24]),
        r"\(SPLIT\): its inputs give \[1, 144\], the file states \[7, 24\] and \[1, 144\]",
    ),
    "a call of no graph": (change_option("IF", thenSubgraphIndex=9, elseSubgraphIndex=9), "it calls graph 9, those to"),
    "a call of itself": (
        change_option("IF", thenSubgraphIndex=SCORE, elseSubgraphIndex=SCORE),
        r"it calls graph 1, those to be called are \[2\]",
    ),
    "a call within a call": (call_within, r"subgraph 2, .* it calls graph 2, those to be called are \[\]"),
    "two graphs to call": (change_option("IF", elseSubgraphIndex=0), "graph 2 if so, 0 if not"),
    "a call's answer": (change_shape("IF", -1, [6, 9]), r"\(IF\): graph 2 gives"),
    "a step of other sizes": (
        set_of(lambda t: t.subgraphs[STEP].tensors[t.subgraphs[STEP].inputs[1]], shape=np.array([6, 9], np.int32)),
        r"\(IF\): graph 2 takes",
    ),
    "weights against values": (swap_weights, r"\(FULLY_CONNECTED\): values .* the weights"),
    "a bias": (swap_bias, r"\(CONV_2D\): the bias has the shape"),
    "a matrix not transposed": (change_option("BATCH_MATMUL", adjY=False), r"\(BATCH_MATMUL\)"),
    "a value before it is made": (change_score(swap_operators), "which nothing made before"),
    "a constant as an output": (
        change_score(lambda graph: setattr(graph.operators[0], "outputs", graph.operators[0].inputs[1:2])),
        "is there already",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_one_changed_entry_is_refused(models: dict[str, bytes], name: str) -> None:
    change, message = DAMAGE[name]
    tables = read_tables(models["tflite"], where="test")
    change(tables)
    with pytest.raises(BundleError, match=message) as caught:
        check_tflite(pack(tables), where="bad.tflite")
    assert str(caught.value).startswith("bad.tflite") and "Fix:" in str(caught.value)


def test_cut_off_and_scrambled_files_are_refused(models: dict[str, bytes]) -> None:
    content = models["tflite"]
    for broken in (b"", content[:7], content[:99], content[: len(content) // 3], b"\xff" * 4 + content[4:]):
        with pytest.raises(BundleError, match=r"is damaged|is not a \.tflite file"):
            check_tflite(broken, where="bad.tflite")


def test_it_stands_before_the_interpreter(models: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    entry = TensorEntry(name="pcm", tensor="args_0", shape=(1,), dtype="float32")
    signature = Signature(file="model.tflite", key="score", inputs=(entry,), outputs=(entry,))
    backend = Backend(recipe="fp32", encode=None, score=signature)
    tables = read_tables(models["tflite"], where="test")
    DAMAGE["a longer shape, as in #124982"][0](tables)

    def make(**_: Any) -> Any:
        raise AssertionError("an interpreter was made")

    monkeypatch.setattr(TfliteGraphs, "interpreter_class", staticmethod(lambda: make))
    with pytest.raises(
        BundleError, match=r"folder: model\.tflite is not as dfkit makes its files: signature \w+, opera"
    ):
        TfliteGraphs(backend, {"model.tflite": pack(tables)}, num_threads=1, where="folder")


def mutants(content: bytes, count: int) -> Iterator[bytes]:
    """One change each: a byte or four of the tables (constants may be anything), or an entry of the unpacked ones."""
    rng = random.Random(0)
    inside = bytearray(len(content))
    for start, size in read_graphs(content).buffers:
        inside[start : start + size] = b"\x01" * size
    places = [place for place in range(8, len(content) - 4) if not inside[place]]
    for number in range(count):
        if number % 5:
            changed, place = bytearray(content), rng.choice(places)
            if number % 5 < 3:
                changed[place] = rng.randrange(256)
            else:
                changed[place : place + 4] = rng.choice([0, 1, 2**31 - 1, 2**32 - 1, 255]).to_bytes(4, "little")
            yield bytes(changed)
            continue
        tables = read_tables(content, where="test")
        graph = rng.choice(tables.subgraphs)
        operator, tensor = rng.choice(graph.operators), rng.choice(graph.tensors)
        kind = rng.randrange(4)
        if kind == 0 and tensor.shape is not None and len(tensor.shape):
            tensor.shape[rng.randrange(len(tensor.shape))] = rng.choice([1, 2, 7, 1000])
        elif kind == 1:
            operator.inputs[rng.randrange(len(operator.inputs))] = rng.randrange(len(graph.tensors))
        elif kind == 2:
            tensor.type = rng.choice([0, 1, 2, 9])
        else:
            operator.opcodeIndex = rng.randrange(len(tables.operatorCodes))
        yield pack(tables)


def test_what_the_check_lets_pass_runs_without_a_crash(models: dict[str, bytes], tmp_path: Path) -> None:
    passed, refused = [], 0
    for number, mutant in enumerate(mutants(models["tflite"], 150)):
        try:
            check_tflite(mutant, where="mutant")
        except BundleError:
            refused += 1
            continue
        passed.append(tmp_path / f"{number}.tflite")
        passed[-1].write_bytes(mutant)
    print(f"{refused} refused, {len(passed)} let pass")
    assert refused > 50 and len(passed) > 20
    command = [sys.executable, "-c", RUN_MANY, *map(str, passed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    ended = done.returncode, done.stdout[-99:], done.stderr[-500:]
    assert done.returncode == 0 and done.stdout.endswith("done\n"), ended
