"""Layers whose answers come to be squared, or put under a root or a logarithm, with nothing but linear steps between.

So a spectrogram begins: filters that halve the rate, a Conv with waves for kernels, factors, squares, a sum, a
root or logarithm. What comes out spans orders of magnitude, and 256 even steps leave nothing of its quiet parts:
what rounding added to them is all that the root and the logarithm make large. It does not matter which of the linear
steps did the rounding, so all of them are computed in float, with int8 weights, back to the input or to the first
step that is not linear. A normalization squares too, but takes a mean away first: it is none of these.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from edgeship.targets.onnx import graph as g

_MAGNIFIES = {"Sqrt", "Log", "ReduceL2", "ReduceSumSquare", "ReduceLogSum"}
_LINEAR = g.LAYOUT | {"Pad", "Cast", "Neg"}
_SCALES = {"Mul", "Div", "Add", "Sub"}  # by constants
_BOUNDS = {"Clip", "Relu", "Abs", "Max"}  # between a layer and a root: they keep away what has none


def magnified(model: Any) -> list[Any]:
    """The layers with weights, in the order in which they run."""
    graph = model.graph
    producers = g.producers(graph)
    held = {tensor.name for tensor in graph.initializer}
    layers: set[str] = set()
    seen: set[tuple[str, bool]] = set()
    ways = [(node.input[0], False) for node in graph.node if _magnifies(node, model)]
    while ways:  # (a tensor, whether a layer lies behind it)
        name, behind = ways.pop()
        node = producers.get(name)
        if node is None or (name, behind) in seen:
            continue
        seen.add((name, behind))
        if _weighted(node, held):
            layers.add(node.name)
            if node.op_type not in (*g.RECURRENT, "Gather"):
                ways.append((_activation(node, held), True))
        elif _linear(node, held) or (node.op_type in _BOUNDS and not behind):
            ways += [(read, behind) for read in node.input if read and read not in held]
    return [node for node in graph.node if node.name in layers]


def _magnifies(node: Any, model: Any) -> bool:
    if node.op_type == "Mul":
        return bool(node.input[0] == node.input[1])
    if node.op_type == "Pow":  # a cube, as in activations, makes small what is small
        from onnx import numpy_helper

        exponents = [numpy_helper.to_array(t) for t in model.graph.initializer if t.name == node.input[1]]
        return not exponents or bool((exponents[0] <= 2).all())
    return node.op_type in _MAGNIFIES


def _linear(node: Any, held: Collection[str]) -> bool:
    return node.op_type in _LINEAR or (node.op_type in _SCALES and any(name in held for name in node.input))


def _weighted(node: Any, held: Collection[str]) -> bool:
    places = g.WEIGHTS.get(node.op_type, ())
    return any(place < len(node.input) and node.input[place] in held for place in places)


def _activation(node: Any, held: Collection[str]) -> str:
    """What a layer multiplies with its weights."""
    return next((name for name in node.input if name and name not in held), "")
