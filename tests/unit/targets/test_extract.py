"""Parts cut out of a model compute what they computed within it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.targets import extract, layers, mend
from edgeship.targets.difference import runner
from tests.simulators import failing_models
from tests.simulators.models import SHAPE, samples, tiny_onnx, tiny_tflite

MAKERS = {"onnx": tiny_onnx, "tflite": tiny_tflite}


def run(path: Path, name: str, tensor: str, data: dict[str, Any]) -> Any:
    found = layers.perform({"format": name, "path": str(path)}, path.parent)["layers"]
    read = next(layer["read"] for layer in found if layer["name"] == tensor)
    side = {"format": name, "path": str(path), "inputs": {key: key for key in data}}
    return runner(side, [read]).run(data, 0)[read]


@pytest.mark.parametrize("name", MAKERS)
def test_a_layer_by_itself_answers_as_in_the_model(tmp_path: Path, name: str) -> None:
    path = MAKERS[name](tmp_path / f"m.{name}", "float32").path
    x = samples(1)[0].reshape(1, *SHAPE)
    logits = run(path, name, "logits", {"image": x})
    wanted = run(path, name, "probabilities", {"image": x})
    request = {
        "format": name, "path": str(path), "layers": ["probabilities"], "inputs": ["logits"],
        "outputs": ["probabilities"], "seen": {"logits": {"dtype": "float32", "shape": [1, 10]}}, "name": "",
    }  # fmt: skip
    made = extract.perform(request, tmp_path)
    assert [node["operator"].lower() for node in made["nodes"]] == ["softmax"]
    part = tmp_path / made["file"]
    assert part.stat().st_size < path.stat().st_size / 2  # the weights of the other layer are gone
    assert np.allclose(run(part, name, "probabilities", {"logits": logits[None]}), wanted, atol=1e-6)
    assert [layer["name"] for layer in layers.perform({"format": name, "path": str(part)}, tmp_path)["layers"]] == [
        "probabilities"
    ]


def test_an_operator_with_branches_takes_along_what_they_read(tmp_path: Path) -> None:
    path, _ = failing_models.branch(tmp_path)
    listed = layers.perform({"format": "onnx", "path": str(path)}, tmp_path)["layers"]
    choice = next(layer for layer in listed if layer["operator"] == "If")
    assert choice["inputs"] == ["condition", "r2"]
    assert choice["weights"] == 2 * 4 * 4 * 4 * 9
    request = {
        "format": "onnx", "path": str(path), "layers": ["chosen"], "inputs": choice["inputs"], "outputs": ["chosen"],
        "seen": {"condition": {"dtype": "bool", "shape": []}, "r2": {"dtype": "float32", "shape": [1, 4, 8, 8]}},
        "name": "",
    }  # fmt: skip
    part = tmp_path / extract.perform(request, tmp_path)["file"]
    data = {"condition": np.array([True]), "r2": np.ones((1, 1, 4, 8, 8), np.float32)}
    assert run(part, "onnx", "chosen", data).shape == (1, 4, 8, 8)


def test_matmul_and_add_become_gemm_and_compute_the_same(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    w, b = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32), np.ones(3, np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"], name="m"), helper.make_node("Add", ["b", "p"], ["y"])]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(w, "w"), numpy_helper.from_array(b, "b")],
    )  # fmt: skip
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    assert mend.perform({"repair": "gemm", "path": str(path), "layer": None}, tmp_path)["changed"]
    listed = layers.perform({"format": "onnx", "path": str(tmp_path / "mended.onnx")}, tmp_path)["layers"]
    assert [layer["operator"] for layer in listed] == ["Gemm"]
    x = np.random.default_rng(1).normal(size=(1, 1, 6)).astype(np.float32)
    assert np.allclose(run(tmp_path / "mended.onnx", "onnx", "y", {"x": x}), x[0] @ w + b, atol=1e-5)
    assert not mend.perform({"repair": "gemm", "path": str(tmp_path / "mended.onnx"), "layer": None}, tmp_path)[
        "changed"
    ]


def test_a_joined_output_is_split(tmp_path: Path) -> None:
    path, data = failing_models.joined_output(tmp_path)
    assert mend.perform({"repair": "split-output", "path": str(path), "layer": None}, tmp_path)["changed"]
    found = layers.perform({"format": "onnx", "path": str(tmp_path / "mended.onnx")}, tmp_path)
    assert found["outputs"] == ["boxes", "scores"]
    whole = run(path, "onnx", "y", data)
    assert np.allclose(run(tmp_path / "mended.onnx", "onnx", "scores", data), whole[:, 4:], atol=1e-6)
