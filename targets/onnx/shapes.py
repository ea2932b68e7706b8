"""Closes what an ONNX file leaves open beside its batch, where the user said how large it is. A step of `child`.

A device's engine binds buffers once, so every variant has fixed shapes; a text detector that takes pictures of any size
has to be told which. The weights are not touched.
"""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeship.errors import InputError, UsageError
from edgeship.model import ModelFacts
from edgeship.targets import cache, child
from edgeship.targets.base import versions_of

MAX_ELEMENTS = 1 << 28  # of one input: 1 GB of float32
_STEP, _VERSION = "edgeship.targets.onnx.shapes", "onnx-shapes/1"  # raised when what the step makes changes
_FILE = "model.onnx"

Shapes = Mapping[str, Sequence[int]]


def given(source: ModelFacts) -> dict[str, list[int]]:
    """The shapes that the user chose, by input."""
    return {str(name): [int(d) for d in shape] for name, shape in source.details.get("shapes", {}).items()}


def steps(source: ModelFacts) -> Sequence[Mapping[str, Any]]:
    """What a recipe says of it; nothing where no shape was chosen."""
    return ({"do": "fix-shapes", "shapes": given(source)},) if given(source) else ()


def closed(source: ModelFacts, folder: Path) -> Path:
    """The source with the chosen shapes, kept in `folder`; the source's own file where none was chosen.

    Raises ConversionError, InputError, UsageError.
    """
    if not (shapes := given(source)):
        return source.path

    def make(place: Path) -> Mapping[str, Any]:
        with child.workspace() as work:
            request = {"path": str(source.path.resolve()), "shapes": shapes}
            result = child.run(_STEP, request, work, limits=child.CONVERT, subject=str(source.path))
            shutil.copyfile(work / _FILE, place / _FILE)
        return result

    key = cache.key_of(_VERSION, source.sha256, shapes, versions_of({"onnx": "onnx"}))
    return cache.keep(folder, key, make).path(_FILE)


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Write `model.onnx` in `folder`: the file at `request["path"]` with `request["shapes"]`, its data within."""
    import onnx

    from edgeship.targets.onnx.inspect import read

    path = Path(request["path"])
    model = read(path)
    onnx.load_external_data_for_model(model, str(path.parent))
    put(model, request["shapes"])
    onnx.save(model, str(folder / _FILE))
    return {}


def put(model: Any, shapes: Shapes) -> None:
    """Set the shapes of inputs, in place; forget those of all that comes after.

    Raises:
        UsageError: an input that is not there, another rank, or a dimension that the model fixes otherwise.
    """
    if not shapes:
        return
    held = {tensor.name for tensor in model.graph.initializer}
    inputs = {value.name: value for value in model.graph.input if value.name not in held}
    for name, shape in shapes.items():
        if name not in inputs:
            close = difflib.get_close_matches(name, inputs, n=1)
            raise UsageError(
                f"it has no input {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""),
                hint=f"its inputs are {', '.join(inputs)}",
            )
        _put_one(inputs[name], [int(d) for d in shape])
    del model.graph.value_info[:]
    for value in model.graph.output:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_value < 1:
                dim.Clear()


def _put_one(value: Any, shape: list[int]) -> None:
    kind = value.type.tensor_type
    declared = [max(0, d.dim_value) for d in kind.shape.dim] if kind.HasField("shape") else None
    shown = "any shape" if declared is None else [d or "?" for d in declared]
    fits = declared is None or (
        len(declared) == len(shape) and all(d in (0, s) for d, s in zip(declared, shape, strict=True))
    )
    elements = 1
    for d in shape:
        elements *= d
    if not fits or min(shape, default=1) < 1:
        raise UsageError(f"input {value.name!r} is {shown}, and cannot be {shape}")
    if elements > MAX_ELEMENTS:
        raise InputError(f"input {value.name!r} of {shape} is over the limit of {MAX_ELEMENTS} elements")
    del kind.shape.dim[:]
    for d in shape:
        kind.shape.dim.add().dim_value = d
