"""The step that quantizes a prepared float model; how, its scheme says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeship import wording
from edgeship.errors import ConversionError
from edgeship.targets import rounding
from edgeship.targets.onnx import dynamic, fit, static, weights
from edgeship.targets.onnx import graph as g
from edgeship.targets.onnx.inspect import describe, read
from edgeship.targets.onnx.named import kept
from edgeship.targets.scheme import Scheme


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Make `model.onnx` in `folder` out of the float model at `request["path"]`.

    Args:
        request: "path": as `prepare` makes it; "scheme"; "ranges": path of what `collect` wrote, or null; "fitted":
            folder of what `fit` wrote, where the scheme asks for it.
        folder: gets model.onnx.

    Returns:
        Facts of the result (`inspect.describe`); "kept_share": of the elements of all weight matrices, those of the
        layers that were to stay in float; "decided": what people should know; "measured": shapes of the outputs, as
        `prepare` found them in a run.
    """
    import onnx

    scheme = Scheme.parse(request["scheme"])
    model = read(Path(request["path"]))
    held = kept(model, scheme.keep)
    shapes = [g.shapes(model)[value.name][1] for value in model.graph.output]
    if request.get("fitted"):
        fit.apply(model, rounding.load(Path(request["fitted"])), held)
    if scheme.calibrated:
        found = json.loads(Path(request["ranges"]).read_text(encoding="utf-8"))
        made, decided = static.quantize(model, scheme, found)
    elif scheme.precision == "dynamic":
        made, decided = dynamic.quantize(model, scheme, folder)
    elif scheme.precision == "int8-weights":
        done = weights.shrink(model, per_channel=scheme.per_channel, keep=held)
        made, decided = model, (f"int8 weights of {wording.counted(len(done), 'operator')}, computed in float",)
    else:
        raise ConversionError(f"no way to make {scheme.precision}")
    result = folder / "model.onnx"
    onnx.save(made, str(result))
    facts = describe(read(result), result)
    return {**facts, "kept_share": weights.kept_share(made, held), "decided": list(decided),
            "measured": [] if None in shapes else shapes}  # fmt: skip
