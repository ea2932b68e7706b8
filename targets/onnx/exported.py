"""What tf2onnx writes, made whole: operators of TensorFlow that it hands on under their own names are spelled out.

Keras' exact GELU is x · erfc(−x / √2) / 2. tf2onnx 1.17 leaves `Erfc`, which no opset of ONNX has, and says nothing.
What Keras' Normalization subtracts and divides by stays an input of the graph where it was folded away: of every
EfficientNet of keras.applications.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any


def write(proto: Any, names: Collection[str], path: Path) -> None:
    """A ModelProto of tf2onnx as a file, with every operator in ONNX's own words and no inputs but the model's.

    Args:
        proto: is changed.
        names: of the model's inputs.
        path: where to.
    """
    spell_out(proto.graph)
    forget_inputs(proto.graph, names)
    path.write_bytes(proto.SerializeToString())


def forget_inputs(graph: Any, names: Collection[str]) -> None:
    """Take out the inputs that are not the model's and that nothing reads, in place."""
    read = set(_read(graph))
    kept = [value for value in graph.input if value.name in names or value.name in read]
    if len(kept) < len(graph.input):
        values = [type(value).FromString(value.SerializeToString()) for value in kept]
        del graph.input[:]
        graph.input.extend(values)


def _read(graph: Any) -> Iterator[str]:
    """What nodes read, those of branches and loop bodies too, and what is an output."""
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from _read(body)
    yield from (value.name for value in graph.output)


def spell_out(graph: Any) -> None:
    """erfc(x) = 1 − erf(x), in place, in branches and loop bodies too; off by a float32 step of 1 at most."""
    from onnx import helper, numpy_helper

    nodes = list(graph.node)
    for node in nodes:
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                spell_out(body)
    if not any(node.op_type == "Erfc" for node in nodes):
        return
    import numpy as np

    one = "edgeship_one"
    graph.initializer.append(numpy_helper.from_array(np.float32(1), one))
    del graph.node[:]
    for node in nodes:
        if node.op_type != "Erfc":
            graph.node.append(node)
            continue
        error = f"{node.output[0]}_erf"
        graph.node.append(helper.make_node("Erf", [node.input[0]], [error], name=f"{node.name}_erf"))
        graph.node.append(helper.make_node("Sub", [one, error], [node.output[0]], name=node.name))
