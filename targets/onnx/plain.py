"""An ONNX file as the engine can run it: nothing changed but an open batch. What variants are compared with."""

from __future__ import annotations

from pathlib import Path

from edgeship.model import ModelFacts
from edgeship.reporter import Reporter
from edgeship.targets import child
from edgeship.targets.base import Recipe, Variant, versions_of
from edgeship.targets.build import Made, make
from edgeship.targets.onnx import shapes
from edgeship.targets.scheme import Scheme

PERFORM = "edgeship.targets.onnx.perform"


def as_is(source: ModelFacts, folder: Path, reporter: Reporter) -> Variant:
    """The source itself as a variant. Raises ConversionError, InputError."""
    request = {
        "path": str(shapes.closed(source, folder).resolve()), "scheme": Scheme(source.precision).encode(),
        "from": source.precision, "prepare": False,
    }  # fmt: skip
    step = {"do": "fix-shapes", "batch": 1}
    taken = (*shapes.steps(source), step)
    recipe = Recipe(source.sha256, "onnx", "onnx", source.precision, taken, None, versions_of({"onnx": "onnx"}))
    return make(
        recipe, source, "model.onnx", lambda work: Made(PERFORM, request, None, work, child.CONVERT), folder, reporter
    )
