"""Weights as int8 that are computed with in float: each becomes an int8 initializer and a DequantizeLinear.

Works in every graph of a model, those within If, Loop and Scan included, so what a quantizer of activations cannot take
(recurrent layers, branches) gets small all the same. Symmetric, −127 … 127, as ONNX Runtime's own weights.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.targets.onnx import graph as g
from edgeship.targets.onnx.inspect import graphs

_SUFFIX = "_int8_weight"
_INT8 = (2, 3)  # TensorProto.UINT8, INT8


def shrink(model: Any, *, per_channel: bool, keep: Collection[str] = ()) -> list[str]:
    """Replace the float weights of all operators of `graph.WEIGHTS` in place.

    Args:
        model: ModelProto of opset 13 or later; what is int8 already is left alone.
        per_channel: a scale for each output channel (each gate of a recurrent layer, each row of a table), else one.
        keep: names of nodes whose weights stay in float.

    Returns:
        Names of the nodes whose weights were replaced.
    """
    return _shrink(model.graph, {}, per_channel=per_channel, keep=frozenset(keep))


def _shrink(graph: Any, outer: dict[str, Any], *, per_channel: bool, keep: frozenset[str]) -> list[str]:
    """One graph and those within it; `outer`: initializers of enclosing graphs -> the graph that holds them."""
    done: list[str] = []
    visible = {**outer, **{tensor.name: (graph, tensor) for tensor in graph.initializer}}
    for node in list(graph.node):
        if node.op_type in g.WEIGHTS and node.name not in keep:
            replaced = [
                position for position in g.WEIGHTS[node.op_type]
                if position < len(node.input) and _replace(node, position, visible, per_channel=per_channel)
            ]  # fmt: skip
            if replaced:
                done.append(node.name)
        for body in g.inner(node):
            done += _shrink(body, visible, per_channel=per_channel, keep=keep)
    drop_unused(graph)
    return done


def _replace(node: Any, position: int, visible: dict[str, Any], *, per_channel: bool) -> bool:
    """Have one input of a node come from an int8 tensor. Says whether it does now."""
    from onnx import helper, numpy_helper

    name = node.input[position]
    if name not in visible:
        return False
    graph, tensor = visible[name]
    if tensor.data_type != g.FLOAT or sum(d > 1 for d in tensor.dims) < 2:
        return False
    axis = channel_axis(node, position, len(tensor.dims)) if per_channel else None
    made = f"{name}{_SUFFIX}" + ("" if axis is None else f"_{axis}")
    if made not in {out for each in graph.node for out in each.output}:
        values, scale = quantized(numpy_helper.to_array(tensor), axis)
        inputs = {f"{made}_q": values, f"{made}_scale": scale, f"{made}_zero": np.zeros(scale.shape, np.int8)}
        # The zero points are written out: ONNX Runtime adds one of a wrong shape where x64quantprecision is on.
        graph.initializer.extend(numpy_helper.from_array(array, key) for key, array in inputs.items())
        attributes = {} if axis is None else {"axis": axis}
        graph.node.insert(0, helper.make_node("DequantizeLinear", [*inputs], [made], name=made, **attributes))
    node.input[position] = made
    return True


def channel_axis(node: Any, position: int, rank: int) -> int:
    """The axis of a weight along which the outputs of its operator lie; the rows of a table; the gates of a cell."""
    if node.op_type == "Gemm":
        return 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
    if node.op_type == "MatMul":
        return rank - 1 if position == 1 else rank - 2
    return 1 if node.op_type in ("ConvTranspose", *g.RECURRENT) else 0


def quantized(weight: NDArray[np.float32], axis: int | None) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """A weight as (int8 of the same shape, scale: scalar or [weight.shape[axis]]); weight ≈ int8 · scale."""
    others = None if axis is None else tuple(i for i in range(weight.ndim) if i != axis)
    largest = np.abs(weight).max(axis=others, keepdims=True)
    scale = np.where(largest > 0, largest / np.float32(127), np.float32(1)).astype(np.float32)
    values = np.clip(np.rint(weight / scale), -127, 127).astype(np.int8)
    return values, scale.reshape(()) if axis is None else scale.reshape(-1)


def drop_unused(graph: Any) -> None:
    """Take out initializers that nothing reads, in place."""
    used = {name for node in graph.node for name in g.reads(node)} | {value.name for value in graph.output}
    listed = {value.name for value in graph.input}
    for tensor in [t for t in graph.initializer if t.name not in used and t.name not in listed]:
        graph.initializer.remove(tensor)


def nodes_with_weights(model: Any) -> list[Any]:
    """All nodes of all graphs that have weights by their kind."""
    return [node for graph in graphs(model.graph) for node in graph.node if node.op_type in g.WEIGHTS]


def kept_share(model: Any, keep: Collection[str]) -> float:
    """Of the elements of all weight matrices, those of the nodes `keep`: 0 to 1."""
    of_kept = {name for node in nodes_with_weights(model) if node.name in keep for name in node.input}
    total = kept = 0
    for graph in graphs(model.graph):
        for tensor in graph.initializer:
            if tensor.data_type in (g.FLOAT, *_INT8) and sum(d > 1 for d in tensor.dims) >= 2:
                total += math.prod(tensor.dims)
                kept += math.prod(tensor.dims) * (tensor.name in of_kept)
    return kept / total if total else 0.0
