"""What tf2onnx writes, made whole: operators of TensorFlow that it hands on under their own names are spelled out.

Keras' exact GELU is x · erfc(−x / √2) / 2. tf2onnx 1.17 leaves `Erfc`, which no opset of ONNX has, and says nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


def write(proto: Any, path: Path) -> None:
    """A ModelProto of tf2onnx as a file, with every operator in ONNX's own words."""
    spell_out(proto.graph)
    path.write_bytes(proto.SerializeToString())


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
