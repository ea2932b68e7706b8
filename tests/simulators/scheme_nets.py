"""Three tiny float nets, each as TFLite and as ONNX, that every scheme is tried on: `make(kind, path)`, by the suffix.

    convolution   two convolutions, the second with a stride and ReLU; mean; dense
    depthwise     a convolution, a depthwise one whose channels differ 30 times in size, a sum, mean, dense, softmax
    attention     queries, keys and values by dense layers, softmax of their products, a sum, dense

TFLite has channels last, ONNX first; `data(kind, format)` are samples of the input x. Nothing else is the same in both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from edgeship.dataset import Dataset
from tests.simulators.onnx_graphs import save, value, weights
from tests.simulators.tflite_file import File, Graph

KINDS = ("convolution", "depthwise", "attention")
FORMATS = ("tflite", "onnx")

_SHAPES = {"convolution": (8, 8, 3), "depthwise": (8, 8, 3), "attention": (6, 8)}
_LOUD = np.geomspace(0.1, 3.0, 8).astype(np.float32)  # of the depthwise kernel's channels


def data(kind: str, format_name: str, n: int = 48) -> Dataset:
    """Samples, float32 [n, 1, *shape]."""
    shape = _SHAPES[kind]
    if format_name == "onnx" and len(shape) == 3:
        shape = (shape[2], *shape[:2])
    return Dataset({"x": np.random.default_rng(7).normal(size=(n, 1, *shape)).astype(np.float32)})


def make(kind: str, path: Path) -> Path:
    """Write a net."""
    makers: dict[str, Any] = {
        "convolution.tflite": _convolution, "depthwise.tflite": _depthwise, "attention.tflite": _attention,
        "convolution.onnx": _onnx_convolution, "depthwise.onnx": _onnx_depthwise, "attention.onnx": _onnx_attention,
    }  # fmt: skip
    made: Path = makers[kind + path.suffix](path)
    return made


# ── TFLite ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _conv(
    g: Graph, name: str, x: int, kernel: NDArray[np.float32], size: int, *, stride: int = 1, relu: bool = False
) -> int:  # fmt: skip
    """CONV_2D with a kernel [out, height, width, in], padded to the same size."""
    out = g.tensor(name, (1, size, size, len(kernel)))
    bias = g.tensor(f"{name}/bias", (len(kernel),), np.linspace(-0.2, 0.2, len(kernel)))
    inputs = [x, g.tensor(f"{name}/kernel", kernel.shape, kernel), bias]
    g.operator("CONV_2D", inputs, [out], "Conv2D", strideH=stride, strideW=stride, dilationHFactor=1,
               dilationWFactor=1, fusedActivationFunction=int(relu))  # fmt: skip
    return out


def _mean(g: Graph, name: str, x: int, channels: int) -> int:
    out = g.tensor(name, (1, channels))
    g.operator("MEAN", [x, g.tensor(f"{name}/axes", (2,), [1, 2], "int32")], [out], "Reducer", keepDims=False)
    return out


def _convolution(path: Path) -> Path:
    g = (file := File()).graph()
    x = g.tensor("x", (1, 8, 8, 3))
    a = _conv(g, "one", x, weights((8, 3, 3, 3), 1), 8, relu=True)
    b = _conv(g, "two", a, weights((8, 3, 3, 8), 2), 4, stride=2, relu=True)
    return file.write(path, [([x], [g.dense("y", _mean(g, "mean", b, 8), weights((5, 8), 3))])])


def _depthwise(path: Path) -> Path:
    g = (file := File()).graph()
    x = g.tensor("x", (1, 8, 8, 3))
    a = _conv(g, "stem", x, weights((8, 3, 3, 3), 1), 8, relu=True)
    b, kernel = g.tensor("each", (1, 8, 8, 8)), weights((1, 3, 3, 8), 2) * 2 * _LOUD
    inputs = [a, g.tensor("each/kernel", kernel.shape, kernel), g.tensor("each/bias", (8,), np.zeros(8))]
    g.operator("DEPTHWISE_CONV_2D", inputs, [b], "DepthwiseConv2D", strideH=1, strideW=1, depthMultiplier=1,
               dilationHFactor=1, dilationWFactor=1)  # fmt: skip
    c, y = g.tensor("sum", (1, 8, 8, 8)), g.tensor("y", (1, 5))
    g.operator("ADD", [a, b], [c], "Add")
    logits = g.dense("logits", _mean(g, "mean", c, 8), weights((5, 8), 3))
    g.operator("SOFTMAX", [logits], [y], "Softmax", beta=1.0)
    return file.write(path, [([x], [y])])


def _attention(path: Path) -> Path:
    g = (file := File()).graph()
    x = g.tensor("x", (1, 6, 8))

    def dense(name: str, given: int, seed: int) -> int:
        out, kernel = g.tensor(name, (1, 6, 8)), weights((8, 8), seed)
        g.operator("FULLY_CONNECTED", [given, g.tensor(f"{name}/weights", (8, 8), kernel)], [out], "FullyConnected",
                   keepNumDims=True)  # fmt: skip
        return out

    def product(name: str, one: int, other: int, width: int, *, turned: bool = False) -> int:
        out = g.tensor(name, (1, 6, width))
        g.operator("BATCH_MATMUL", [one, other], [out], "BatchMatMul", adjY=turned)
        return out

    query, key, values = (dense(name, x, seed) for name, seed in (("query", 1), ("key", 2), ("value", 3)))
    shares = g.tensor("shares", (1, 6, 6))
    g.operator("SOFTMAX", [product("scores", query, key, 6, turned=True)], [shares], "Softmax", beta=1.0)
    total = g.tensor("sum", (1, 6, 8))
    g.operator("ADD", [x, product("seen", shares, values, 8)], [total], "Add")
    return file.write(path, [([x], [dense("y", total, 4)])])


# ── ONNX ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _onnx_convolution(path: Path) -> Path:
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b"], ["c1"], pads=[1, 1, 1, 1], name="one"),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu_1"),
        helper.make_node("Conv", ["r1", "w2", "b"], ["c2"], pads=[1, 1, 1, 1], strides=[2, 2], name="two"),
        helper.make_node("Relu", ["c2"], ["r2"], name="relu_2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["mean"], name="pool"),
        helper.make_node("Flatten", ["mean"], ["flat"], name="flat"),
        helper.make_node("Gemm", ["flat", "w3"], ["y"], transB=1, name="dense"),
    ]
    held = {"w1": weights((8, 3, 3, 3), 1), "w2": weights((8, 8, 3, 3), 2), "w3": weights((5, 8), 3),
            "b": np.linspace(-0.2, 0.2, 8).astype(np.float32)}  # fmt: skip
    return save(path, nodes, [value("x", (1, 3, 8, 8))], [value("y", (1, 5))], held)


def _onnx_depthwise(path: Path) -> Path:
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], pads=[1, 1, 1, 1], name="stem"),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu_1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], pads=[1, 1, 1, 1], group=8, name="each"),
        helper.make_node("Add", ["r1", "c2"], ["sum"], name="sum"),
        helper.make_node("GlobalAveragePool", ["sum"], ["mean"], name="pool"),
        helper.make_node("Flatten", ["mean"], ["flat"], name="flat"),
        helper.make_node("Gemm", ["flat", "w3"], ["logits"], transB=1, name="dense"),
        helper.make_node("Softmax", ["logits"], ["y"], name="shares"),
    ]
    held = {"w1": weights((8, 3, 3, 3), 1), "w2": weights((8, 1, 3, 3), 2) * 2 * _LOUD[:, None, None, None],
            "w3": weights((5, 8), 3)}  # fmt: skip
    return save(path, nodes, [value("x", (1, 3, 8, 8))], [value("y", (1, 5))], held)


def _onnx_attention(path: Path) -> Path:
    def dense(name: str, given: str) -> Any:
        return helper.make_node("MatMul", [given, f"w_{name}"], [name], name=name)

    nodes = [
        dense("query", "x"), dense("key", "x"), dense("value", "x"),
        helper.make_node("Transpose", ["key"], ["turned"], perm=[0, 2, 1], name="turned"),
        helper.make_node("MatMul", ["query", "turned"], ["scores"], name="scores"),
        helper.make_node("Softmax", ["scores"], ["shares"], axis=-1, name="shares"),
        helper.make_node("MatMul", ["shares", "value"], ["seen"], name="seen"),
        helper.make_node("Add", ["x", "seen"], ["sum"], name="sum"), dense("y", "sum"),
    ]  # fmt: skip
    held = {f"w_{name}": weights((8, 8), seed) for seed, name in enumerate(("query", "key", "value", "y"), 1)}
    return save(path, nodes, [value("x", (1, 6, 8))], [value("y", (1, 6, 8))], held)
