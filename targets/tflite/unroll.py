"""Unrolls fused recurrent operators: each step becomes plain operators that begin at a state of zero.

UNIDIRECTIONAL_SEQUENCE_LSTM and _RNN keep their state in variable tensors, which outlive a run: the first answer is
right, the next ones are not, in float too. LiteRT refuses such files, and no quantizer takes their weights. Unrolled,
they are the layers that they were made of: a product of all inputs, a product a step, and the gates between.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.targets.tflite.prepare import code_of, packed
from edgeship.targets.tflite.reader import Operator, Structure, Subgraph, read
from edgeship.targets.tflite.unpack import unpacked
from edgeship.targets.tflite.values import constant

Array = NDArray[Any]

MAX_STEPS = 256  # an unrolled step is about a dozen operators
_RNN, _LSTM = 35, 44  # builtin codes of the schema
_ADD, _CONCATENATION, _DENSE, _LOGISTIC, _MUL, _RESHAPE, _TANH, _SPLIT = 0, 2, 9, 14, 18, 22, 28, 49
_TANH_ACTIVATION, _RELU_ACTIVATION = 4, 1  # ActivationFunctionType
_PLAIN = (9, 10, 11, 16, 17, 20, 21, 22, 23)  # optional inputs of an LSTM: peepholes, projection, normalization


def unrolled(data: bytes) -> bytes:
    """The file with plain operators in the place of fused recurrent ones; as it is where it has none that are known."""
    structure = read(data)
    graph = structure.subgraphs[0]
    places = {i for i, operator in enumerate(graph.operators) if _known(structure, graph, operator)}
    if not places:
        return data
    schema: Any = importlib.import_module("ai_edge_litert.schema_py_generated")
    model = unpacked(data)
    mine = model.subgraphs[0]
    operators: list[Any] = []
    for index, operator in enumerate(mine.operators):
        shape = graph.tensors[operator.inputs[0]].shape if index in places else ()
        if index not in places or not _plain(operator.builtinOptions, shape):
            operators.append(operator)
            continue
        steps = _Steps(schema, model, mine, len(operators))
        lstm = structure.codes[graph.operators[index].code][0] == _LSTM
        (steps.lstm if lstm else steps.rnn)(operator)
        operators += steps.operators
        for state in operator.inputs[18:20] if lstm else operator.inputs[4:5]:
            mine.tensors[state].isVariable = False
    mine.operators = operators
    return packed(model, len(data))


def _known(structure: Structure, graph: Subgraph, operator: Operator) -> bool:
    """Whether an operator is a recurrent one with constant weights and without extra inputs."""
    code, inputs = structure.codes[operator.code][0], operator.inputs
    if code not in (_RNN, _LSTM):
        return False
    shape = graph.tensors[inputs[0]].shape
    weights = inputs[1:4] if code == _RNN else (*inputs[1:9], *inputs[12:16])
    if len(shape) != 3 or any(i < 0 or not graph.tensors[i].constant for i in weights):
        return False
    if any(graph.tensors[i].dtype not in ("float32", "float16") for i in weights):
        return False
    return code == _RNN or not any(inputs[i] >= 0 for i in _PLAIN if i < len(inputs))


def _plain(options: Any, shape: Sequence[int]) -> bool:
    """Whether there are no extras, a batch of 1, and several steps: a single one with state is a stream."""
    batch, steps = (shape[1], shape[0]) if options is not None and options.timeMajor else shape[:2]
    return (
        options is not None and batch == 1 and 1 < steps <= MAX_STEPS
        and options.fusedActivationFunction in (_TANH_ACTIVATION, _RELU_ACTIVATION)
        and not getattr(options, "cellClip", 0) and not getattr(options, "projClip", 0)
        and not getattr(options, "diagonalRecurrentTensors", False)
        and (options.fusedActivationFunction == _TANH_ACTIVATION or not hasattr(options, "cellClip"))
    )  # fmt: skip


class _Steps:
    """The operators of one unrolled layer in the making."""

    def __init__(self, schema: Any, model: Any, graph: Any, number: int) -> None:
        self.schema, self.model, self.graph, self.number = schema, model, graph, number
        self.operators: list[Any] = []

    def lstm(self, fused: Any) -> None:
        """Gates in the order of the operator's inputs: input, forget, cell, output."""
        into, again, bias = (
            np.concatenate([self._value(fused.inputs[i]) for i in range(*span)])
            for span in ((1, 5), (5, 9), (12, 16))
        )  # fmt: skip
        units = len(bias) // 4
        states: list[int] = []
        recurrent = self._constant("again", again)
        cell = -1
        for step, given in enumerate(self._inputs(fused, into, bias)):
            z = given
            if step:
                z = self._add(given, self._dense(states[-1], recurrent, 4 * units), 4 * units)
            i, f, c, o = self._split(z, 4, axis=1, shape=(1, units))
            candidate = self._mul(self._one(_LOGISTIC, i, units), self._one(_TANH, c, units), units)
            kept = self._mul(self._one(_LOGISTIC, f, units), cell, units) if step else -1
            cell = self._add(kept, candidate, units) if step else candidate
            states.append(self._mul(self._one(_LOGISTIC, o, units), self._one(_TANH, cell, units), units))
        self._join(states, fused, units)

    def rnn(self, fused: Any) -> None:
        """One gate."""
        into, again, bias = (self._value(fused.inputs[i]) for i in (1, 2, 3))
        units, states = len(bias), list[int]()
        recurrent = self._constant("again", again)
        tanh = fused.builtinOptions.fusedActivationFunction == _TANH_ACTIVATION
        for step, given in enumerate(self._inputs(fused, into, bias)):
            z = self._add(given, self._dense(states[-1], recurrent, units), units) if step else given
            states.append(self._one(_TANH if tanh else 19, z, units))  # 19: RELU
        self._join(states, fused, units)

    def _inputs(self, fused: Any, into: Array, bias: Array) -> list[int]:
        """What the inputs of each step add, [1, rows], all of them from one product."""
        shape = [int(d) for d in self.graph.tensors[fused.inputs[0]].shape]
        steps, rows = shape[0] * shape[1], len(bias)  # one of them is the batch of 1
        flat = self._tensor("flat", (steps, shape[2]))
        self._reshape(fused.inputs[0], flat, (steps, shape[2]))
        out = self._tensor("inputs", (steps, rows))
        weights = [self._constant("into", into), self._constant("bias", bias)]
        self._operator(_DENSE, [flat, *weights], [out], "FullyConnected")
        return self._split(out, steps, axis=0, shape=(1, rows)) if steps > 1 else [out]

    def _join(self, states: Sequence[int], fused: Any, units: int) -> None:
        rows = states[0]
        if len(states) > 1:
            rows = self._tensor("states", (len(states), units))
            self._operator(_CONCATENATION, list(states), [rows], "Concatenation", axis=0)
        self._reshape(rows, fused.outputs[0], self.graph.tensors[fused.outputs[0]].shape)

    # ── small pieces ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _value(self, index: int) -> Array:
        return constant(self.model, self.graph.tensors[index])

    def _tensor(self, what: str, shape: Sequence[int], kind: str = "FLOAT32") -> int:
        made = self.schema.TensorT()
        made.name = f"unrolled_{self.number}_{what}_{len(self.graph.tensors)}".encode()
        made.shape, made.hasRank, made.buffer = list(shape), True, 0
        made.type = getattr(self.schema.TensorType, kind)
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def _constant(self, what: str, values: Array, kind: str = "FLOAT32") -> int:
        index, buffer = self._tensor(what, values.shape, kind), self.schema.BufferT()
        dtype = "<f4" if kind == "FLOAT32" else "<i4"
        buffer.data = np.frombuffer(np.ascontiguousarray(values, dtype).tobytes(), np.uint8)
        self.graph.tensors[index].buffer = len(self.model.buffers)
        self.model.buffers.append(buffer)
        return index

    def _operator(
        self, code: int, inputs: Sequence[int], outputs: Sequence[int], options: str = "", **values: Any
    ) -> None:  # fmt: skip
        made = self.schema.OperatorT()
        made.opcodeIndex = code_of(self.schema, self.model, code, 1)
        made.inputs, made.outputs = list(inputs), list(outputs)
        if options:
            made.builtinOptionsType = getattr(self.schema.BuiltinOptions, f"{options}Options")
            made.builtinOptions = getattr(self.schema, f"{options}OptionsT")()
            for key, value in values.items():
                setattr(made.builtinOptions, key, value)
        self.operators.append(made)

    def _dense(self, x: int, weights: int, rows: int) -> int:
        out = self._tensor("again", (1, rows))
        self._operator(_DENSE, [x, weights], [out], "FullyConnected")
        return out

    def _add(self, a: int, b: int, units: int) -> int:
        out = self._tensor("sum", (1, units))
        self._operator(_ADD, [a, b], [out], "Add")
        return out

    def _mul(self, a: int, b: int, units: int) -> int:
        out = self._tensor("product", (1, units))
        self._operator(_MUL, [a, b], [out], "Mul")
        return out

    def _one(self, code: int, x: int, units: int) -> int:
        out = self._tensor("gate", (1, units))
        self._operator(code, [x], [out])
        return out

    def _split(self, x: int, count: int, *, axis: int, shape: Sequence[int]) -> list[int]:
        out = [self._tensor("part", shape) for _ in range(count)]
        along = self._constant("axis", np.array(axis), "INT32")
        self._operator(_SPLIT, [along, x], out, "Split", numSplits=count)
        return out

    def _reshape(self, x: int, out: int, shape: Sequence[int]) -> None:
        numbers = self._constant("shape", np.array([int(d) for d in shape]), "INT32")
        self._operator(_RESHAPE, [x, numbers], [out], "Reshape", newShape=[int(d) for d in shape])
