"""The step that writes a model with one known repair; ONNX only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeship.targets.onnx import extract


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """`onnx.extract.mend` of the file at `request["path"]` into mended.onnx."""
    return extract.mend(Path(request["path"]), request, folder / "mended.onnx")
