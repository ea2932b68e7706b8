"""An activation that is written out becomes the operator that it is, in place: fewer steps for the same numbers.

Each step of a quantized model rounds, so HardSwish in four operators costs as many roundings in TFLite, and four passes
over the numbers in ONNX. ONNX Runtime's optimization and converters leave it: x · clip(x + 3, 0, 6) / 6, in whatever
order, and x · HardSigmoid(x).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from edgeship.targets.onnx import graph as g
from edgeship.targets.onnx.weights import drop_unused

_NEAR = 1e-3  # a third of which 1/6 is off where it was written with four digits


class _Graph:
    """A graph while it changes: who writes, who reads, what is constant."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self.held = {tensor.name: tensor for tensor in graph.initializer}
        self._outputs = {value.name for value in graph.output}
        self._look()

    def _look(self) -> None:
        self.producers, self._readers = g.producers(self.graph), g.consumers(self.graph)

    def alone(self, name: str, *nodes: Any) -> bool:
        """Whether nothing but these nodes reads a tensor."""
        readers = self._readers.get(name, [])
        return name not in self._outputs and all(any(reader is node for node in nodes) for reader in readers)

    def array(self, name: str) -> NDArray[Any] | None:
        """A constant of float32."""
        from onnx import numpy_helper

        tensor = self.held.get(name)
        return numpy_helper.to_array(tensor) if tensor is not None and tensor.data_type == g.FLOAT else None

    def number(self, name: str) -> float | None:
        """A constant that is one number."""
        values = self.array(name)
        return float(values.reshape(-1)[0]) if values is not None and values.size == 1 else None

    def pair(self, node: Any) -> tuple[str, float] | None:
        """(a tensor, the number that it is combined with)."""
        for place, name in enumerate(node.input):
            if len(node.input) == 2 and (value := self.number(name)) is not None:
                return node.input[1 - place], value
        return None

    def remove(self, *nodes: Any) -> None:
        """Take nodes out; questions are answered anew afterwards."""
        for node in nodes:
            self.graph.node.remove(node)
        self._look()


def merge(model: Any) -> int:
    """Returns how many operators became part of another."""
    before = len(model.graph.node)
    graph = _Graph(model.graph)
    shapes = {name: shape for name, (_, shape) in g.shapes(model).items()}
    for node in list(model.graph.node):
        if node.op_type in ("Div", "Mul"):
            _hard_swish(graph, node, shapes)
    drop_unused(model.graph)
    return before - len(model.graph.node)


def _hard_swish(graph: _Graph, node: Any, shapes: Mapping[str, Any]) -> None:
    """A product that is one with its last operator, `node`, which becomes it."""
    for x, parts in _products(graph, node):
        inner = [*parts, node]
        if all(graph.alone(name, *inner) for part in parts for name in part.output):
            if shapes.get(x) != shapes.get(node.output[0]):
                return
            node.op_type = "HardSwish"
            node.input[:] = [x]
            del node.attribute[:]
            graph.remove(*parts)
            return


def _products(graph: _Graph, node: Any) -> list[tuple[str, list[Any]]]:
    """(x, the operators before `node`) where it writes x · clip(x + 3, 0, 6) / 6."""
    out: list[tuple[str, list[Any]]] = []
    if (scaled := _sixth(graph, node)) is not None:  # (x · clip) / 6
        product = graph.producers.get(scaled)
        if product is not None and product.op_type == "Mul":
            for place in (0, 1):
                found = _clipped(graph, product.input[1 - place])
                if found is not None and found[0] == product.input[place]:
                    out.append((found[0], [*found[1], product]))
    elif node.op_type == "Mul":
        for place in (0, 1):
            gate, x = graph.producers.get(node.input[1 - place]), node.input[place]
            if gate is None:
                continue
            if gate.op_type == "HardSigmoid" and gate.input[0] == x and _is_sixth(gate):
                out.append((x, [gate]))
            elif (scaled := _sixth(graph, gate)) is not None:
                found = _clipped(graph, scaled)
                if found is not None and found[0] == x:
                    out.append((x, [*found[1], gate]))
    return out


def _sixth(graph: _Graph, node: Any) -> str | None:
    """What a node takes a sixth of."""
    pair = graph.pair(node)
    if pair is None:
        return None
    if node.op_type == "Div":
        return node.input[0] if pair[0] == node.input[0] and pair[1] == 6 else None
    return pair[0] if node.op_type == "Mul" and abs(6 * pair[1] - 1) < _NEAR else None


def _clipped(graph: _Graph, name: str) -> tuple[str, list[Any]] | None:
    """(x, the operators) where a tensor is clip(x + 3, 0, 6)."""
    clip = graph.producers.get(name)
    if clip is None or clip.op_type != "Clip" or [graph.number(n) for n in clip.input[1:]] != [0, 6]:
        return None
    add = graph.producers.get(clip.input[0])
    pair = graph.pair(add) if add is not None and add.op_type == "Add" else None
    return (pair[0], [add, clip]) if pair is not None and pair[1] == 3 else None


def _is_sixth(node: Any) -> bool:
    given = {attribute.name: attribute.f for attribute in node.attribute}
    return bool(abs(6 * given.get("alpha", 0.2) - 1) < _NEAR and given.get("beta", 0.5) == 0.5)
