"""Makes float16 of the tables that are looked up, which ai-edge-quantizer's float casting leaves in float32."""

from __future__ import annotations

import importlib
from collections.abc import Collection
from typing import Any

import numpy as np

from edgeship.targets.tflite.named import Place, weights
from edgeship.targets.tflite.plan import GATHER
from edgeship.targets.tflite.prepare import code_of, packed
from edgeship.targets.tflite.reader import Structure
from edgeship.targets.tflite.unpack import unpacked
from edgeship.targets.tflite.values import constant

_DEQUANTIZE = 6  # builtin code of the schema


def halve(data: bytes, structure: Structure, kept: Collection[Place]) -> bytes:
    """The file with a DEQUANTIZE of a float16 constant before each GATHER from a float32 table, but those of `kept`."""
    places = [
        (number, index, operator.inputs[0])
        for number, graph in enumerate(structure.subgraphs)
        for index, operator in enumerate(graph.operators)
        if structure.codes[operator.code][0] == GATHER and (number, index) not in kept
        and weights(operator, graph)[:1] == (graph.tensors[operator.inputs[0]],)
    ]  # fmt: skip
    if not places:
        return data
    schema: Any = importlib.import_module("ai_edge_litert.schema_py_generated")
    model = unpacked(data)
    for number, table in sorted({(number, table) for number, _, table in places}):
        graph = model.subgraphs[number]
        tensor = graph.tensors[table]
        buffer, half, operator = schema.BufferT(), schema.TensorT(), schema.OperatorT()
        buffer.data = np.frombuffer(constant(model, tensor).astype("<f2").tobytes(), np.uint8)
        half.name, half.shape, half.hasRank = tensor.name + b"_float16", tensor.shape, True
        half.type, half.buffer = schema.TensorType.FLOAT16, len(model.buffers)
        model.buffers.append(buffer)
        tensor.buffer = 0
        operator.opcodeIndex = code_of(schema, model, _DEQUANTIZE, 3)  # 3: the version that takes float16
        operator.inputs, operator.outputs = [len(graph.tensors)], [table]
        operator.builtinOptionsType = schema.BuiltinOptions.DequantizeOptions
        operator.builtinOptions = schema.DequantizeOptionsT()
        graph.tensors.append(half)
        graph.operators.insert(0, operator)
    return packed(model, len(data))
