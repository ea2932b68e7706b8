"""Which operators of an ONNX model are ranked: whatever the quantizer takes and that computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeship.targets.onnx.sensitivity import layers

helper: Any = pytest.importorskip("onnx.helper")
onnx: Any = pytest.importorskip("onnx")


def hard_swish() -> Any:
    """x [1, 4] -> MatMul -> h · min(max(h + 3, 0), 6) / 6, as exporters write it, and a Reshape."""
    rng = np.random.default_rng(0)
    held = {"w": rng.normal(size=(4, 4)), "three": 3.0, "zero": 0.0, "six": 6.0}
    nodes = [
        ("MatMul", ["x", "w"], "h"), ("Add", ["h", "three"], "up"), ("Clip", ["up", "zero", "six"], "cut"),
        ("Mul", ["h", "cut"], "product"), ("Div", ["product", "six"], "swish"), ("Reshape", ["swish", "shape"], "y"),
    ]  # fmt: skip
    tensors = [onnx.numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in held.items()]
    tensors.append(onnx.numpy_helper.from_array(np.asarray([2, 2], np.int64), "shape"))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node(kind, given, [out], name=out) for kind, given, out in nodes], "g",
        [value("x", onnx.TensorProto.FLOAT, [1, 4])], [value("y", onnx.TensorProto.FLOAT, [2, 2])], tensors,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def test_operators_without_weights_are_listed_where_the_quantizer_takes_them() -> None:
    listed = {
        layer.name: (layer.operator, layer.weights) for layer in layers(onnx.shape_inference.infer_shapes(hard_swish()))
    }
    assert listed == {"h": ("MatMul", 16), "up": ("Add", 0), "cut": ("Clip", 0), "product": ("Mul", 0)}
