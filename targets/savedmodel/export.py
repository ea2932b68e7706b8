"""How a SavedModel is exported, and answers: one signature of it."""

from __future__ import annotations

from edgeship.targets.export import Exporter

EXPORTER = Exporter(
    source="savedmodel",
    perform="edgeship.targets.savedmodel.perform",
    formats=("tflite", "onnx"),
    packages={"tensorflow-cpu|tensorflow": "tflite", "tf2onnx": "tflite"},
    version=2,
)
