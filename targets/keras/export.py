"""How a `.keras` file is exported, and answers."""

from __future__ import annotations

from edgeship.targets.export import Exporter

EXPORTER = Exporter(
    source="keras",
    perform="edgeship.targets.keras.perform",
    formats=("tflite", "onnx"),
    packages={"tensorflow-cpu|tensorflow": "tflite", "keras": "tflite", "tf2onnx": "tflite"},
    version=5,
)
