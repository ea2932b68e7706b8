"""What quantizing each layer alone costs at the outputs. A step of `child`: it calibrates once and does all layers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.errors import ConversionError
from edgeship.targets import feed, rounding
from edgeship.targets.base import Layer
from edgeship.targets.onnx import collect, fit, static, weights
from edgeship.targets.onnx import graph as g
from edgeship.targets.onnx.inspect import read
from edgeship.targets.onnx.named import COMPUTING, kept, source_name
from edgeship.targets.scheme import Scheme
from edgeship.targets.sensitivity import costs, relative_error


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Rank the layers of a float model, as `prepare` makes it.

    Args:
        request: "path"; "scheme": how a layer is quantized; "samples": a feed; "measured": samples that errors are
            measured on; "fitted": folder of what `fit` wrote, where the scheme asks for it.
        folder: for what the tools write.

    Returns:
        {"layers": [`base.Layer` with its "error" and its "weights_error", of int8 weights that are computed with in
        float]} in the order of the graph.
    """
    model = read(Path(request["path"]))
    scheme = replace(Scheme.parse(request["scheme"]), keep=(), weights_only=(), endpoints="default")
    samples = feed.Samples(request["samples"])
    found: dict[str, Any] = {}
    if scheme.calibrated:
        found = collect.calibrate(
            model, samples, collect.tensors(model), scheme.ranges, symmetric=scheme.symmetric, levels=1 << 8, passes=1,
            folder=folder,
        )  # fmt: skip
    fitted = rounding.load(Path(request["fitted"])) if request.get("fitted") else {}
    few = list(islice(iter(samples), int(request["measured"])))
    expected = _run(model, few)
    writers = [node.output[0] for node in model.graph.node if node.output and node.output[0]]
    listed = layers(model)

    def copy(names: Sequence[str]) -> tuple[Any, tuple[str, ...]]:
        """(the model with fitted weights in these layers, all others)."""
        copied = type(model)()
        copied.CopyFrom(model)
        others = tuple(name for name in writers if name not in names)
        fit.apply(copied, fitted, kept(copied, others))
        return copied, others

    def error(names: Sequence[str]) -> float:
        copied, others = copy(names)
        made, _ = static.quantize(copied, replace(scheme, keep=others), found)
        return relative_error(expected, _run(made, few))

    def weights_error(names: Sequence[str]) -> float:
        copied, others = copy(names)
        weights.shrink(copied, per_channel=scheme.per_channel, keep=kept(copied, others))
        return relative_error(expected, _run(copied, few))

    weighted = [layer.name for layer in listed if layer.weights]
    of_weights = dict(zip(weighted, costs(weighted, weights_error), strict=True))
    if scheme.calibrated:
        whole = dict(zip((x.name for x in listed), costs([x.name for x in listed], error), strict=True))
    else:
        whole, listed = of_weights, [layer for layer in listed if layer.weights]
    return {
        "layers": [
            layer.encode() | {"error": whole[layer.name], "weights_error": of_weights.get(layer.name, 0.0)}
            for layer in listed
        ]
    }


def layers(model: Any) -> list[Layer]:
    """Operators of the main graph that hold weights or compute, and that a quantizer takes; `name` is for `keep`."""
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    shapes, taken = g.shapes(model), {*QDQRegistry, *QLinearOpsRegistry}  # what `static` has quantized
    held = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer if len(tensor.dims) > 1}
    out: list[Layer] = []
    for node in model.graph.node:
        count = sum(held.get(node.input[i], 0) for i in g.WEIGHTS.get(node.op_type, ()) if i < len(node.input))
        if node.op_type not in taken or not (count or node.op_type in COMPUTING):
            continue
        kind, shape = shapes.get(node.output[0], (0, None))
        if kind == g.FLOAT:
            name = source_name(node.name or node.output[0])
            out.append(Layer(node.output[0], node.op_type, count, tuple(shape or ()), name))
    return out


def _run(model: Any, samples: Sequence[Mapping[str, NDArray[Any]]]) -> list[NDArray[Any]]:
    """Outputs, each float32 [n, …]. On x86 int8 sums must not saturate, as `runtime.onnxrt` sets it on devices."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        raw = model.SerializeToString()
        try:
            session = onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
        except Exception:  # noqa: BLE001 - with that setting some graphs load without optimization only
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            session = onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ConversionError(
            f"ONNX Runtime refuses it: {' '.join(str(error).split())[:300]}",
            hint="edgeship model doctor MODEL finds the layer",
        ) from error
    wanted = [value.name for value in session.get_inputs()]
    rows = [session.run(None, {name: sample[name] for name in wanted}) for sample in samples]
    return [np.stack([np.asarray(part, np.float32) for part in parts]) for parts in zip(*rows, strict=True)]
