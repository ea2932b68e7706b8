"""Shapes of inputs that a user chose, for models that leave more than their batch open.

A device's engine binds its buffers once, so every variant has fixed shapes; a text detector that takes pictures of any
size has to be told which. Chosen shapes travel in `ModelFacts.details["shapes"]`, and are part of every recipe.
"""

from __future__ import annotations

import difflib
import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeship.errors import InputError, UsageError
from edgeship.model import ModelFacts, unchanged
from edgeship.targets import cache, child
from edgeship.targets.base import versions_of

MAX_ELEMENTS = 1 << 28  # of one input: 1 GB of float32

#: Format -> (the step that closes a file, what it needs); raised when what a step makes changes.
_STEPS = {
    "onnx": ("edgeship.targets.onnx.shapes", "onnx-shapes/1", {"onnx": "onnx"}),
    "tflite": ("edgeship.targets.tflite.resize", "tflite-shapes/1", {"ai-edge-litert": "tflite"}),
}

Shapes = Mapping[str, Sequence[int]]


def given(source: ModelFacts) -> dict[str, list[int]]:
    """The shapes that the user chose, by input."""
    return {str(name): [int(d) for d in shape] for name, shape in source.details.get("shapes", {}).items()}


def steps(source: ModelFacts) -> tuple[Mapping[str, Any], ...]:
    """What a recipe says of it; nothing where no shape was chosen."""
    return ({"do": "fix-shapes", "shapes": given(source), "by": _STEPS[source.format][1]},) if given(source) else ()


def closed(source: ModelFacts, folder: Path) -> Path:
    """An ONNX or TFLite source with the chosen shapes, kept in `folder`; its own file where none was chosen.

    Raises ConversionError, InputError, UsageError.
    """
    if not (shapes := given(source)):
        return source.path
    step, version, packages = _STEPS[source.format]
    file = f"model.{source.format}"

    def make(place: Path) -> Mapping[str, Any]:
        with unchanged(source), child.workspace() as work:
            request = {"path": str(source.path.resolve()), "shapes": shapes}
            result = child.run(step, request, work, limits=child.CONVERT, subject=str(source.path))
            shutil.copyfile(work / file, place / file)
        return result

    return cache.keep(folder, cache.key_of(version, source.sha256, shapes, versions_of(packages)), make).path(file)


def check_names(shapes: Shapes, known: Iterable[str]) -> None:
    """Raises UsageError for a shape of an input that is not there."""
    names = list(known)
    for name in shapes:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            raise UsageError(
                f"it has no input {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""),
                hint=f"its inputs are {', '.join(names)}",
            )


def fitted(name: str, declared: Sequence[int] | None, shape: Sequence[int]) -> list[int]:
    """The chosen shape of an input.

    Args:
        name: of the input.
        declared: what the model says, below 1 where a dimension is open; None where even the rank is.
        shape: what the user says, with the batch.

    Raises:
        UsageError: it contradicts the model.
        InputError: it is too large.
    """
    wanted = [int(d) for d in shape]
    fits = declared is None or (
        len(declared) == len(wanted) and all(d < 1 or d == w for d, w in zip(declared, wanted, strict=True))
    )
    if not fits or min(wanted, default=1) < 1:
        shown = "any shape" if declared is None else [d if d > 0 else "?" for d in declared]
        raise UsageError(
            f"input {name!r} is {shown}, and cannot be {wanted}",
            hint="edgeship model inspect MODEL shows what the input leaves open",
        )
    if math.prod(wanted) > MAX_ELEMENTS:
        raise InputError(
            f"input {name!r} of {wanted} is over the limit of {MAX_ELEMENTS} elements", hint="smaller ones"
        )
    return wanted


def open_hint(name: str, declared: Sequence[int] | None) -> str:
    """How to say the shape of an input, with a picture's size for its open axes."""
    example = ",".join(str(d if d > 0 else 224 if axis else 1) for axis, d in enumerate(declared or [0, 3, 0, 0]))
    return f"say how large it is in your data, such as --shape {name}={example}; or export the model with fixed shapes"
