"""What preparing a float model costs. What it makes, `test_quantize` and `test_breadth` say."""

from __future__ import annotations

from pathlib import Path

from edgeship.targets import child
from tests.simulators import onnx_graphs as graphs


def test_a_model_is_prepared_without_loading_pytorch(tmp_path: Path) -> None:
    path = graphs.convolutional(tmp_path / "m.onnx")
    request = {"path": str(path), "from": "float32", "prepare": True}
    with child.workspace() as work:
        child.run("tests.simulators.loaded_modules", request, work, limits=child.CONVERT, subject="m.onnx")
        loaded = (work / "modules").read_text().split()
        log = (work / "log").read_text()
    assert "onnxsim" in loaded
    assert "torch" not in loaded
    assert "onnxsim:" not in log  # it did simplify
