"""Weights that are stored without their zeros, written out: XNNPACK reads them as if the zeros were there.

Such a layer answers NaN, or what lies in memory behind its weights, and nobody says a word (LiteRT 2.3 on x86-64; its
reference kernels are right). What a DENSIFY operator reads is left alone: that one knows.
"""

from __future__ import annotations

import importlib
from collections import defaultdict
from typing import Any

import numpy as np

from edgeship.targets.tflite.prepare import packed
from edgeship.targets.tflite.reader import Operator, Structure, read
from edgeship.targets.tflite.values import written_out

_DENSIFY = 124  # builtin code of the schema


def sparse_weights(structure: Structure) -> list[tuple[int, int]]:
    """(subgraph, tensor) of the constants that operators read as they are stored."""
    out: list[tuple[int, int]] = []
    for number, graph in enumerate(structure.subgraphs):
        readers: defaultdict[int, list[Operator]] = defaultdict(list)
        for operator in graph.operators:
            for index in operator.inputs:
                readers[index].append(operator)
        out += [
            (number, index) for index, tensor in enumerate(graph.tensors)
            if tensor.constant and tensor.sparse
            and any(structure.codes[operator.code][0] != _DENSIFY for operator in readers[index])
        ]  # fmt: skip
    return out


def dense(data: bytes) -> bytes:
    """The file with these weights in full, of the same type; as it is where it has none.

    Raises:
        ConversionError: they are not described soundly.
    """
    places = sparse_weights(read(data))
    if not places:
        return data
    schema: Any = importlib.import_module("ai_edge_litert.schema_py_generated")
    model = schema.ModelT.InitFromPackedBuf(bytearray(data), 0)
    for number, index in places:
        tensor, buffer = model.subgraphs[number].tensors[index], schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(written_out(model, tensor)).tobytes(), np.uint8)
        tensor.buffer, tensor.sparsity = len(model.buffers), None
        model.buffers.append(buffer)
    return packed(model, len(data))
