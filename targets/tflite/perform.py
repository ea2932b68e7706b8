"""The step that makes a TFLite variant: fixed shapes, what a quantizer needs, and quantization with ai-edge-quantizer.

Route, chosen by running both: everything is made from the float `.tflite`, so a TFLite source is served like a Keras
one and no TensorFlow is needed. TFLiteConverter's int8 answers are the same to the last digit, for more time and three
times the memory. What is not as the library does it by default stands in `prepare`, `calibrate`, `plan` and `quantize`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeship.errors import ConversionError
from edgeship.targets import feed, rounding
from edgeship.targets.scheme import Scheme
from edgeship.targets.tflite import calibrate, fit, layers, named, plan, quantize
from edgeship.targets.tflite.half import halve
from edgeship.targets.tflite.inspect import default_signature, describe
from edgeship.targets.tflite.prepare import ready
from edgeship.targets.tflite.reader import read
from edgeship.targets.tflite.runnable import runnable


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Make `model.tflite` in `folder` out of the file at `request["path"]`.

    Args:
        request: "path"; "scheme"; "from": what the file is now; "samples": a feed or null; "fitted": folder of what
            `fit` wrote, where the scheme asks for it.
        folder: gets model.tflite.

    Returns:
        Facts of the result (`inspect.describe`), with "fixed": dimensions that were open; "kept_share": of the elements
        of all weight matrices, those of the layers that were to stay in float; "decided": what people should know.
    """
    data, fixed, decided = runnable(Path(request["path"]).read_bytes())
    scheme = Scheme.parse(request["scheme"])
    kept = 0.0
    if scheme.precision != request["from"]:
        data, kept, remarks = _quantized(ready(data), scheme, request["samples"], request.get("fitted"))
        decided += remarks
    (folder / "model.tflite").write_bytes(data)
    return {**describe(read(data)), "fixed": fixed, "kept_share": kept, "decided": decided}


def _quantized(
    data: bytes, scheme: Scheme, samples: list[Mapping[str, str]] | None, fitted: str | None
) -> tuple[bytes, float, list[str]]:  # fmt: skip
    """(the file, share of the layers kept in float, what people should know)."""
    structure = read(data)
    chosen = named.kept_operators(structure, scheme.keep)
    kept = layers.share(structure, chosen)
    if scheme.precision == "float32":
        return data, kept, []
    if fitted is not None:
        data = fit.apply(data, structure, rounding.load(Path(fitted)), chosen)
        structure = read(data)
    if scheme.precision == "float16":
        data = halve(data, structure, chosen)
        structure = read(data)
    ranges: dict[str, tuple[float, float]] = {}
    if scheme.calibrated:
        signature = default_signature(structure)
        if signature.subgraph != 0:
            raise ConversionError(
                f"its first signature, {signature.key!r}, is not that of the main graph, which alone can be calibrated",
                hint="--precision dynamic, which needs no calibration",
            )
        ranges = calibrate.ranges(data, structure, signature, feed.Samples(samples), scheme)
    treatments = plan.treat(structure, scheme, quantize.takes(), ranges)
    made = quantize.quantize(data, structure, treatments, scheme, ranges)
    return made, kept, plan.remarks(treatments, scheme)
