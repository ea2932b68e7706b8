"""What quantizing each layer alone costs at the outputs. A step of `child`: it calibrates once and does all layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.errors import ConversionError
from edgeship.targets import feed, rounding
from edgeship.targets.scheme import Scheme
from edgeship.targets.sensitivity import costs, relative_error
from edgeship.targets.tflite import calibrate, fit, layers, plan, quantize
from edgeship.targets.tflite.inspect import default_signature
from edgeship.targets.tflite.prepare import ready
from edgeship.targets.tflite.reader import Signature, read
from edgeship.targets.tflite.runnable import runnable

Array = NDArray[Any]


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:  # noqa: ARG001 - the shape of every step
    """Rank the layers of a float TFLite file.

    Args:
        request: "path"; "scheme": how a layer is quantized; "samples": a feed; "measured": samples that errors are
            measured on; "fitted": folder of what `fit` wrote, where the scheme asks for it.
        folder: not used.

    Returns:
        {"layers": [`base.Layer` with its "error" and its "weights_error", of int8 weights that are computed with in
        float]} in the order of the file.
    """
    data = ready(runnable(Path(request["path"]).read_bytes())[0])
    structure = read(data)
    signature = default_signature(structure)
    scheme = replace(Scheme.parse(request["scheme"]), keep=(), weights_only=(), endpoints="float32")
    arrays = feed.read(request["samples"])
    ranges: dict[str, tuple[float, float]] = {}
    if scheme.calibrated:
        ranges = calibrate.ranges(data, structure, signature, feed.Samples(request["samples"]), scheme)
    few = {name: array[: int(request["measured"])] for name, array in arrays.items()}
    expected = _run(data, signature, few)
    takes = quantize.takes()
    everything = plan.treat(structure, scheme, takes, ranges)
    how = {t.output: t.how for t in everything}
    found = [layer for layer in layers.describe(structure) if how[layer.name] == scheme.precision]
    fitted = rounding.load(Path(request["fitted"])) if request.get("fitted") else {}
    places = {t.output: (t.subgraph, t.operator) for t in everything}

    def error(names: Sequence[str], *, weights_only: bool = False) -> float:
        """Of the outputs, where these layers alone are quantized."""
        alone = [t if t.output in names else replace(t, how="float", why="") for t in everything]
        if weights_only:
            alone = [replace(t, how="int8-weights") if t.output in names else t for t in alone]
        others = {place for name, place in places.items() if name not in names}
        start = fit.apply(data, structure, fitted, others) if fitted else data
        given = Scheme("int8-weights", per_channel=scheme.per_channel) if weights_only else scheme
        made = quantize.quantize(start, structure, alone, given, {} if weights_only else ranges)
        return relative_error(expected, _run(made, signature, few))

    weighted = [
        layer.name for layer in found
        if layer.weights and plan.code_of(structure, places[layer.name]) in takes["int8-weights"]
    ]  # fmt: skip
    of_weights = dict(zip(weighted, costs(weighted, lambda names: error(names, weights_only=True)), strict=True))
    whole = of_weights
    if scheme.calibrated:
        names = [layer.name for layer in found]
        whole = dict(zip(names, costs(names, error), strict=True))
    return {
        "layers": [
            layer.encode()
            | {"error": whole[layer.name], "weights_error": of_weights.get(layer.name, whole[layer.name])}
            for layer in found if layer.name in whole
        ]
    }  # fmt: skip


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
