"""What candidates start from: one float model a format and a pruning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgeship.model import ModelFacts
from edgeship.optimize.search import begin
from tests.simulators.searched import candidate


def facts(precision: str = "float32") -> ModelFacts:
    data = {
        "format": "tflite", "precision": precision, "inputs": [], "outputs": [], "operators": {}, "parameters": 1,
        "int8_share": 0.0, "open_shapes": False, "companions": [], "notes": [], "details": {}, "sha256": "ab" * 32,
        "bytes": 1,
    }  # fmt: skip
    return ModelFacts.parse(Path("m.tflite"), data)


def test_candidates_of_a_format_start_from_one_float_model() -> None:
    tflite = [candidate("tflite int8"), candidate("tflite int8 mse"), candidate("tflite float16")]
    onnx = [candidate("onnx int8")]
    pruned = [replace(tflite[0], pruned=2.0)]
    groups = begin.groups([*tflite, *onnx, *pruned], facts())
    assert [group.start.name for group in groups] == ["tflite float32", "onnx float32", "pruned 2 × tflite float32"]
    assert [group.members for group in groups] == [tuple(tflite), tuple(onnx), tuple(pruned)]


def test_a_source_that_only_goes_as_it_is_starts_from_itself() -> None:
    [group] = begin.groups([candidate("tflite float16")], facts("float16"))
    assert group.start.scheme.precision == "float16"
    [group] = begin.groups([candidate("tflite float16"), candidate("tflite int8")], facts("float16"))
    assert group.start.scheme.precision == "float32", "int8 is made from the unpacked model"
