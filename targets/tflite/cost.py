"""Counts a TFLite graph; see `edgeship.targets.cost` for the rules. A step of `child`.

Weights are [out, height, width, in] in convolutions, [1, height, width, channels] in depthwise ones, [units, in] in
dense layers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeship.targets.cost import Operation, product_macs
from edgeship.targets.tflite.inspect import builtin_names, default_signature
from edgeship.targets.tflite.reader import TYPES, Operator, Structure, Subgraph, read

_BITS = dict(TYPES.values())
_BRANCHES = {"IF", "WHILE", "CALL", "CALL_ONCE", "STABLEHLO_WHILE", "STABLEHLO_COMPOSITE"}
_RECURRENT = {
    "UNIDIRECTIONAL_SEQUENCE_LSTM",
    "UNIDIRECTIONAL_SEQUENCE_RNN",
    "BIDIRECTIONAL_SEQUENCE_LSTM",
    "LSTM",
    "RNN",
}


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:  # noqa: ARG001 - the shape of every step
    """The count of the file at `request["path"]`."""
    return count(read(Path(request["path"]).read_bytes()))


def count(structure: Structure) -> dict[str, Any]:
    """The subgraph of the signature that is served, counted."""
    names = builtin_names()
    signature = default_signature(structure)
    graph = structure.subgraphs[signature.subgraph]
    operations = []
    for operator in graph.operators:
        code, custom, _ = structure.codes[operator.code]
        operations.append(_operation(operator, f"custom {custom}" if custom else names.get(code, str(code)), graph))
    used = {i for o in graph.operators for i in (*o.inputs, *o.outputs) if i >= 0} | set(graph.inputs)
    constants = {i: graph.tensors[i] for i in used if graph.tensors[i].constant}
    return {
        "operations": [operation.encode() for operation in operations],
        "sizes": {_name(i): _bytes(graph, i) for i in used if i not in constants},
        "inputs": [_name(i) for i in graph.inputs], "outputs": [_name(i) for i in graph.outputs],
        "weight_bytes": sum({t.buffer: _bytes(graph, i) for i, t in constants.items()}.values()),
    }  # fmt: skip


def _operation(operator: Operator, kind: str, graph: Subgraph) -> Operation:
    reads = [i for i in operator.inputs if i >= 0]
    result = graph.tensors[operator.outputs[0]] if operator.outputs else None
    return Operation(
        name=result.name if result else "", operator=kind, shape=result.shape if result else (),
        macs=_macs(operator, kind, graph),
        weights=sum(graph.tensors[i].elements for i in reads if graph.tensors[i].constant),
        reads=tuple(_name(i) for i in reads if not graph.tensors[i].constant),
        writes=tuple(_name(i) for i in operator.outputs),
    )  # fmt: skip


def _macs(operator: Operator, kind: str, graph: Subgraph) -> int | None:
    if kind in _BRANCHES or kind.startswith("custom"):
        return None
    shapes = [graph.tensors[i].shape if i >= 0 else () for i in operator.inputs]
    out = graph.tensors[operator.outputs[0]].shape if operator.outputs else ()
    try:
        if kind in ("CONV_2D", "FULLY_CONNECTED"):
            return product_macs(out, math.prod(shapes[1][1:]))
        if kind == "DEPTHWISE_CONV_2D":
            return product_macs(out, shapes[1][1] * shapes[1][2])
        if kind == "TRANSPOSE_CONV":
            return product_macs(shapes[2], math.prod(shapes[1][:3]))
        if kind == "CONV_3D":
            return product_macs(out, math.prod(shapes[1][:4]))
        if kind == "BATCH_MATMUL":  # the first operand may be transposed: the axis that is not the output's is summed
            rows, last = shapes[0][-2], shapes[0][-1]
            return product_macs(out, last if rows == out[-2] else rows)
        if kind in _RECURRENT:
            steps = math.prod(shapes[0]) // max(1, shapes[0][-1])
            return steps * sum(math.prod(shape) for shape in shapes[1:] if len(shape) == 2 and shape[0] > 1)
    except IndexError:
        return None
    return 0


def _name(index: int) -> str:
    return str(index)


def _bytes(graph: Subgraph, index: int) -> int:
    tensor = graph.tensors[index]
    return (tensor.elements * _BITS.get(tensor.dtype, 0) + 7) // 8
