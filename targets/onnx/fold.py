"""Weights of a model that was trained for int8: stored as float with a QuantizeLinear behind, they become int8."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.targets.base import MIN_SHARE
from edgeship.targets.onnx.weights import drop_unused

Array = NDArray[Any]


def fold(model: Any) -> int:
    """Compute every QuantizeLinear of a constant now, in place; returns how many.

    y = saturate(round(x / scale) + zero_point), halves to even, as ONNX defines QuantizeLinear; per axis where the
    scale is a vector.
    """
    from onnx import numpy_helper

    graph = model.graph
    held = {tensor.name: tensor for tensor in graph.initializer}
    done: list[Any] = []
    for node in graph.node:
        if node.op_type != "QuantizeLinear" or not all(name in held for name in node.input):
            continue
        values, scale = (numpy_helper.to_array(held[name]) for name in node.input[:2])
        zero = numpy_helper.to_array(held[node.input[2]]) if len(node.input) > 2 else np.zeros(scale.shape, np.uint8)
        axis = next((int(a.i) for a in node.attribute if a.name == "axis"), 1)
        if zero.dtype not in (np.int8, np.uint8) or scale.size not in (1, values.shape[axis] if values.ndim else 1):
            continue  # blocks of 16 or 4 bits: ONNX Runtime computes them itself
        graph.initializer.append(numpy_helper.from_array(_quantized(values, scale, zero, axis), node.output[0]))
        done.append(node)
    for node in done:
        graph.node.remove(node)
    drop_unused(graph)
    return len(done)


def _quantized(values: Array, scale: Array, zero: Array, axis: int) -> Array:
    shape = [1] * values.ndim
    if scale.size > 1:
        shape[axis] = scale.size
    limits = np.iinfo(zero.dtype)
    steps = np.rint(values / scale.reshape(shape)) + zero.reshape(shape).astype(np.float32)
    out: Array = np.clip(steps, limits.min, limits.max).astype(zero.dtype)
    return out


def share_said(share: float) -> list[str]:
    """What people should know of a model that is int8 by its operators."""
    if share >= MIN_SHARE:
        return []
    return [f"it is int8 by its operators, but {1 - share:.0%} of its weights are stored as float"]
