"""Operators that tf2onnx hands on under TensorFlow's names."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from edgeship.targets.onnx import exported
from tests.simulators.onnx_graphs import save, value


def test_erfc_is_spelled_out_in_branches_too(tmp_path: Path) -> None:
    """Keras' exact GELU comes with it, and ONNX has no such operator."""
    import onnxruntime

    def branch(name: str, gain: float) -> onnx.GraphProto:
        nodes = [
            helper.make_node("Erfc", ["x"], [f"{name}_e"], name=f"{name}_erfc"),
            helper.make_node("Constant", [], [f"{name}_g"], value_float=gain),
            helper.make_node("Mul", [f"{name}_e", f"{name}_g"], [f"{name}_y"]),
        ]
        return helper.make_graph(nodes, name, [], [value(f"{name}_y", (1, 7))])

    nodes = [
        helper.make_node("Erfc", ["x"], ["top"], name="erfc"),
        helper.make_node("ReduceSum", ["top"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["y"], then_branch=branch("then", 2.0), else_branch=branch("else", 3.0)),
    ]
    path = save(tmp_path / "m.onnx", nodes, [value("x", (1, 7))], [value("y", (1, 7))], {"zero": np.float32(0)})
    exported.write(onnx.load(path), ["x"], path)
    onnx.checker.check_model(onnx.load(path))
    x = np.linspace(-3, 3, 7, dtype=np.float32)[None]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    wanted = 2 * np.array([[math.erfc(v) for v in x[0]]])
    assert np.allclose(session.run(["y"], {"x": x})[0], wanted, atol=1e-6)


def test_other_files_are_as_they_were(tmp_path: Path) -> None:
    path = save(
        tmp_path / "m.onnx", [helper.make_node("Erf", ["x"], ["y"])], [value("x", (1, 2))], [value("y", (1, 2))], {}
    )
    before = path.read_bytes()
    exported.write(onnx.load(path), ["x"], path)
    assert path.read_bytes() == before


def test_inputs_that_are_not_the_models_and_that_nothing_reads_are_forgotten(tmp_path: Path) -> None:
    """The model's own stay, read or not; so does one that a branch alone reads."""
    inner = helper.make_graph([helper.make_node("Neg", ["deep"], ["then_y"])], "then", [], [value("then_y", (1, 2))])
    other = helper.make_graph([helper.make_node("Abs", ["x"], ["else_y"])], "else", [], [value("else_y", (1, 2))])
    inputs = [value("x", (1, 2)), value("idle", (1,)), value("norm/Sub/y:0", (1,)), value("deep", (1, 2))]
    path = save(
        tmp_path / "m.onnx", [helper.make_node("If", ["yes"], ["y"], then_branch=inner, else_branch=other)], inputs,
        [value("y", (1, 2))], {"yes": np.bool_(True)},
    )  # fmt: skip
    exported.write(onnx.load(path), ["x", "idle"], path)
    assert [given.name for given in onnx.load(path).graph.input] == ["x", "idle", "deep"]
