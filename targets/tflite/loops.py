"""Rewrites how loops collect their results, so that every shape in them is fixed.

Keras' recurrent layers put the answer of step t into a list as x[:t], answer, x[t + 1:], concatenated. The slices have
another length at every step; the engine's XNNPACK refuses such a loop, in float too. DYNAMIC_UPDATE_SLICE does the same
in place.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeship.targets.tflite.prepare import code_of, packed
from edgeship.targets.tflite.reader import Operator, Structure, Subgraph, read
from edgeship.targets.tflite.unpack import unpacked

_ADD, _CONCATENATION, _RESHAPE, _SLICE, _UPDATE = 0, 2, 22, 65, 151  # builtin codes of the schema


@dataclass(frozen=True)
class _Place:
    """One x[:t], value, x[t + 1:] in a subgraph: its operators and tensors."""

    subgraph: int
    joined: int  # operator that concatenates
    slices: tuple[int, int]  # operators
    x: int
    value: int
    at: int  # tensor int32 [1]: t


def updated(data: bytes) -> bytes:
    """The file with DYNAMIC_UPDATE_SLICE in the place of slices and concatenations; as it is where it has none."""
    structure = read(data)
    places = [place for number in range(1, len(structure.subgraphs)) for place in _places(structure, number)]
    if not places:
        return data
    schema: Any = importlib.import_module("ai_edge_litert.schema_py_generated")
    model = unpacked(data)
    for number in {place.subgraph for place in places}:
        graph = model.subgraphs[number]
        mine = {place.joined: place for place in places if place.subgraph == number}
        gone = {index for place in mine.values() for index in place.slices}
        operators: list[Any] = []
        for index, operator in enumerate(graph.operators):
            if (place := mine.get(index)) is not None:
                operators += _update(schema, model, graph, place)
            elif index not in gone:
                operators.append(operator)
        graph.operators = operators
    return packed(model, len(data))


def _places(structure: Structure, number: int) -> list[_Place]:
    graph = structure.subgraphs[number]
    made = {i: index for index, operator in enumerate(graph.operators) for i in operator.outputs}
    codes = [structure.codes[operator.code][0] for operator in graph.operators]

    def producer(tensor: int, code: int) -> Operator | None:
        index = made.get(tensor)
        return graph.operators[index] if index is not None and codes[index] == code else None

    out: list[_Place] = []
    for index, operator in enumerate(graph.operators):
        if codes[index] != _CONCATENATION or len(operator.inputs) != 3:
            continue
        before, value, after = operator.inputs
        head, tail = producer(before, _SLICE), producer(after, _SLICE)
        if head is None or tail is None or head.inputs[0] != tail.inputs[0]:
            continue
        x = head.inputs[0]
        whole = graph.tensors[operator.outputs[0]].shape
        one = graph.tensors[value].shape
        if graph.tensors[x].shape != whole or len(whole) < 1 or one != (1, *whole[1:]):
            continue
        sizes, begins = producer(head.inputs[2], _CONCATENATION), producer(tail.inputs[1], _CONCATENATION)
        if sizes is None or begins is None or not graph.tensors[head.inputs[1]].constant:
            continue
        t, next_t = producer(sizes.inputs[0], _RESHAPE), producer(begins.inputs[0], _RESHAPE)
        if t is None or next_t is None:
            continue
        step = producer(next_t.inputs[0], _ADD)
        if step is None or t.inputs[0] not in step.inputs or not _only_reader(graph, (before, after)):
            continue
        out.append(_Place(number, index, (made[before], made[after]), x, value, sizes.inputs[0]))
    return out


def _only_reader(graph: Subgraph, tensors: tuple[int, ...]) -> bool:
    reads = [i for operator in graph.operators for i in operator.inputs] + list(graph.outputs)
    return all(reads.count(tensor) == 1 for tensor in tensors)


def _update(schema: Any, model: Any, graph: Any, place: _Place) -> list[Any]:
    """The operators that put the value at [t, 0, …]."""
    rank = len(graph.tensors[place.x].shape)
    joined = graph.operators[place.joined]
    where, starts = place.at, []
    if rank > 1:
        zeros, where = _integers(schema, graph, rank - 1), _integers(schema, graph, rank)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.zeros(rank - 1, "<i4").tobytes(), np.uint8)
        graph.tensors[zeros].buffer = len(model.buffers)
        model.buffers.append(buffer)
        join = schema.OperatorT()
        join.opcodeIndex = code_of(schema, model, _CONCATENATION, 1)
        join.inputs, join.outputs = [place.at, zeros], [where]
        join.builtinOptionsType = schema.BuiltinOptions.ConcatenationOptions
        join.builtinOptions = schema.ConcatenationOptionsT()
        starts = [join]
    update = schema.OperatorT()
    update.opcodeIndex = code_of(schema, model, _UPDATE, 1)
    update.inputs, update.outputs = [place.x, place.value, where], list(joined.outputs)
    update.builtinOptions2Type = schema.BuiltinOptions2.NONE
    return [*starts, update]


def _integers(schema: Any, graph: Any, count: int) -> int:
    """A new int32 tensor [count]; its place."""
    made = schema.TensorT()
    made.name = f"update_slice_{len(graph.tensors)}".encode()
    made.shape, made.hasRank, made.type, made.buffer = [count], True, schema.TensorType.INT32, 0
    graph.tensors.append(made)
    return len(graph.tensors) - 1
