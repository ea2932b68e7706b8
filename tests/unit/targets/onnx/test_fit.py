"""ONNX: weights fitted to what their layers read, and layers with int8 weights that compute in float."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper

from edgeship.dataset import Dataset
from edgeship.errors import UsageError
from edgeship.targets.onnx.fit import apply, layers
from edgeship.targets.rounding import Fitted
from tests.simulators import onnx_graphs as graphs
from tests.unit.targets.onnx.test_quantize import ONNX, build, here, nodes, quality

__all__ = ["here"]  # steps run in this process


@pytest.fixture
def model(tmp_path: Path) -> tuple[Path, Dataset]:
    path = graphs.convolutional(tmp_path / "m.onnx")
    x = ONNX.inspect(path).inputs[0]
    rng = np.random.default_rng(3)
    mixed = rng.normal(size=(64, *x.shape)) + 2 * rng.normal(size=(64, 1, 1, 1, 1)) + 1
    return path, Dataset({x.name: mixed.astype(np.float32)})


@pytest.mark.parametrize("precision", ["int8-weights", "int8", "int16x8"])
def test_fitted_weights_answer_closer_in_a_file_as_small(model: tuple[Path, Dataset], precision: str) -> None:
    path, data = model
    near, fitted = (
        build(path, data if how == "fitted" or precision != "int8-weights" else None, precision, rounding=how)
        for how in ("nearest", "fitted")
    )
    gained = quality(fitted, path, data) - quality(near, path, data)
    assert gained > (0 if precision == "int8" else 3)  # dB; int8 activations cost more than weights here
    assert abs(fitted.bytes - near.bytes) < 64
    assert fitted.int8_share == near.int8_share == 1.0
    assert [step["do"] for step in fitted.recipe.steps].count("fit") == 1
    assert fitted.recipe.key != near.recipe.key


def test_fitting_takes_data_and_says_so(model: tuple[Path, Dataset]) -> None:
    with pytest.raises(UsageError, match="needs calibration data"):
        build(model[0], None, "int8-weights", rounding="fitted")


def test_a_layer_that_is_kept_has_its_own_weights(model: tuple[Path, Dataset]) -> None:
    path, data = model
    plain = build(path, None, "float32")
    [first, *_] = [node for node in nodes(plain) if node.op_type == "Conv"]
    source = {t.name: numpy_helper.to_array(t) for t in graphs.load(plain.path).graph.initializer}
    made = graphs.load(build(path, data, rounding="fitted", keep=(first.output[0],)).path)
    [kept] = [node for node in made.graph.node if node.op_type == "Conv" and node.output[0] == first.output[0]]
    held = {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}
    assert np.array_equal(held[kept.input[1]], source[first.input[1]])


def test_layers_of_weights_only_are_not_rounded_but_their_weights_are_int8(tmp_path: Path) -> None:
    """One channel between two convolutions is 2,000 times as loud: the second reads it as it is.

    It multiplies that channel by weights 2,000 times as small, which int8 has no steps for: float is better still.
    """
    path = graphs.loud(tmp_path / "m.onnx")
    x = ONNX.inspect(path).inputs[0]
    data = Dataset({x.name: np.random.default_rng(0).normal(size=(32, *x.shape)).astype(np.float32)})
    whole = build(path, data)
    last = [node for node in nodes(build(path, None, "float32")) if node.op_type == "Conv"][-1]
    light, heavy = build(path, data, weights_only=(last.output[0],)), build(path, data, keep=(last.output[0],))
    assert quality(light, path, data) > quality(whole, path, data) + 6
    assert quality(light, path, data) < quality(heavy, path, data) - 6
    assert (light.int8_share, heavy.int8_share < 1) == (1.0, True)
    reads = {node.output[0]: node for node in nodes(light)}
    [made] = [node for node in nodes(light) if node.output[0] == last.output[0]]
    assert made.input[0] not in reads or reads[made.input[0]].op_type != "DequantizeLinear"
    assert reads[made.input[1]].op_type == "DequantizeLinear"


def test_a_layer_of_weights_only_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = graphs.convolutional(tmp_path / "m.onnx")
    x = ONNX.inspect(path).inputs[0]
    with pytest.raises(UsageError, match="no layer is called 'nothing'"):
        build(path, Dataset({x.name: np.zeros((4, *x.shape), np.float32)}), weights_only=("nothing",))


def test_weights_that_two_layers_share_and_transposed_ones_are_told_apart() -> None:
    held = {
        "shared": graphs.weights((4, 4), 1), "rows": graphs.weights((4, 3), 2), "columns": graphs.weights((5, 3), 3),
        "b": np.zeros(3, np.float32), "one": np.zeros(1, np.float32),
    }  # fmt: skip
    made = [
        helper.make_node("MatMul", ["x", "shared"], ["p"], name="p"),
        helper.make_node("MatMul", ["p", "shared"], ["q"], name="q"),
        helper.make_node("Gemm", ["q", "rows", "b"], ["r"], name="r"),
        helper.make_node("Gemm", ["r", "columns", "one"], ["s"], name="s", transB=1),
    ]
    tensors = [numpy_helper.from_array(array, name) for name, array in held.items()]
    x, s = graphs.value("x", [2, 4]), graphs.value("s", [2, 5])
    model = helper.make_model(helper.make_graph(made, "g", [x], [s], tensors))
    found = {layer.name: layer for layer in layers(model)}
    assert [(name, layer.weight.shape, layer.bias) for name, layer in found.items()] == [
        ("r", (3, 4), True), ("s", (5, 3), False),
    ]  # fmt: skip
    ones = {n: Fitted(np.full(f.weight.shape, i, np.float32), None) for i, (n, f) in enumerate(found.items(), 1)}
    assert apply(model, ones, keep={"s"}) == ["r"]
    after = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    assert np.array_equal(after["rows"], np.ones((4, 3)))
    assert np.array_equal(after["columns"], held["columns"])
