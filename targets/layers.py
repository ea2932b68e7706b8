"""The step that lists the layers of a model file: what `compare` and `doctor` decide by."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeship.errors import UsageError


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:  # noqa: ARG001 - the shape of every step
    """`trace.layers` of the file at `request["path"]`, which is of `request["format"]`: onnx or tflite."""
    path = Path(request["path"])
    if request["format"] == "onnx":
        from edgeship.targets.onnx import trace as onnx

        return onnx.layers(path)
    if request["format"] == "tflite":
        from edgeship.targets.tflite import trace as tflite

        return tflite.layers(path)
    raise UsageError(f"no way to list the layers of {request['format']!r}")
