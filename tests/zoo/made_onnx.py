"""ONNX models written out by hand, with what exporters other than PyTorch's leave in a graph.

Run as `python -m tests.zoo.made_onnx NAME FOLDER`: writes NAME.onnx and data.npz into FOLDER.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tests.simulators import onnx_graphs as graphs
from tests.simulators import text_models
from tests.zoo import samples

Arrays = Mapping[str, NDArray[Any]]
INT64, BOOL = TensorProto.INT64, TensorProto.BOOL
node, value = helper.make_node, graphs.value


def _rows(n: int, *shape: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(n, 1, *shape)) * rng.uniform(0.3, 1.5, (n, *([1] * (1 + len(shape)))))).astype(np.float32)


def _faces() -> Arrays:
    made = samples.faces(100, 32).transpose(0, 3, 1, 2) / np.float32(127.5) - np.float32(1)
    return {"image": np.ascontiguousarray(made)[:, None]}


def nms(path: Path) -> Arrays:
    """Boxes and scores of a convolution, selected by NonMaxSuppression in the graph: how many differs by sample."""
    held: dict[str, Any] = {
        "w": graphs.weights((16, 3, 3, 3), 1), "box": graphs.weights((4, 16, 1, 1), 2),
        "cls": graphs.weights((2, 16, 1, 1), 3), "four": np.array([1, 4, -1]), "two": np.array([1, 2, -1]),
        "most": np.array([8]), "iou": np.array([0.5], np.float32), "least": np.array([0.3], np.float32),
    }  # fmt: skip
    nodes = [
        node("Conv", ["image", "w"], ["c"], strides=[4, 4], pads=[1, 1, 1, 1]), node("Relu", ["c"], ["r"]),
        node("Conv", ["r", "box"], ["b"]), node("Sigmoid", ["b"], ["bs"]), node("Reshape", ["bs", "four"], ["b4"]),
        node("Transpose", ["b4"], ["boxes"], perm=[0, 2, 1]), node("Conv", ["r", "cls"], ["s"]),
        node("Sigmoid", ["s"], ["ss"]), node("Reshape", ["ss", "two"], ["scores"]),
        node("NonMaxSuppression", ["boxes", "scores", "most", "iou", "least"], ["selected"]),
    ]  # fmt: skip
    outputs = [value("boxes", None), value("scores", None), value("selected", None, INT64)]
    graphs.save(path, nodes, [value("image", (1, 3, 32, 32))], outputs, held)
    return _faces()


def branches(path: Path) -> Arrays:
    """An If on an input of the model."""

    def body(name: str, weight: str) -> Any:
        return helper.make_graph(
            [node("Gemm", ["x", weight], [f"{name}_y"], name=name)], name, [], [value(f"{name}_y", (1, 8))]
        )

    nodes = [
        node("If", ["fast"], ["h"], then_branch=body("quick", "a"), else_branch=body("slow", "b")),
        node("Relu", ["h"], ["r"]), node("Gemm", ["r", "c"], ["y"]),
    ]  # fmt: skip
    held = {"a": graphs.weights((24, 8), 1), "b": graphs.weights((24, 8), 2), "c": graphs.weights((8, 5), 3)}
    graphs.save(path, nodes, [value("x", (1, 24)), value("fast", (), BOOL)], [value("y", (1, 5))], held)
    return {"x": _rows(120, 24), "fast": np.arange(120) % 2 == 0}


def loop(path: Path) -> Arrays:
    """A Loop that applies a layer six times to a state."""
    body = helper.make_graph(
        [node("Gemm", ["h", "w"], ["g"], name="step"), node("Tanh", ["g"], ["h_next"]),
         node("Identity", ["go"], ["go_on"])],
        "body", [value("i", (), INT64), value("go", (), BOOL), value("h", (1, 16))],
        [value("go_on", (), BOOL), value("h_next", (1, 16))],
    )  # fmt: skip
    nodes = [
        node("Gemm", ["x", "first"], ["h0"]), node("Loop", ["times", "yes", "h0"], ["last"], body=body),
        node("Gemm", ["last", "out"], ["y"]),
    ]  # fmt: skip
    held: dict[str, Any] = {
        "first": graphs.weights((12, 16), 1), "w": 3 * graphs.weights((16, 16), 2), "out": graphs.weights((16, 4), 3),
        "times": np.array(6), "yes": np.array(True),
    }  # fmt: skip
    graphs.save(path, nodes, [value("x", (1, 12))], [value("y", (1, 4))], held)
    return {"x": _rows(120, 12)}


def quantized(path: Path) -> Arrays:
    graphs.quantized_already(path)
    return {"x": _rows(60, 12)}


def texts(path: Path) -> Arrays:
    """Words go in, and beside the scores a text comes out."""
    text_models.topics(path)
    return {"text": text_models.texts(120)[0]}


def scalar(path: Path) -> Arrays:
    """One number of no dimension comes out."""
    nodes = [
        node("Gemm", ["x", "w"], ["h"]), node("Relu", ["h"], ["r"]), node("Gemm", ["r", "v"], ["g"]),
        node("ReduceMean", ["g"], ["y"], keepdims=0),
    ]  # fmt: skip
    held = {"w": graphs.weights((24, 16), 1), "v": graphs.weights((16, 3), 2)}
    graphs.save(path, nodes, [value("x", (1, 24))], [value("y", ())], held)
    return {"x": _rows(120, 24)}


def passed(path: Path) -> Arrays:
    """An input that is an output too, and an input that nothing reads."""
    nodes = [node("Gemm", ["x", "w"], ["h"]), node("Relu", ["h"], ["y"])]
    inputs = [value("x", (1, 24)), value("clock", (1, 2)), value("spare", (1, 3))]
    graphs.save(path, nodes, inputs, [value("y", (1, 16)), value("clock", (1, 2))], {"w": graphs.weights((24, 16), 1)})
    return {"x": _rows(120, 24), "clock": _rows(120, 2), "spare": _rows(120, 3)}


def last(path: Path) -> Arrays:
    """Channels last with names of slashes, colons, spaces and letters beyond ASCII; no node has a name."""
    nodes = [
        node("Transpose", ["größe/第1 :0"], ["t"], perm=[0, 3, 1, 2]),
        node("Conv", ["t", "w ‘1’"], ["/c/"], strides=[2, 2]), node("Relu", ["/c/"], ["r;"]),
        node("Conv", ["r;", "v"], ["d"]), node("Transpose", ["d"], ["ausgang/ß :0"], perm=[0, 2, 3, 1]),
    ]  # fmt: skip
    held = {"w ‘1’": graphs.weights((16, 3, 3, 3), 1), "v": graphs.weights((6, 16, 3, 3), 2)}
    graphs.save(path, nodes, [value("größe/第1 :0", (1, 32, 32, 3))], [value("ausgang/ß :0", (1, 13, 13, 6))], held)
    return {"größe/第1 :0": _faces()["image"].transpose(0, 1, 3, 4, 2)}


MODELS: Mapping[str, tuple[str, Callable[[Path], Arrays]]] = {
    "nms": ("NonMaxSuppression in the graph", nms),
    "if": ("If on an input", branches),
    "loop": ("Loop that carries a state", loop),
    "qdq": ("quantized already, QDQ", quantized),
    "texts": ("words go in", texts),
    "scalar": ("a number without dimensions comes out", scalar),
    "passed": ("an input that is an output, one that nothing reads", passed),
    "nhwc": ("channels last, odd names", last),
}


def main(name: str, folder: Path) -> None:
    """Write the model and its data."""
    np.savez(folder / "data.npz", allow_pickle=False, **MODELS[name][1](folder / f"{name}.onnx"))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
