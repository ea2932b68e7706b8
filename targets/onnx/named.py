"""Names of the operators of an ONNX graph, and which operators a user means by them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from edgeship.targets import naming
from edgeship.targets.onnx import graph as g
from edgeship.targets.onnx.collect import before_clipping
from edgeship.targets.onnx.inspect import graphs

#: Operators without weights that compute: int8 costs something in them. Others only move values.
COMPUTING = frozenset({
    "Add", "Sub", "Mul", "Div", "Softmax", "Sigmoid", "Tanh", "AveragePool", "GlobalAveragePool", "ReduceMean",
    "LeakyRelu", "PRelu", "HardSigmoid", "HardSwish", "Gelu", "Concat", "LayerNormalization", "InstanceNormalization",
    "BatchNormalization", "Clip", "Resize", "Where",
})  # fmt: skip


def source_name(node: str) -> str:
    """The source's layer that a node's name tells of: converters put the operation behind it, and the model before."""
    parts = [part for part in node.split("/") if part]
    while len(parts) > 1 and parts[0].lower().startswith(("model", "functional", "sequential", "statefulpartitioned")):
        parts = parts[1:]
    return "/".join(parts[:-1]) if len(parts) > 1 else node


def kept(model: Any, keep: Collection[str]) -> frozenset[str]:
    """Names of the nodes of the layers `keep`, and of the Relu or Clip that follows one alone.

    A layer goes by the tensors that it writes, by the name of its node, and by its name in the source where no other
    layer has that.

    Raises:
        UsageError: a name that no operator of the model has, or that several have.
    """
    if not keep:
        return frozenset()
    clipped = before_clipping(model)
    behind = {*clipped.values()}  # go with what they clip
    known = [_known(node, behind) for graph in graphs(model.graph) for node in graph.node]
    found = naming.chosen(keep, known, "the float ONNX model")
    writers = g.producers(model.graph)
    followers = {writers[after].name for node in found for name in node.output if (after := clipped.get(name))}
    return frozenset({node.name for node in found} | followers)


def _known(node: Any, behind: set[str]) -> naming.Known[Any]:
    computes = node.op_type in COMPUTING or node.op_type in g.WEIGHTS
    return naming.Known(
        node, node.op_type, tuple(filter(None, node.output)), source_name(node.name or node.output[0]),
        frozenset({node.name}), computes and not behind.intersection(node.output),
    )  # fmt: skip
