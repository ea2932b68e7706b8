"""What the report says of layers that stay in float."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

from edgeship.optimize.search import report
from edgeship.optimize.search.run import Found
from edgeship.optimize.search.sensitivity import Cost
from edgeship.targets.base import Layer
from tests.simulators.searched import candidate


def test_layers_are_those_of_the_candidates_own_format() -> None:
    """Both formats may call a tensor `logits`; only one of them calls its layer Gemm."""

    def cost(name: str, operator: str) -> Cost:
        return Cost(Layer(name, operator, 10, (1, 10), f"head/{name}"), 0.5)

    costs = {
        "onnx int8": (cost("logits", "Gemm"),), "pruned 2 × tflite int8": (cost("logits", "CONV_2D"),),
        "tflite int8": (cost("logits", "FULLY_CONNECTED"),), "onnx int8 mse": (cost("scores", "MatMul"),),
    }  # fmt: skip
    found = cast("Found", SimpleNamespace(costs=costs))
    mixed = candidate("tflite int8 mse", keep=("logits", "scores"))
    assert report.kept_layers(found, mixed) == ["head/logits (FULLY_CONNECTED)", "scores"]
    assert report.kept_layers(found, replace(mixed, pruned=2.0))[0] == "head/logits (CONV_2D)"
    assert report.kept_layers(found, replace(mixed, format="onnx")) == ["head/logits (Gemm)", "head/scores (MatMul)"]
