"""Dynamic int8: int8 weights, activations quantized by their range as they come; ONNX Runtime writes it.

Two things are done before it, because it leaves them in float and says nothing: Gemm becomes MatMul + Add, which it
does take; what it does not take (transposed convolutions, GRU, tables) gets int8 weights that are computed with in
float. Branches and loop bodies are quantized one by one.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from edgeship.targets.onnx import graph as g
from edgeship.targets.onnx import static, weights
from edgeship.targets.onnx.inspect import graphs
from edgeship.targets.onnx.named import kept
from edgeship.targets.scheme import Scheme


def quantize(model: Any, scheme: Scheme, folder: Path) -> tuple[Any, tuple[str, ...]]:
    """A float model as dynamic int8.

    Returns:
        (ModelProto, notes for people).
    """
    import onnx
    from onnxruntime import quantization

    keep = kept(model, scheme.keep)
    products(model)
    before, after = folder / "products.onnx", folder / "dynamic.onnx"
    onnx.save(model, str(before))
    quantization.quantize_dynamic(
        str(before), str(after), per_channel=False, weight_type=quantization.QuantType.QInt8,
        op_types_to_quantize=["Conv", "MatMul", "LSTM"], nodes_to_exclude=sorted(keep),
        extra_options={"EnableSubgraph": True, "MatMulConstBOnly": True},
    )  # fmt: skip
    made = onnx.load(str(after))
    static.forget(made)
    notes = []
    if done := weights.shrink(made, per_channel=scheme.per_channel, keep=keep):
        notes.append(f"int8 weights, computed in float: {static.some(done)}")
    if slow := Counter(node.op_type for graph in graphs(made.graph) for node in graph.node)["ConvInteger"]:
        notes.append(f"{slow} convolutions are dynamic int8, which most processors run slower than float32")
    return made, tuple(notes)


def products(model: Any) -> None:
    """Replace Gemm with constant weights and plain factors by MatMul and Add, in place, in all graphs."""
    _products(model.graph, {})


def _products(graph: Any, outer: dict[str, Any]) -> None:
    """One graph and those within it; `outer`: initializers of enclosing graphs -> (graph that holds them, tensor)."""
    visible = {**outer, **{tensor.name: (graph, tensor) for tensor in graph.initializer}}
    for place, node in reversed(list(enumerate(graph.node))):
        for body in g.inner(node):
            _products(body, visible)
        if node.op_type == "Gemm" and node.input[1] in visible:
            made = _product(node, visible)
            graph.node.remove(node)
            for offset, each in enumerate(made):
                graph.node.insert(place + offset, each)
    weights.drop_unused(graph)


def _product(node: Any, visible: dict[str, Any]) -> list[Any]:
    """What a Gemm does, as MatMul and Add; as it is where it has factors."""
    from onnx import NodeProto, helper, numpy_helper

    settings = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if settings.get("transA") or settings.get("alpha", 1.0) != 1.0 or settings.get("beta", 1.0) != 1.0:
        return [NodeProto.FromString(node.SerializeToString())]
    weight = str(node.input[1])
    if settings.get("transB"):
        holder, tensor = visible[weight]
        weight += "_transposed"
        if all(other.name != weight for other in holder.initializer):
            holder.initializer.append(numpy_helper.from_array(numpy_helper.to_array(tensor).T.copy(), weight))
    if len(node.input) < 3 or not node.input[2]:
        return [helper.make_node("MatMul", [node.input[0], weight], [node.output[0]], name=node.name)]
    product = f"{node.output[0]}_product"
    return [
        helper.make_node("MatMul", [node.input[0], weight], [product], name=node.name),
        helper.make_node("Add", [product, node.input[2]], [node.output[0]], name=f"{node.name}_bias"),
    ]
