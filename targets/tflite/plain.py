"""A TFLite file as the engine can run it: nothing changed but open dimensions. What variants are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeship.model import ModelFacts
from edgeship.reporter import Reporter
from edgeship.targets import child, shapes
from edgeship.targets.base import Recipe, Variant, versions_of
from edgeship.targets.build import Made, make
from edgeship.targets.scheme import Scheme

PERFORM = "edgeship.targets.tflite.perform"
BY = "tflite-runnable/1"  # raised when what makes a file runnable changes: runnable, freeze, loops, unroll, sparse
TOOLS = {"ai-edge-litert": "tflite"}  # what does it


def steps(source: ModelFacts) -> Sequence[Mapping[str, Any]]:
    """What a recipe says of taking the file as it is."""
    whole = [{"do": "write-out", "what": "sparse weights", "by": BY}] if source.details.get("sparse") else []
    return (*shapes.steps(source), *whole, *([{"do": "fix-shapes", "batch": 1, "by": BY}] if _moving(source) else []))


def _moving(source: ModelFacts) -> bool:
    """Whether the file may leave shapes open, work them out while it runs, or keep state."""
    changed = {"SHAPE", "WHILE", "UNIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN"}
    return source.open_shapes or not source.operators.keys().isdisjoint(changed)


def as_is(source: ModelFacts, folder: Path, reporter: Reporter) -> Variant:
    """The source itself as a variant. Raises ConversionError, InputError."""
    scheme = Scheme(source.precision)
    path = shapes.closed(source, folder)
    request = {"path": str(path.resolve()), "scheme": scheme.encode(), "from": source.precision}
    taken = tuple(steps(source))
    recipe = Recipe(
        source.sha256, "tflite", "tflite", source.precision, taken, None, versions_of(TOOLS) if taken else {}
    )  # fmt: skip
    return make(
        recipe, source, "model.tflite", lambda work: Made(PERFORM, request, None, work, child.CONVERT), folder, reporter
    )
