"""The step that cuts a part out of a model file: what the doctor tries, and saves for a bug report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Write part.onnx or part.tflite.

    Args:
        request: "format", "path", and what `onnx.extract.cut` takes.
        folder: gets the file.

    Returns:
        {"file", "nodes": [{"name", "operator", "node", "attributes"}]}.
    """
    path, result = Path(request["path"]), folder / f"part.{request['format']}"
    if request["format"] == "onnx":
        from edgeship.targets.onnx import extract as onnx

        return {"file": result.name, **onnx.cut(path, request, result)}
    from edgeship.targets.tflite import extract as tflite

    return {"file": result.name, **tflite.cut(path, request, result)}
