"""What quantizing each layer alone costs at the outputs. A step of `child`: it calibrates once and does all layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.errors import ConversionError
from edgeship.targets import feed
from edgeship.targets.scheme import Scheme
from edgeship.targets.sensitivity import costs, relative_error
from edgeship.targets.tflite import calibrate, layers, plan, quantize
from edgeship.targets.tflite.inspect import default_signature
from edgeship.targets.tflite.prepare import ready
from edgeship.targets.tflite.reader import Signature, read
from edgeship.targets.tflite.runnable import runnable

Array = NDArray[Any]


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:  # noqa: ARG001 - the shape of every step
    """Rank the layers of a float TFLite file.

    Args:
        request: "path"; "scheme": how a layer is quantized; "samples": a feed; "measured": samples that errors are
            measured on.
        folder: not used.

    Returns:
        {"layers": [`base.Layer` with its "error"]} in the order of the file.
    """
    data = ready(runnable(Path(request["path"]).read_bytes())[0])
    structure = read(data)
    signature = default_signature(structure)
    scheme = replace(Scheme.parse(request["scheme"]), keep=(), endpoints="float32")
    arrays = feed.read(request["samples"])
    ranges = calibrate.ranges(data, structure, signature, feed.Samples(request["samples"]), scheme)
    few = {name: array[: int(request["measured"])] for name, array in arrays.items()}
    expected = _run(data, signature, few)
    takes = quantize.takes()
    everything = plan.treat(structure, scheme, takes, ranges)
    static = {t.output for t in everything if t.how == scheme.precision}
    found = [layer for layer in layers.describe(structure) if layer.name in static]

    def error(names: Sequence[str]) -> float:
        alone = [t if t.output in names else replace(t, how="float", why="") for t in everything]
        made = quantize.quantize(data, structure, alone, scheme, ranges)
        return relative_error(expected, _run(made, signature, few))

    errors = costs([layer.name for layer in found], error)
    return {"layers": [layer.encode() | {"error": e} for layer, e in zip(found, errors, strict=True)]}


def _run(data: bytes, signature: Signature, arrays: Mapping[str, Array]) -> Sequence[Array]:
    """Outputs in the order of the signature, each float32 [n, …]."""
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_content=data, num_threads=calibrate.THREADS)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise ConversionError(
            f"the interpreter refuses it: {' '.join(str(error).split())[:300]}",
            hint="edgeship model doctor MODEL finds the layer",
        ) from error
    runner = interpreter.get_signature_runner()
    count = min(len(array) for array in arrays.values())
    rows: list[list[Array]] = []
    for sample in range(count):
        interpreter.reset_all_variables()
        answer = runner(**{name: np.ascontiguousarray(array[sample]) for name, array in arrays.items()})
        rows.append([np.array(answer[name], np.float32) for name, _ in signature.outputs])
    return [np.stack(parts) for parts in zip(*rows, strict=True)]
