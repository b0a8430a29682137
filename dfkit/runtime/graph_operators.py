"""The operators that dfkit's .tflite files are made of: what each takes, and the shapes that follow.

One table, `OPERATORS`, says which there are. An operator's rule takes its inputs' shapes and its options and gives its
outputs' shapes; that the file states exactly these is what keeps a kernel from writing past what was reserved for
them. Ranks, types and options are those that exports have, not all that a kernel might take.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

from dfkit.runtime.flat_tables import FlatTable, GraphRecord, TensorRecord

Shape = tuple[int, ...]
FLOAT32, FLOAT16, INT32, BOOL, INT8 = 0, 1, 2, 6, 9
"""Numbers of the schema's TensorType."""
DTYPES = {FLOAT32: ("float32", 4), FLOAT16: ("float16", 2), INT32: ("int32", 4), BOOL: ("bool", 1), INT8: ("int8", 1)}
"""Name and bytes of the types that a graph may hold."""
NONE, RELU = frozenset({0}), frozenset({0, 1})
ANY = RELU | {3}
"""Numbers of the schema's ActivationFunctionType that an operator may have: none, RELU, RELU6."""
SAME_PADDING, VALID_PADDING = 0, 1


class MismatchError(ValueError):
    """Shapes, types or options of one operator that do not fit each other."""


@dataclass(frozen=True, slots=True)
class Call:
    """One operator with its tensors, as a rule sees it."""

    inputs: tuple[TensorRecord | None, ...]
    outputs: tuple[TensorRecord, ...]
    options: FlatTable | None
    read_int32: Callable[[int], Shape]
    """Values of a constant int32 input, by its place."""
    callable_graphs: Mapping[int, GraphRecord]
    """Graphs that an operator may call, by number: those that no signature names."""

    def shape(self, place: int) -> Shape:
        """Shape of an input that has to be there."""
        tensor = self.inputs[place]
        if tensor is None:
            raise MismatchError(f"input {place} is left out")
        return tensor.shape

    def vector(self, place: int) -> Shape:
        """Values of a constant int32 input of one axis."""
        if len(self.shape(place)) != 1:
            raise MismatchError(f"input {place} has the shape {self.shape(place)}, expected one axis")
        return self.read_int32(place)

    def option(self, field: int, default: int = 0) -> int:
        """An int32 option."""
        return default if self.options is None else self.options.int32(field, default)

    def choice(self, field: int) -> int:
        """An option stored in a byte: an activation, a padding."""
        return 0 if self.options is None else self.options.byte(field)

    def flag(self, field: int) -> bool:
        """A Boolean option."""
        return self.options is not None and self.options.flag(field)


Rule = Callable[[Call], list[Shape]]


@dataclass(frozen=True)
class Operator:
    """One operator that exports have."""

    name: str
    rule: Rule
    num_inputs: tuple[int, int]
    """Fewest and most."""
    types: frozenset[tuple[int, ...]]
    """Type of each input that is there, then of the outputs; for a list of inputs or outputs all are alike."""
    options_type: int = 0
    """Number of its options in the schema; 0 for one without any, or whose options nothing depends on."""
    optional: int | None = None
    """Place of an input that may be left out."""
    max_rank: int = 4
    """Most axes of a tensor: kernels unroll to a fixed number."""
    per_channel: tuple[tuple[int, int], ...] = ()
    """Inputs that may have a scale per channel: place, and axis of the channels (-1: the last one)."""
    options_may_lack: bool = False
    """Whether exports leave the options out."""
    activations: tuple[int, frozenset[int]] | None = None
    """Field of a fused activation and those that exports have."""
    most_outputs: int = 1

    def channels(self, inputs: tuple[TensorRecord | None, ...]) -> set[tuple[int, int]]:
        """`per_channel` with axes counted from the front."""
        ranks = {place: len(tensor.shape) for place, tensor in enumerate(inputs) if tensor is not None}
        return {(place, axis % max(ranks[place], 1)) for place, axis in self.per_channel if place in ranks}


def _need(holds: bool, found: str) -> None:
    if not holds:
        raise MismatchError(found)


def _same(call: Call) -> list[Shape]:
    return [call.shape(0)]


def _broadcast_shapes(first: Shape, second: Shape) -> Shape:
    rank = max(len(first), len(second))
    one, other = (1,) * (rank - len(first)) + first, (1,) * (rank - len(second)) + second
    for a, b in zip(one, other, strict=True):
        _need(a == b or 1 in (a, b), f"inputs {first} and {second} do not broadcast")
    return tuple([max(a, b) for a, b in zip(one, other, strict=True)])


def _elementwise(call: Call) -> list[Shape]:
    first, second = call.shape(0), call.shape(1)
    return [first if first == second else _broadcast_shapes(first, second)]


