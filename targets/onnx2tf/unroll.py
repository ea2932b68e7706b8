"""LSTM, GRU and RNN as plain operators, one step after the other, before onnx2tf sees them.

onnx2tf makes a sequence operator of an LSTM whose state is a variable: a runtime keeps it from one run to the next, or
refuses the file. Written out, a model has no state, and its products are dense layers that can be int8.

The equations are those of the ONNX operators: LSTM, gates in the order i, o, f, c; GRU in the order z, r, h, with
`linear_before_reset` or without.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.errors import ConversionError
from edgeship.targets.onnx import graph as g

MAX_STEPS = 512

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_USUAL = {"LSTM": ["sigmoid", "tanh", "tanh"], "GRU": ["sigmoid", "tanh"], "RNN": ["tanh"]}
_STAY = "stay with ONNX for this model, or export it with plain operators"

Array = NDArray[np.float32]


@dataclass(frozen=True)
class _Cell:
    """What decides a recurrent operator. B is zero where the operator has none."""

    kind: str
    name: str
    steps: int
    batch: int
    width: int  # of an input
    hidden: int
    weights: Array  # [directions, gates · hidden, width]
    recurrent: Array  # [directions, gates · hidden, hidden]
    bias: Array  # [directions, 2 · gates · hidden]
    backward: tuple[bool, ...]  # of each direction
    reset_after: bool  # GRU: linear_before_reset


class _Writer:
    """Collects nodes and constants under names of their own."""

    def __init__(self, stem: str) -> None:
        self.stem, self.nodes, self.held, self._count = stem, list[Any](), list[Any](), 0

    def name(self) -> str:
        self._count += 1
        return f"{self.stem}/{self._count}"

    def constant(self, value: NDArray[Any]) -> str:
        from onnx import numpy_helper

        name = self.name()
        self.held.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        (out,) = self.split(operator, 1, *inputs, **attributes)
        return out

    def split(self, operator: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        from onnx import helper

        outputs = [self.name() for _ in range(count)]
        self.nodes.append(helper.make_node(operator, inputs, outputs, name=self.name(), **attributes))
        return outputs

    def parts(self, value: str, count: int, size: int, axis: int) -> list[str]:
        """`count` equal parts of `size` along an axis."""
        if count == 1:
            return [value]
        return self.split("Split", count, value, self.constant(np.full(count, size, np.int64)), axis=axis)

    def shaped(self, value: str, *shape: int) -> str:
        return self.add("Reshape", value, self.constant(np.array(shape, np.int64)))


def unroll(model: Any) -> None:
    """Replace every recurrent operator of the main graph, in place.

    Args:
        model: a prepared ModelProto: constants are initializers, shapes are known.

    Raises:
        ConversionError: one cannot be written out; it is named, with what is in the way.
    """
    shapes = {name: shape for name, (_, shape) in g.shapes(model).items()}
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes: list[Any] = []
    for number, node in enumerate(model.graph.node):
        if node.op_type not in _GATES or node.domain not in ("", "ai.onnx"):
            nodes.append(node)
            continue
        writer = _Writer(f"unrolled{number}")
        _write(writer, node, _cell(node, shapes, held))
        nodes.extend(writer.nodes)
        model.graph.initializer.extend(writer.held)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _cell(node: Any, shapes: Mapping[str, Sequence[int] | None], held: Mapping[str, Any]) -> _Cell:
    """What a node says. Raises ConversionError."""
    from onnx import helper, numpy_helper

    kind, given = node.op_type, [*node.input, *[""] * 8]
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if (reason := _obstacle(node, attributes, shapes, held)) is not None:
        raise ConversionError(f"its {kind} {node.name!r} cannot become plain operators: {reason}", hint=_STAY)
    direction = attributes.get("direction", b"forward")
    weights, recurrent = (numpy_helper.to_array(held[name]) for name in given[1:3])
    steps, batch, width = shapes[given[0]] or ()
    bias = np.zeros((len(weights), 2 * weights.shape[1]), np.float32)
    if given[3]:
        bias = numpy_helper.to_array(held[given[3]])
    backward = {b"forward": (False,), b"reverse": (True,), b"bidirectional": (False, True)}[direction]
    return _Cell(
        kind, node.name, steps, batch, width, recurrent.shape[2], weights, recurrent, bias, backward,
        bool(attributes.get("linear_before_reset", 0)),
    )  # fmt: skip


def _obstacle(
    node: Any, attributes: Mapping[str, Any], shapes: Mapping[str, Sequence[int] | None], held: Mapping[str, Any]
) -> str | None:  # fmt: skip
    """What is in the way of writing a node out."""
    from onnx import numpy_helper

    given = [*node.input, *[""] * 8]
    shape = shapes.get(given[0])
    if not shape or len(shape) != 3 or min(shape) < 1:
        return "the shape of its input is not known"
    if shape[0] > MAX_STEPS:
        return f"it runs over {shape[0]} steps, {MAX_STEPS} are the limit"
    if any(name and name not in held for name in given[1:4]):
        return "its weights are computed"
    if given[4] and not (given[4] in held and bool(np.all(numpy_helper.to_array(held[given[4]]) == shape[0]))):
        return "its sequences have lengths of their own"
    if given[7] or attributes.get("input_forget") or attributes.get("clip") or attributes.get("layout"):
        return "it has peepholes, a coupled gate, a clip or its batch first"
    usual = _USUAL[node.op_type]
    if [name.decode().lower() for name in attributes.get("activations", [])] not in ([], usual, usual * 2):
        return "its activations are not the usual ones"
    return None


def _write(w: _Writer, node: Any, cell: _Cell) -> None:
    """Nodes that compute what a recurrent operator does; its outputs keep their names."""
    from onnx import helper

    given = [*node.input, *[""] * 8]
    flat = w.shaped(node.input[0], cell.steps * cell.batch, cell.width)
    starts = [w.parts(given[at], len(cell.backward), 1, 0) if given[at] else None for at in (5, 6)]  # [h, c][direction]
    every: list[str] = []
    last: list[list[str]] = [[], []]  # h and c of each direction
    for direction, backward in enumerate(cell.backward):
        h, c = (_start(w, cell, start, direction) for start in starts)
        found = list(_run(w, cell, direction, backward, flat, h, c))
        out = [state for state, _ in (reversed(found) if backward else found)]
        joined = w.add("Concat", *out, axis=0) if len(out) > 1 else out[0]
        every.append(w.shaped(joined, cell.steps, 1, cell.batch, cell.hidden))
        for states, state in zip(last, found[-1], strict=True):
            states.append(w.shaped(state, 1, cell.batch, cell.hidden))
    for name, parts, axis in zip(node.output, (every, *last), (1, 0, 0), strict=False):
        if name:
            if len(parts) == 1:  # onnx2tf has no TFLite for a Concat of one
                w.nodes.append(helper.make_node("Identity", parts, [name], name=w.name()))
                continue
            w.nodes.append(helper.make_node("Concat", parts, [name], name=w.name(), axis=axis))


def _start(w: _Writer, cell: _Cell, given: list[str] | None, direction: int) -> str:
    """The state before the first step [batch, hidden]."""
    if given is None:
        return w.constant(np.zeros((cell.batch, cell.hidden), np.float32))
    return w.shaped(given[direction], cell.batch, cell.hidden)


def _run(
    w: _Writer, cell: _Cell, direction: int, backward: bool, flat: str, h: str, c: str
) -> Iterator[tuple[str, str]]:  # fmt: skip
    """(h, c) after each step, in the order in which the steps are taken."""
    gates, hidden = _GATES[cell.kind], cell.hidden
    of_input, of_state = cell.bias[direction][: gates * hidden], cell.bias[direction][gates * hidden :]
    weights = w.constant(cell.weights[direction].T)
    entered = w.add("Gemm", flat, weights, w.constant(of_input))
    steps = w.parts(entered, cell.steps, cell.batch, 0)
    recurrent = cell.recurrent[direction].T
    split = 2 * hidden if cell.kind == "GRU" and not cell.reset_after else gates * hidden
    held = [
        (w.constant(recurrent[:, at]), w.constant(of_state[at])) for at in (slice(split), slice(split, None))
    ]  # what is applied to h, and for a GRU that resets before, to r · h
    for x in reversed(steps) if backward else steps:
        r = w.add("Gemm", h, *held[0])
        if cell.kind == "LSTM":
            h, c = _lstm(w, hidden, w.add("Add", x, r), c)
        elif cell.kind == "GRU":
            h = _gru(w, hidden, x, r, h, None if cell.reset_after else held[1])
        else:
            h = w.add("Tanh", w.add("Add", x, r))
        yield h, c


def _lstm(w: _Writer, hidden: int, gates: str, c: str) -> tuple[str, str]:
    i, o, f, new = w.parts(gates, 4, hidden, 1)
    kept = w.add("Mul", w.add("Sigmoid", f), c)
    c = w.add("Add", kept, w.add("Mul", w.add("Sigmoid", i), w.add("Tanh", new)))
    return w.add("Mul", w.add("Sigmoid", o), w.add("Tanh", c)), c


def _gru(w: _Writer, hidden: int, x: str, r: str, h: str, reset: tuple[str, str] | None) -> str:
    """The next state, n + z · (h − n)."""
    xz, xr, xn = w.parts(x, 3, hidden, 1)
    rz, rr, *rn = w.parts(r, 2 if reset else 3, hidden, 1)
    z, gate = w.add("Sigmoid", w.add("Add", xz, rz)), w.add("Sigmoid", w.add("Add", xr, rr))
    inner = w.add("Gemm", w.add("Mul", gate, h), *reset) if reset else w.add("Mul", gate, rn[0])
    n = w.add("Tanh", w.add("Add", xn, inner))
    return w.add("Add", n, w.add("Mul", z, w.add("Sub", h, n)))
