"""Operators without weights that int8 would not serve: what lies among operators that compute in float anyway.

A root, an exponential or a recurrent layer has no int8 form. An Add or a Slice beside one gains no speed by casts to
int8 and back, and a normalization that is written out in such operators (difference, square, mean, root, quotient) is
lost: its variance and its small constant share one scale. So all that depends on such an operator stays in float up to
the next layer with weights, and so does what only such operators read.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from edgeship.targets.onnx import graph as g


def islands(model: Any, quantized: Collection[str], apart: Collection[str]) -> list[str]:
    """Names of the nodes that stay in float because of their neighbours.

    Args:
        model: ModelProto whose nodes have names and stand in the order in which they run.
        quantized: kinds of operators that the quantizer takes.
        apart: names of nodes that compute in float already.
    """
    graph = model.graph
    held = {tensor.name for tensor in graph.initializer}
    kinds = g.shapes(model)
    layers = {node.name for node in graph.node if _weighted(node, held)} - set(apart)
    natives = {
        node.name for node in graph.node
        if node.name not in layers and (node.name in apart or node.op_type not in quantized)
        and any(kinds.get(name, (g.FLOAT, None))[0] == g.FLOAT for name in node.output)
    }  # fmt: skip
    producers, readers = g.producers(graph), g.consumers(graph)
    floats = set(natives)
    for node in graph.node:
        if node.name not in layers and any(
            name in producers and producers[name].name in floats for name in node.input if name not in held
        ):
            floats.add(node.name)
    outputs = {value.name for value in graph.output}
    for node in reversed(graph.node):
        read_by = [reader for name in node.output for reader in readers.get(name, ())]
        ends = node.name in layers or not read_by or outputs & {*node.output}
        if not ends and all(reader.name in floats for reader in read_by):
            floats.add(node.name)
    return [node.name for node in graph.node if node.name in floats - natives]


def _weighted(node: Any, held: Collection[str]) -> bool:
    """Whether it multiplies by weights, or by another activation: what int8 makes fast."""
    if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return True
    return node.op_type == "Gather" and node.input[0] in held