def _bias_fits(call: Call, channels: int) -> None:
    bias = call.inputs[2] if len(call.inputs) > 2 else None
    if bias is not None:
        _need(bias.shape == (channels,), f"the bias has the shape {bias.shape}, the weights have {channels} outputs")


def _fully_connected(call: Call) -> list[Shape]:
    values, weights = call.shape(0), call.shape(1)
    _need(len(weights) == 2 and len(values) >= 1, f"weights {weights} for values {values}, expected two axes")
    _need(values[-1] == weights[1], f"values {values} end in {values[-1]}, the weights {weights} take {weights[1]}")
    _need(call.choice(1) == 0 and (call.options is None or not call.options.has(5)), "its weights are in another order")
    _bias_fits(call, weights[0])
    keeps_axes = call.flag(2)
    return [(*values[:-1], weights[0]) if keeps_axes else (prod(values[:-1]), weights[0])]


def _window(call: Call, size: Shape, strides: Shape) -> Shape:
    """Places of a window over the two picture axes."""
    values, padding = call.shape(0), call.choice(0)
    _need(len(values) == 4, f"pictures of the shape {values}, expected four axes")
    _need(padding in (SAME_PADDING, VALID_PADDING), f"padding {padding}")
    _need(min(*size, *strides) >= 1, f"a window of {size} in steps of {strides}")
    sides = values[1:3]
    if padding == SAME_PADDING:
        return tuple([-(-n // step) for n, step in zip(sides, strides, strict=True)])
    _need(all(n >= k for n, k in zip(sides, size, strict=True)), f"a window of {size} over pictures of {sides}")
    return tuple([(n - k) // step + 1 for n, k, step in zip(sides, size, strides, strict=True)])


def _conv_2d(call: Call) -> list[Shape]:
    values, weights = call.shape(0), call.shape(1)
    _need(len(weights) == 4, f"weights of the shape {weights}, expected four axes")
    _need(
        values[-1:] == weights[3:], f"pictures {values} have {values[-1:]} channels, the weights {weights} take others"
    )
    _need(call.option(4, 1) == 1 and call.option(5, 1) == 1, "a dilated convolution")
    _bias_fits(call, weights[0])
    rows, columns = _window(call, weights[1:3], (call.option(2), call.option(1)))
    return [(values[0], rows, columns, weights[0])]


def _depthwise_conv_2d(call: Call) -> list[Shape]:
    values, weights = call.shape(0), call.shape(1)
    _need(
        len(weights) == 4 and weights[0] == 1, f"weights of the shape {weights}, expected (1, rows, columns, channels)"
    )
    fits = values[-1:] == weights[3:] and call.option(3) == 1
    _need(fits, f"pictures {values} have {values[-1:]} channels, the weights {weights} are not one for each")
    _need(call.option(5, 1) == 1 and call.option(6, 1) == 1, "a dilated convolution")
    _bias_fits(call, weights[3])
    rows, columns = _window(call, weights[1:3], (call.option(2), call.option(1)))
    return [(values[0], rows, columns, weights[3])]


def _max_pool_2d(call: Call) -> list[Shape]:
    values = call.shape(0)
    rows, columns = _window(call, (call.option(4), call.option(3)), (call.option(2), call.option(1)))
    return [(values[0], rows, columns, values[3])]


def _batch_matmul(call: Call) -> list[Shape]:
    left, right = call.shape(0), call.shape(1)
    _need(min(len(left), len(right)) >= 2, f"matrices {left} and {right}, expected two axes at least")
    if call.flag(0):
        left = (*left[:-2], left[-1], left[-2])
    if call.flag(1):
        right = (*right[:-2], right[-1], right[-2])
    _need(left[-1] == right[-2], f"matrices {left} and {right} share no inner axis")
    return [(*_broadcast_shapes(left[:-2], right[:-2]), left[-2], right[-1])]


def _pad(call: Call) -> list[Shape]:
    values = call.shape(0)
    _need(call.shape(1) == (len(values), 2), f"paddings of the shape {call.shape(1)} for values {values}")
    amounts = call.read_int32(1)
    _need(min(amounts) >= 0, f"negative padding {amounts}")
    return [tuple([n + before + after for n, before, after in zip(values, amounts[::2], amounts[1::2], strict=True)])]


def _pad_with(call: Call) -> list[Shape]:
    _need(prod(call.shape(2)) == 1, f"it pads with values of the shape {call.shape(2)}, expected one value")
    return _pad(call)


def _axis(axis: int, rank: int) -> int:
    _need(-rank <= axis < rank, f"axis {axis} of {rank}")
    return axis % rank


def _concatenation(call: Call) -> list[Shape]:
    shapes = [call.shape(place) for place in range(len(call.inputs))]
    first = shapes[0]
    axis = _axis(call.option(0), len(first))
    rest = first[:axis], first[axis + 1 :]
    for shape in shapes[1:]:
        fits = len(shape) == len(first) and (shape[:axis], shape[axis + 1 :]) == rest
        _need(fits, f"{shape} does not go with {first} along axis {axis}")
    return [(*rest[0], sum([shape[axis] for shape in shapes]), *rest[1])]


def _reshape(call: Call) -> list[Shape]:
    # The output's rank has to be the stated one before anything runs: tensorflow #124982 writes past it.
    values, stated = call.shape(0), call.outputs[0].shape
    wanted = [call.vector(1)]
    if call.options is not None and call.options.has(0):
        wanted.append(call.options.numbers(0))
    for shape in wanted:
        fits = len(shape) == len(stated) and all(n in (-1, m) for n, m in zip(shape, stated, strict=True))
        _need(fits and shape.count(-1) <= 1, f"it asks for {shape}, the output is stated as {stated}")
    _need(prod(values) == prod(stated), f"{values} has {prod(values)} values, {stated} has {prod(stated)}")
    return [stated]


def _slice(call: Call) -> list[Shape]:
    values, starts, sizes = call.shape(0), call.vector(1), call.vector(2)
    _need(len(starts) == len(sizes) == len(values), f"from {starts} on {sizes} of {values}")
    shape = [n - start if size == -1 else size for n, start, size in zip(values, starts, sizes, strict=True)]
    inside = [start >= 0 and 1 <= size <= n - start for n, start, size in zip(values, starts, shape, strict=True)]
    _need(all(inside), f"from {starts} on {sizes} reaches out of {values}")
    return [tuple(shape)]


def _transpose(call: Call) -> list[Shape]:
    values, order = call.shape(0), call.vector(1)
    _need(sorted(order) == list(range(len(values))), f"axes {order} of {values}")
    return [tuple([values[axis] for axis in order])]


def _reduce(call: Call) -> list[Shape]:
    values = call.shape(0)
    axes = [_axis(axis, len(values)) for axis in call.vector(1)]
    _need(len(set(axes)) == len(axes) >= 1, f"axes {axes} of {values}")
    if call.flag(0):
        return [tuple([1 if axis in axes else n for axis, n in enumerate(values)])]
    return [tuple([n for axis, n in enumerate(values) if axis not in axes])]


def _reverse(call: Call) -> list[Shape]:
    values, axes = call.shape(0), call.vector(1)
    _need(len(axes) == 1, f"axes {axes}, expected one")
    _axis(axes[0], len(values))
    return [values]


def _gather_nd(call: Call) -> list[Shape]:
    values, indices = call.shape(0), call.shape(1)
    depth = indices[-1] if indices else 0
    _need(1 <= depth <= len(values), f"indices {indices} into {values}")
    places = call.read_int32(1)
    for axis in range(depth):
        along = places[axis::depth]
        _need(min(along) >= 0 and max(along) < values[axis], f"indices from {min(along)} to {max(along)} into {values}")
    return [(*indices[:-1], *values[depth:])]


def _softmax(call: Call) -> list[Shape]:
    _need(len(call.shape(0)) >= 1, "a softmax over no axis")
    return [call.shape(0)]


def _split(call: Call) -> list[Shape]:
    (axis,), values, count = call.read_int32(0), call.shape(1), len(call.outputs)
    _need(call.shape(0) == (), f"an axis of the shape {call.shape(0)}")
    axis = _axis(axis, len(values))
    _need(call.option(0) == count, f"{count} outputs, its options say {call.option(0)}")
    _need(values[axis] % count == 0, f"{values} in {count} along axis {axis}")
    return [(*values[:axis], values[axis] // count, *values[axis + 1 :])] * count


def _if(call: Call) -> list[Shape]:
    """Exports call a graph by it, the same in both cases."""
    _need(call.shape(0) == (), f"a condition of the shape {call.shape(0)}")
    called, other = call.option(0), call.option(1)
    _need(called == other, f"graph {called} if so, {other} if not, which no export has")
    _need(called in call.callable_graphs, f"it calls graph {called}, those to be called are {[*call.callable_graphs]}")
    graph = call.callable_graphs[called]
    for what, given, numbers in (("takes", call.inputs[1:], graph.inputs), ("gives", call.outputs, graph.outputs)):
        _need(all(0 <= number < len(graph.tensors) for number in numbers), f"graph {called} has no such tensor")
        own = [(graph.tensors[number].shape, graph.tensors[number].dtype) for number in numbers]
        here = [(tensor.shape, tensor.dtype) for tensor in given if tensor is not None]
        _need(here == own, f"graph {called} {what} {own}, here it is {here}")
    return [tensor.shape for tensor in call.outputs]


_F, _H, _I, _B, _Q = FLOAT32, FLOAT16, INT32, BOOL, INT8
_FLOAT_PAIR = frozenset({(_F, _F, _F)})
_PAIR = _FLOAT_PAIR | {(_Q, _Q, _Q)}
_FLOAT_ONE = frozenset({(_F, _F)})
_ONE = _FLOAT_ONE | {(_Q, _Q)}
_INDEXED = frozenset({(_F, _I, _F), (_Q, _I, _Q)})
_PRODUCT = frozenset({(_F, _F, _F), (_F, _Q, _F), (_Q, _Q, _Q)})
# Of bundles whose recurrence was not yet of FULLY_CONNECTED: a state times INT8 weights per channel; the first state is
# a constant.
_OLD_PRODUCT = frozenset({(_Q, _Q, _F)})
_BIASED = _PRODUCT | {(_F, _F, _F, _F), (_F, _Q, _F, _F), (_Q, _Q, _I, _Q)}
MANY = 1_000
"""Most inputs of a concatenation, and outputs of a split: a state per picture."""

OPERATORS: dict[int, Operator] = {
    0: Operator("ADD", _elementwise, (2, 2), _PAIR, 11, activations=(0, NONE)),
    2: Operator("CONCATENATION", _concatenation, (1, MANY), _ONE, 10, activations=(1, NONE)),
    3: Operator("CONV_2D", _conv_2d, (3, 3), _BIASED, 1, per_channel=((1, 0), (2, 0)), activations=(3, ANY)),
    4: Operator(
        "DEPTHWISE_CONV_2D",
        _depthwise_conv_2d,
        (3, 3),
        _BIASED,
        2,
        per_channel=((1, 3), (2, 0)),
        activations=(4, ANY),
    ),
    6: Operator("DEQUANTIZE", _same, (1, 1), frozenset({(_Q, _F), (_H, _F)})),
    9: Operator(
        "FULLY_CONNECTED",
        _fully_connected,
        (2, 3),
        _BIASED,
        8,
        optional=2,
        per_channel=((1, 0), (2, 0)),
        activations=(0, RELU),
    ),
    14: Operator("LOGISTIC", _same, (1, 1), _ONE),
    17: Operator("MAX_POOL_2D", _max_pool_2d, (1, 1), _ONE, 5, activations=(5, NONE)),
    18: Operator("MUL", _elementwise, (2, 2), _PAIR, 21, activations=(0, ANY)),
    22: Operator("RESHAPE", _reshape, (2, 2), _INDEXED, 17, max_rank=5, options_may_lack=True),
    25: Operator("SOFTMAX", _softmax, (1, 1), _ONE, 9),
    28: Operator("TANH", _same, (1, 1), _ONE),
    34: Operator("PAD", _pad, (2, 2), _INDEXED, 22),
    39: Operator("TRANSPOSE", _transpose, (2, 2), _INDEXED),
    40: Operator("MEAN", _reduce, (2, 2), _INDEXED, 27, max_rank=5),
    41: Operator("SUB", _elementwise, (2, 2), _PAIR, 28, activations=(0, NONE)),
    42: Operator("DIV", _elementwise, (2, 2), _FLOAT_PAIR, 29, activations=(0, NONE)),
    55: Operator("MAXIMUM", _elementwise, (2, 2), _FLOAT_PAIR),
    49: Operator("SPLIT", _split, (2, 2), frozenset({(_I, _F, _F)}), 35, most_outputs=MANY),
    60: Operator("PADV2", _pad_with, (3, 3), frozenset({(_F, _I, _F, _F), (_Q, _I, _Q, _Q)})),
    65: Operator("SLICE", _slice, (3, 3), frozenset({(_F, _I, _I, _F), (_Q, _I, _I, _Q)})),
    73: Operator("LOG", _same, (1, 1), _FLOAT_ONE),
    74: Operator("SUM", _reduce, (2, 2), _INDEXED, 27),
    75: Operator("SQRT", _same, (1, 1), _FLOAT_ONE),
    82: Operator("REDUCE_MAX", _reduce, (2, 2), _INDEXED, 27),
    105: Operator("REVERSE_V2", _reverse, (2, 2), _INDEXED),
    107: Operator("GATHER_ND", _gather_nd, (2, 2), _INDEXED),
    118: Operator("IF", _if, (3, 3), frozenset({(_B, _F, _F, _F)}), 92),
    114: Operator("QUANTIZE", _same, (1, 1), frozenset({(_F, _Q), (_Q, _Q)})),
    126: Operator("BATCH_MATMUL", _batch_matmul, (2, 2), _PRODUCT | _OLD_PRODUCT, 101, per_channel=((0, -1), (1, -1))),
}
"""By number in the schema's BuiltinOperator."""
