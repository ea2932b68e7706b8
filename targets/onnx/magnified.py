"""Layers whose answers are squared, or put under a root or a logarithm, before anything else is done with them.

So a spectrogram begins: a Conv with waves for kernels, squares, a sum, a root or logarithm. What comes out spans orders
of magnitude, and 256 even steps of the Conv's answer leave nothing of its quiet parts, which the root and the logarithm
make large again. Such a layer is computed in float, with int8 weights. A normalization squares too, but takes a mean
away first: it is none of these.
"""

from __future__ import annotations

from typing import Any

from edgeship.targets.onnx import graph as g

_MAGNIFIES = {"Pow", "Sqrt", "Log", "ReduceL2", "ReduceSumSquare", "ReduceLogSum"}
_PASSES = g.LAYOUT | {"Clip", "Relu", "Abs", "Pad", "Cast"}


def magnified(model: Any) -> list[Any]:
    """The layers with weights, in the order in which they run."""
    graph = model.graph
    producers = g.producers(graph)
    held = {tensor.name for tensor in graph.initializer}
    layers: set[str] = set()
    for node in graph.node:
        if node.op_type in _MAGNIFIES or (node.op_type == "Mul" and node.input[0] == node.input[1]):
            source = producers.get(node.input[0])
            while source is not None and source.op_type in _PASSES:
                source = producers.get(source.input[0])
            if source is not None and _weighted(source, held):
                layers.add(source.name)
    return [node for node in graph.node if node.name in layers]


def _weighted(node: Any, held: set[str]) -> bool:
    places = g.WEIGHTS.get(node.op_type, ())
    return any(place < len(node.input) and node.input[place] in held for place in places)
