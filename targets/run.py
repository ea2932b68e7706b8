"""The step that runs a model over samples in the engine that devices use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.errors import ConversionError
from edgeship.runtime import engine
from edgeship.runtime.errors import EngineError
from edgeship.targets import child, feed
from edgeship.targets.base import dequantize_output, quantize_input

#: How ONNX Runtime 1.31 and LiteRT 2.3 say that they do not know an operator.
_UNKNOWN = re.compile(r"not a registered function/op|[Uu]nresolved custom op|unknown op|No Op registered for")


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Load a model, run it on zeros, then over the samples.

    Args:
        request: "format", "path", "library", "threads", "samples": a feed or null.
        folder: gets answer<j>.npy, float32 [n, *output.shape].

    Returns:
        {"inputs", "outputs": specs of the engine, "notes"}.
    """
    try:
        with child.Deadline(folder, child.LOAD):
            model = engine.load(request["format"], request["library"], request["path"], threads=int(request["threads"]))
        try:
            deadline = child.Deadline(folder, child.ANSWER)
            with deadline:
                model.run(*(bytes(spec.nbytes) for spec in model.inputs))
            if request["samples"] is not None:
                _answer(model, feed.read(request["samples"]), folder, deadline)
            return {
                "inputs": [spec.encode() for spec in model.inputs],
                "outputs": [spec.encode() for spec in model.outputs],
                "notes": list(model.notes),
            }
        finally:
            model.close()
    except EngineError as error:
        said = str(error).replace(str(request["path"]), Path(request["path"]).name)  # it may lie in a temporary folder
        raise ConversionError(f"the engine refuses the model: {said}", hint=_hint(said)) from error


def _hint(said: str) -> str:
    """What to do about a refusal of a runtime library, in the words that it has for it."""
    if _UNKNOWN.search(said):
        return (
            "the runtime library has no such operator: write it with operators of the standard set, or another "
            "--format; edgeship model doctor MODEL finds the layer"
        )
    return "try another precision or format; shapes that come about while it runs cannot be served"


def _answer(
    model: engine.Model, data: Mapping[str, feed.Array], folder: Path, deadline: child.Deadline
) -> None:  # fmt: skip
    """The first sample is repeated at the end: a model that keeps something of a run answers otherwise then."""
    missing = [spec.name for spec in model.inputs if spec.name not in data]
    if missing:
        raise ConversionError(
            f"the samples lack {', '.join(missing)}; they have {', '.join(data)}",
            hint="an array for each input, named like it: edgeship model inspect MODEL shows the names",
        )
    arrays = [data[spec.name] for spec in model.inputs]
    count = len(arrays[0])
    out = [np.empty((count, *spec.shape), dtype=np.float32) for spec in model.outputs]

    def one(index: int) -> list[feed.Array]:
        given = [quantize_input(array[index], spec) for array, spec in zip(arrays, model.inputs, strict=True)]
        with deadline:
            answers = model.run(*given)
        return [dequantize_output(raw, spec) for raw, spec in zip(answers, model.outputs, strict=True)]

    for index in range(count):
        for array, values in zip(out, one(index), strict=True):
            array[index] = values
    for array, again, spec in zip(out, one(0), model.outputs, strict=True):
        if not np.allclose(array[0], again, rtol=1e-3, atol=spec.scale or 1e-4, equal_nan=True):
            raise ConversionError(
                "it answers the same sample differently after others: it keeps state from one run to the next",
                hint="a stateful model cannot be served request by request: reset its state inside the model",
            )
    for number, array in enumerate(out):
        np.save(folder / f"answer{number}.npy", array, allow_pickle=False)
