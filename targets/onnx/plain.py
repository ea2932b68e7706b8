"""An ONNX file as the engine can run it: nothing changed but an open batch. What variants are compared with."""

from __future__ import annotations

from pathlib import Path

from edgeship.model import ModelFacts
from edgeship.reporter import Reporter
from edgeship.targets import child, shapes
from edgeship.targets.base import Recipe, Variant, versions_of
from edgeship.targets.build import Made, make

PREPARE = "edgeship.targets.onnx.prepare"
_BY = "onnx-as-is/1"  # raised when what the step makes of a file that it is not to prepare changes


def as_is(source: ModelFacts, folder: Path, reporter: Reporter) -> Variant:
    """The source itself as a variant. Raises ConversionError, InputError."""
    request = {"path": str(shapes.closed(source, folder).resolve()), "from": source.precision, "prepare": False}
    step = {"do": "fix-shapes", "batch": 1, "outputs": "as they run", "by": _BY}
    taken = (*shapes.steps(source), step)
    versions = versions_of({"onnx": "onnx", "onnxruntime": "onnx"})
    recipe = Recipe(source.sha256, "onnx", "onnx", source.precision, taken, None, versions)
    return make(
        recipe, source, "model.onnx", lambda work: Made(PREPARE, request, None, work, child.CONVERT), folder, reporter
    )
