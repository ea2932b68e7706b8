"""Small ONNX graphs with the traits of real models that break quantizers, made with `onnx.helper`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeship.dataset import Dataset

Array = NDArray[Any] | np.generic
FLOAT = TensorProto.FLOAT


def value(name: str, shape: Sequence[int | str] | None, kind: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def save(
    path: Path, nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], held: Mapping[str, Array],
    opset: int = 17,
) -> Path:  # fmt: skip
    """Write a model of these nodes."""
    initializers = [numpy_helper.from_array(np.asarray(array), name) for name, array in held.items()]
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def weights(shape: Sequence[int], seed: int = 0) -> NDArray[np.float32]:
    size = int(np.prod(shape[1:])) or 1
    made: NDArray[np.float32] = (np.random.default_rng(seed).normal(size=shape) / np.sqrt(size)).astype(np.float32)
    return made


def data(name: str, shape: Sequence[int], n: int = 24, seed: int = 1) -> Dataset:
    """Samples [n, 1, *shape]: normal values with a scale of their own each."""
    rng = np.random.default_rng(seed)
    scale = rng.uniform(0.3, 1.5, (n, *(1 for _ in range(len(shape) + 1))))
    return Dataset({name: (rng.normal(size=(n, 1, *shape)) * scale).astype(np.float32)})


def convolutional(path: Path, opset: int = 17) -> Path:
    """Conv, BatchNormalization, Relu; a depthwise Conv, Clip; a residual Add; pooling; MatMul + Add; Softmax."""
    rng = np.random.default_rng(5)
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c1", "g", "o", "m", "v"], ["n1"]),
        helper.make_node("Relu", ["n1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b1"], ["c2"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=8),
        helper.make_node("Clip", ["c2", "zero", "six"], ["r2"]) if opset >= 11
        else helper.make_node("Clip", ["c2"], ["r2"], min=0.0, max=6.0),
        helper.make_node("Conv", ["r2", "w3", "b1"], ["c3"], kernel_shape=[1, 1]),
        helper.make_node("Add", ["c3", "r1"], ["sum"]),
        helper.make_node("GlobalAveragePool", ["sum"], ["pool"]),
        helper.make_node("Flatten", ["pool"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w4"], ["product"]),
        helper.make_node("Add", ["product", "b4"], ["y"]),
    ]  # fmt: skip
    held: dict[str, Array] = {
        "w1": weights((8, 3, 3, 3), 1), "b1": weights((8,), 2), "w2": weights((8, 1, 3, 3), 3) * rng.uniform(
            0.05, 3, (8, 1, 1, 1)).astype(np.float32),
        "w3": weights((8, 8, 1, 1), 4), "w4": weights((10, 8), 6).T.copy(), "b4": weights((10,), 7),
        "g": rng.uniform(0.5, 2, 8).astype(np.float32), "o": weights((8,), 8), "m": weights((8,), 9),
        "v": rng.uniform(0.5, 2, 8).astype(np.float32),
    }  # fmt: skip
    if opset >= 11:
        held |= {"zero": np.float32(0), "six": np.float32(6)}
    return save(path, nodes, [value("x", (1, 3, 8, 8))], [value("y", (1, 10))], held, opset)


def loud(path: Path) -> Path:
    """Conv, Relu, MaxPool, Conv: one channel between them is 2,000 times as loud as the others."""
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("MaxPool", ["r1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p1", "w2"], ["y"], kernel_shape=[1, 1]),
    ]
    factor = np.where(np.arange(8) == 2, 2000, 1).astype(np.float32)
    held = {
        "w1": weights((8, 3, 3, 3), 1) * factor[:, None, None, None], "b1": weights((8,), 2) * factor,
        "w2": weights((4, 8, 1, 1), 4) / factor[:, None, None],
    }  # fmt: skip
    return save(path, nodes, [value("x", (1, 3, 8, 8))], [value("y", (1, 4, 4, 4))], held)


def detector(path: Path, *, direct: bool = False) -> Path:
    """Boxes of 0 … 320 and scores of 0 … 1 that share an output; `direct`: written by one Conv, not by a Concat."""
    held: dict[str, Array] = {"w": weights((8, 3, 3, 3), 1), "size": np.float32(320), "rows": np.array([1, 6, 64])}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
    ]
    if direct:
        scale = np.array([160, 160, 160, 160, 0.5, 0.5], np.float32).reshape(6, 1, 1, 1)
        held |= {"w1": weights((6, 8, 1, 1), 2) * scale}
        nodes += [
            helper.make_node("Conv", ["r", "w1"], ["head"], kernel_shape=[1, 1]),
            helper.make_node("Reshape", ["head", "rows"], ["y"]),
        ]
    else:
        held |= {"w1": weights((4, 8, 1, 1), 2), "w2": weights((2, 8, 1, 1), 3)}
        nodes += [
            helper.make_node("Conv", ["r", "w1"], ["raw boxes"], kernel_shape=[1, 1]),
            helper.make_node("Sigmoid", ["raw boxes"], ["relative"]),
            helper.make_node("Mul", ["relative", "size"], ["boxes"]),
            helper.make_node("Conv", ["r", "w2"], ["raw scores"], kernel_shape=[1, 1]),
            helper.make_node("Sigmoid", ["raw scores"], ["scores"]),
            helper.make_node("Concat", ["boxes", "scores"], ["both"], axis=1),
            helper.make_node("Reshape", ["both", "rows"], ["y"]),
        ]
    return save(path, nodes, [value("x", (1, 3, 8, 8))], [value("y", (1, 6, 64))], held)


def recurrent(path: Path, kind: str) -> Path:
    """A recurrent layer over ten steps and a dense layer: LSTM, GRU or RNN."""
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    nodes = [
        helper.make_node(kind, ["x", "W", "R", "B"], ["steps", "last"], hidden_size=16),
        helper.make_node("Reshape", ["last", "flat"], ["h"]),
        helper.make_node("Gemm", ["h", "w", "b"], ["y"], transB=1),
    ]
    held: dict[str, Array] = {
        "W": weights((1, 16 * gates, 12), 1), "R": weights((1, 16 * gates, 16), 2), "B": weights((1, 32 * gates), 3),
        "flat": np.array([1, 16]), "w": weights((5, 16), 4), "b": weights((5,), 5),
    }  # fmt: skip
    return save(path, nodes, [value("x", (10, 1, 12))], [value("y", (1, 5))], held)


def branched(path: Path) -> Path:
    """An If whose branches have weights of their own and read a Relu and a weight of the graph around them."""

    def branch(name: str, seed: int) -> Any:
        return helper.make_graph(
            [helper.make_node("Gemm", ["r", f"{name} w"], [f"{name} h"], transB=1),
             helper.make_node("Gemm", [f"{name} h", "shared"], [f"{name} y"], transB=1)],
            name, [], [value(f"{name} y", (1, 5))], [numpy_helper.from_array(weights((16, 16), seed), f"{name} w")],
        )  # fmt: skip

    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["g"], transB=1),
        helper.make_node("Relu", ["g"], ["r"]),
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
        helper.make_node("Greater", ["total", "none"], ["positive"]),
        helper.make_node("If", ["positive"], ["y"], then_branch=branch("then", 3), else_branch=branch("else", 4)),
    ]
    held: dict[str, Array] = {"w": weights((16, 12), 1), "shared": weights((5, 16), 2), "none": np.float32(0)}
    return save(path, nodes, [value("x", (1, 12))], [value("y", (1, 5))], held)


def masked(path: Path) -> Path:
    """Attention of four heads with an additive mask of −∞ over half of the places."""
    mask = np.where(np.arange(8) < 4, 0, -np.inf).astype(np.float32).reshape(1, 1, 8)
    nodes = [
        helper.make_node("MatMul", ["x", "wq"], ["q"]),
        helper.make_node("MatMul", ["x", "wk"], ["k"]),
        helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "kt"], ["scores"]),
        helper.make_node("Add", ["scores", "mask"], ["hidden"]),
        helper.make_node("Softmax", ["hidden"], ["attention"], axis=-1),
        helper.make_node("MatMul", ["x", "wv"], ["v"]),
        helper.make_node("MatMul", ["attention", "v"], ["y"]),
    ]
    held: dict[str, Array] = {"wq": weights((16, 16), 1), "wk": weights((16, 16), 2), "wv": weights((16, 16), 3)}
    return save(path, nodes, [value("x", (1, 8, 16))], [value("y", (1, 8, 16))], held | {"mask": mask})


def untruthful(path: Path) -> Path:
    """Its output is declared [1, 3] and comes as [4, 1, 3]; it is a Concat of parts whose rank nothing declares."""
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["h"], transB=1),
        helper.make_node("Reshape", ["h", "shape"], ["a"]),
        helper.make_node("Shape", ["x"], ["n"]),
        helper.make_node("Slice", ["h", "start", "n"], ["ignored"]),
        helper.make_node("Sub", ["n", "n"], ["nothing"]),
        helper.make_node("Concat", ["nothing", "three"], ["mixed"], axis=0),
        helper.make_node("Slice", ["mixed", "start2", "end2"], ["three again"]),
        helper.make_node("Reshape", ["h", "three again"], ["b"]),
        helper.make_node("Concat", ["a", "b"], ["y"], axis=0),
    ]
    held: dict[str, Array] = {
        "w": weights((6, 12), 1), "shape": np.array([2, 1, 3]), "three": np.array([2, 1, 3]), "start": np.array([0, 0]),
        "start2": np.array([2]), "end2": np.array([5]),
    }  # fmt: skip
    return save(path, nodes, [value("x", (1, 12))], [value("y", (1, 3))], held)


def rankless(path: Path) -> Path:
    """A Concat of parts that come by a Reshape to numbers that only a run tells: their rank cannot be inferred."""
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["h"], transB=1),
        helper.make_node("Mul", ["h", "h"], ["squares"]),
        helper.make_node("Greater", ["squares", "less"], ["true"]),
        helper.make_node("NonZero", ["true"], ["places"]),
        helper.make_node("Gather", ["places", "second"], ["counted"], axis=0),
        helper.make_node("Slice", ["counted", "one", "four"], ["numbers"]),
        helper.make_node("Reshape", ["h", "numbers"], ["a"]),
        helper.make_node("Sigmoid", ["a"], ["b"]),
        helper.make_node("Concat", ["a", "b"], ["y"], axis=0),
    ]
    held: dict[str, Array] = {
        "w": weights((6, 12), 1), "less": np.float32(-1), "second": np.int64(1), "one": np.array([1]),
        "four": np.array([4]),
    }  # fmt: skip
    return save(path, nodes, [value("x", (1, 12))], [value("y", None)], held)


def shared_bias(path: Path) -> Path:
    """Two convolutions share the bias `b`, and a tensor has the name that ONNX Runtime would give to its copy."""
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b"], ["b0"], kernel_shape=[1, 1]),
        helper.make_node("Sigmoid", ["b0"], ["s"]),
        helper.make_node("Conv", ["s", "w2", "b"], ["c"], kernel_shape=[1, 1]),
        helper.make_node("Concat", ["b0", "c"], ["y"], axis=1),
    ]
    held: dict[str, Array] = {"w1": weights((4, 3, 1, 1), 1), "w2": weights((4, 4, 1, 1), 2), "b": weights((4,), 3)}
    return save(path, nodes, [value("x", (1, 3, 8, 8))], [value("y", (1, 8, 8, 8))], held)


def spectrogram(path: Path) -> Path:
    """A Conv of waves, squares, their sum, a root; a Conv on that, as models of sound begin. Input "x" [1, 1, 512]."""
    t = np.arange(64)
    k = np.arange(1, 17)[:, None]
    waves = np.concatenate([np.cos(2 * np.pi * k * t / 64), np.sin(2 * np.pi * k * t / 64)])[:, None]
    held: dict[str, Array] = {
        "waves": waves.astype(np.float32),
        "two": np.float32(2), "w": weights((8, 16, 3), 2), "a": np.array([0]), "b": np.array([16]), "c": np.array([32]),
        "axis": np.array([1]),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "waves"], ["both"], strides=[32], name="first"),
        helper.make_node("Slice", ["both", "a", "b", "axis"], ["real"]),
        helper.make_node("Slice", ["both", "b", "c", "axis"], ["imaginary"]),
        helper.make_node("Pow", ["real", "two"], ["real2"]),
        helper.make_node("Pow", ["imaginary", "two"], ["imaginary2"]),
        helper.make_node("Add", ["real2", "imaginary2"], ["power"]),
        helper.make_node("Sqrt", ["power"], ["spectrum"]),
        helper.make_node("Log", ["spectrum"], ["loud"]),
        helper.make_node("Conv", ["loud", "w"], ["h"], name="second"),
        helper.make_node("Relu", ["h"], ["y"]),
    ]
    return save(path, nodes, [value("x", (1, 1, 512))], [value("y", (1, 8, 13))], held)


def halved_spectrogram(path: Path, between: str = "") -> Path:
    """A filter that halves the rate, then waves; the imaginary part changes its sign, a factor for each wave, a root.

    Between the input and what is squared there are linear steps alone, as a constant-Q front end is exported; `between`
    is a kind of operator that breaks them after the filter. Input "x" [1, 1, 512].
    """
    t, k = np.arange(64), np.arange(1, 17)[:, None]
    low = np.hanning(17)
    held: dict[str, Array] = {
        "low": (low / low.sum()).astype(np.float32).reshape(1, 1, 17),
        "cos": np.cos(2 * np.pi * k * t / 64)[:, None].astype(np.float32) / 64,
        "sin": np.sin(2 * np.pi * k * t / 64)[:, None].astype(np.float32) / 64,
        "rate": np.array([1, 1, 512]), "factors": np.linspace(1, 4, 16, dtype=np.float32)[:, None, None],
        "last": np.array([3]), "tiny": np.float32(1e-10), "w": weights((8, 16, 3), 2),
    }  # fmt: skip
    nodes = [
        helper.make_node("Reshape", ["x", "rate"], ["flat"]),
        helper.make_node("Conv", ["flat", "low"], ["slow"], strides=[2], pads=[8, 8], name="filter"),
        helper.make_node(between or "Identity", ["slow"], ["heard"]),
        helper.make_node("Conv", ["heard", "cos"], ["re"], strides=[16], name="real"),
        helper.make_node("Conv", ["heard", "sin"], ["im"], strides=[16], name="imaginary"),
        helper.make_node("Neg", ["im"], ["minus"]),
        helper.make_node("Unsqueeze", ["re", "last"], ["re4"]),
        helper.make_node("Unsqueeze", ["minus", "last"], ["im4"]),
        helper.make_node("Concat", ["re4", "im4"], ["both"], axis=3),
        helper.make_node("Mul", ["both", "factors"], ["even"]),
        helper.make_node("Mul", ["even", "even"], ["squares"]),
        helper.make_node("ReduceSum", ["squares", "last"], ["power"], keepdims=0),
        helper.make_node("Add", ["power", "tiny"], ["some"]),
        helper.make_node("Log", ["some"], ["loud"]),
        helper.make_node("Conv", ["loud", "w"], ["h"], name="second"),
        helper.make_node("Relu", ["h"], ["y"]),
    ]
    return save(path, nodes, [value("x", (1, 1, 512))], [value("y", (1, 8, 11))], held)


def normalized(path: Path) -> Path:
    """Gemm, a normalization written out in plain operators, Gemm, with a residual. Input "x" [1, 24]."""
    held: dict[str, Array] = {
        "w": weights((24, 24), 1), "v": 0.3 * weights((24, 24), 2), "u": weights((24, 6), 3), "tiny": np.float32(1e-3),
        "scale": np.random.default_rng(4).uniform(0.5, 2, 24).astype(np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["a"], name="first"),
        helper.make_node("ReduceMean", ["a"], ["mean"], axes=[-1]),
        helper.make_node("Sub", ["a", "mean"], ["centred"]),
        helper.make_node("Mul", ["centred", "centred"], ["squares"]),
        helper.make_node("ReduceMean", ["squares"], ["variance"], axes=[-1]),
        helper.make_node("Add", ["variance", "tiny"], ["sum"]),
        helper.make_node("Sqrt", ["sum"], ["root"]),
        helper.make_node("Reciprocal", ["root"], ["inverse"]),
        helper.make_node("Mul", ["centred", "inverse"], ["even"]),
        helper.make_node("Mul", ["even", "scale"], ["scaled"]),
        helper.make_node("Gemm", ["scaled", "v"], ["b"], name="second"),
        helper.make_node("Add", ["b", "scaled"], ["residual"]),
        helper.make_node("Gemm", ["residual", "u"], ["y"], name="third"),
    ]
    return save(path, nodes, [value("x", (1, 24))], [value("y", (1, 6))], held)


def quantized_already(path: Path) -> Path:
    """As quantization-aware training exports it: QuantizeLinear and DequantizeLinear around float weights."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        helper.make_node("Gemm", ["xd", "w"], ["y"], transB=1),
    ]
    held: dict[str, Array] = {"w": weights((5, 12), 1), "s": np.float32(0.02), "z": np.int8(0)}
    return save(path, nodes, [value("x", (1, 12))], [value("y", (1, 5))], held)


def load(path: Path) -> Any:
    return onnx.load(str(path))
