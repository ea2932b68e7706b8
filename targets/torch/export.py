"""How a `.pt2` file is exported, and answers."""

from __future__ import annotations

from edgeship.targets.export import Exporter

EXPORTER = Exporter(
    source="torch",
    perform="edgeship.targets.torch.perform",
    formats=("onnx",),
    packages={"torch": "torch", "onnxscript": "torch", "onnx": "onnx"},
    version=1,
)
