"""Versions of operators: what a runtime has to know to compute a file rightly. ai-edge-quantizer leaves them alone.

A FULLY_CONNECTED of float activations and int8 weights with a scale for each row is version 12 to TensorFlow
(lite/tools/versioning/op_version.cc). Left at 1, tflite-runtime 2.14 loads it and answers zeros, without a word. Said
as it is, an old runtime refuses the file; with one scale a weight (`per_channel` false) it takes it, and is right.
"""

from __future__ import annotations

import importlib
from typing import Any

from edgeship.targets.tflite.prepare import code_of, packed
from edgeship.targets.tflite.reader import Operator, Subgraph, read
from edgeship.targets.tflite.unpack import unpacked

FULLY_CONNECTED = 9  # builtin code of the schema
HYBRID_BY_ROW = 12


def told(data: bytes) -> bytes:
    """The file with the versions that its operators need; as it is where they say so already."""
    structure = read(data)
    places = [
        (number, index)
        for number, graph in enumerate(structure.subgraphs)
        for index, operator in enumerate(graph.operators)
        if structure.codes[operator.code][0] == FULLY_CONNECTED
        and structure.codes[operator.code][2] < HYBRID_BY_ROW
        and _hybrid_by_row(operator, graph)
    ]
    if not places:
        return data
    schema: Any = importlib.import_module("ai_edge_litert.schema_py_generated")
    model = unpacked(data)
    code = code_of(schema, model, FULLY_CONNECTED, HYBRID_BY_ROW)
    for number, index in places:
        model.subgraphs[number].operators[index].opcodeIndex = code
    return packed(model, len(data))


def _hybrid_by_row(operator: Operator, graph: Subgraph) -> bool:
    given, weights = (graph.tensors[index] for index in operator.inputs[:2])
    return given.dtype == "float32" and weights.dtype == "int8" and weights.scales > 1
