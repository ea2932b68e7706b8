"""Questions about an ONNX graph that several steps ask: who writes a tensor, who reads it, which values are constant.

Everything takes a GraphProto or ModelProto as it is in memory; nothing here touches a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edgeship.targets.onnx.inspect import graphs

FLOAT = 1  # TensorProto.FLOAT

#: Operators with a weight, and the inputs that are weights. Biases are not: they are small and kept exact.
WEIGHTS = {
    "Conv": (1,), "ConvTranspose": (1,), "Gemm": (1,), "MatMul": (0, 1), "Gather": (0,),
    "LSTM": (1, 2), "GRU": (1, 2), "RNN": (1, 2),
}  # fmt: skip
RECURRENT = ("LSTM", "GRU", "RNN")

#: Operators that move values and change none.
LAYOUT = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Slice", "Split", "Concat"})


def inputs(graph: Any) -> list[Any]:
    """The graph's inputs, without initializers that old files list among them."""
    held = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in held]


def inner(node: Any) -> list[Any]:
    """The graphs within an operator: branches, loop bodies."""
    out = [attribute.g for attribute in node.attribute if attribute.type == 5]
    for attribute in node.attribute:
        if attribute.type == 10:
            out.extend(attribute.graphs)
    return out


def reads(node: Any) -> Iterator[str]:
    """Names of the tensors that a node reads, those that its inner graphs take from outside included."""
    yield from (name for name in node.input if name)
    for body in inner(node):
        own = {value.name for value in body.input} | {tensor.name for tensor in body.initializer}
        for each in body.node:
            yield from (name for name in reads(each) if name not in own)
            own.update(each.output)
        yield from (value.name for value in body.output if value.name not in own)


def producers(graph: Any) -> dict[str, Any]:
    """Tensor -> the node of this graph that writes it."""
    return {name: node for node in graph.node for name in node.output if name}


def consumers(graph: Any) -> dict[str, list[Any]]:
    """Tensor -> the nodes of this graph that read it, by way of an inner graph too."""
    out: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in set(reads(node)):
            out.setdefault(name, []).append(node)
    return out


def with_bodies(model: Any) -> list[str]:
    """Kinds of operators that hold graphs: If, Loop, Scan."""
    return sorted({node.op_type for graph in graphs(model.graph) for node in graph.node if inner(node)})


def name_nodes(model: Any) -> None:
    """Give every node a name of its own, that of the first tensor that it writes: quantizers choose nodes by name."""
    taken: set[str] = set()
    for graph in graphs(model.graph):
        for node in graph.node:
            if not node.name or node.name in taken:
                node.name = next((name for name in node.output if name), node.op_type)
            while node.name in taken:
                node.name += "_"
            taken.add(node.name)


def hold_constants(model: Any) -> None:
    """Turn Constant nodes with a tensor into initializers, in inner graphs too: there quantizers look for weights."""
    for graph in graphs(model.graph):
        written = {value.name for value in graph.output}
        for node in [n for n in graph.node if n.op_type == "Constant"]:
            tensor = next((a.t for a in node.attribute if a.name == "value"), None)
            if tensor is None or node.output[0] in written:
                continue
            held = graph.initializer.add()
            held.CopyFrom(tensor)
            held.name = node.output[0]
            graph.node.remove(node)


def shapes(model: Any) -> dict[str, tuple[int, tuple[int, ...] | None]]:
    """Tensor of the main graph -> (element type, dimensions or None where one is not known)."""
    out: dict[str, tuple[int, tuple[int, ...] | None]] = {}
    graph = model.graph
    for value in (*graph.value_info, *graph.output, *graph.input):
        kind = value.type.tensor_type
        if value.type.WhichOneof("value") == "tensor_type":
            known = kind.HasField("shape") and all(d.HasField("dim_value") for d in kind.shape.dim)
            out[value.name] = (kind.elem_type, tuple(int(d.dim_value) for d in kind.shape.dim) if known else None)
    return out
