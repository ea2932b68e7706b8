"""Fits the weights of a prepared float model to int8 steps by what their layers read (`targets.rounding`).

A step of `child` of its own: what it finds serves every set of layers that is kept in float.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.targets import feed, rounding
from edgeship.targets.onnx import graph as g
from edgeship.targets.onnx.collect import ending_at
from edgeship.targets.onnx.inspect import read
from edgeship.targets.onnx.weights import channel_axis
from edgeship.targets.rounding import Fitted, Layer, same


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Fit all layers that can be.

    Args:
        request: "path": a float model as `prepare` makes it; "samples": a feed; "levels": as `rounding.Moments` has it.
        folder: gets what `rounding.load` reads; layers go by the names of their nodes.

    Returns:
        {"layers": how many were}.
    """
    model = read(Path(request["path"]))
    found = fitted(model, list(request["samples"]), int(request["levels"]))
    rounding.save(found, folder)
    return {"layers": len(found)}


def fitted(model: Any, files: Sequence[Mapping[str, str]], levels: int) -> dict[str, Fitted]:
    """Node -> its weights on the int8 grid."""
    listed = layers(model)
    sources = {node.name: node.input[0] for node in model.graph.node}
    out: dict[str, Fitted] = {}
    samples = feed.Samples(files)
    most = rounding.positions(len(samples))
    for lot in rounding.in_memory(listed):
        moments = {layer.name: rounding.Moments(layer, most, levels) for layer in lot}
        wanted = list(dict.fromkeys(sources[layer.name] for layer in lot))
        for values in _runs(model, wanted, samples):
            for layer in lot:
                moments[layer.name].add(values[sources[layer.name]])
        out |= {name: kept.fit() for name, kept in moments.items()}
    return {layer.name: out[layer.name] for layer in listed if layer.name in out}


def layers(model: Any) -> list[Layer]:
    """Layers of the main graph whose weights are constants that nothing else reads."""
    from onnx import numpy_helper

    graph = model.graph
    held = {tensor.name: tensor for tensor in graph.initializer}
    shapes = g.shapes(model)
    readers = Counter(name for node in graph.node for name in g.reads(node))
    outputs = {value.name for value in graph.output}
    out: list[Layer] = []
    for node in graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul") or node.input[1] not in held or node.input[0] in held:
            continue
        tensor = held[node.input[1]]
        if tensor.data_type != g.FLOAT or readers[tensor.name] > 1 or sum(d > 1 for d in tensor.dims) < 2:
            continue
        settings = _settings(node)
        values = numpy_helper.to_array(tensor)
        if node.op_type == "Conv":
            spread = _spread(settings, values.shape, shapes.get(node.input[0], (0, None))[1])
            if spread is None:
                continue
        elif values.ndim != 2 or settings.get("transA", 0):
            continue
        else:
            values, spread = (values if channel_axis(node, 1, 2) == 0 else values.T), {}
        name = node.input[2] if len(node.input) > 2 else ""
        plain = all(float(settings.get(factor, 1.0)) == 1.0 for factor in ("alpha", "beta"))
        bias = (
            name in held and held[name].data_type == g.FLOAT and [*held[name].dims] == [len(values)]
            and readers[name] == 1 and name not in outputs and plain
        )  # fmt: skip
        out.append(Layer(node.name, values, bias=bias, **spread))
    return out


def apply(model: Any, found: Mapping[str, Fitted], keep: Collection[str] = ()) -> list[str]:
    """Put the weights in the place of the model's, in place, but for the nodes `keep`. Returns the nodes changed."""
    from onnx import numpy_helper

    held = {tensor.name: tensor for tensor in model.graph.initializer}
    done: list[str] = []
    for node in model.graph.node:
        item = found.get(node.name)
        if item is None or node.name in keep:
            continue
        turned = node.op_type != "Conv" and channel_axis(node, 1, 2) == 1
        values = np.ascontiguousarray(item.weight.T if turned else item.weight)
        held[node.input[1]].CopyFrom(numpy_helper.from_array(values, node.input[1]))
        if item.shift is not None:
            bias = numpy_helper.to_array(held[node.input[2]]) + item.shift
            held[node.input[2]].CopyFrom(numpy_helper.from_array(bias.astype(np.float32), node.input[2]))
        done.append(node.name)
    return done


def _settings(node: Any) -> dict[str, Any]:
    from onnx import helper

    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _spread(
    settings: Mapping[str, Any], shape: Sequence[int], read_shape: Sequence[int] | None
) -> dict[str, Any] | None:
    """How a Conv's kernel lies over its input, as `rounding.Layer` has it; None where that is not known."""
    kernel = shape[2:]
    ones = [1] * len(kernel)
    strides, dilations = tuple(settings.get("strides", ones)), tuple(settings.get("dilations", ones))
    auto = settings.get("auto_pad", b"NOTSET").decode()
    pads: Iterable[tuple[int, int]]
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        if read_shape is None:
            return None
        pads = [
            same(size, k, s, d, upper=auto == "SAME_UPPER")
            for size, k, s, d in zip(read_shape[2:], kernel, strides, dilations, strict=True)
        ]
    elif auto == "VALID":
        pads = [(0, 0) for _ in kernel]
    else:
        flat = settings.get("pads", [0] * 2 * len(kernel))
        pads = zip(flat[: len(kernel)], flat[len(kernel) :], strict=True)
    return {"groups": int(settings.get("group", 1)), "strides": strides, "dilations": dilations, "pads": tuple(pads)}


def _runs(
    model: Any, names: Sequence[str], samples: Iterable[Mapping[str, NDArray[Any]]]
) -> Iterable[dict[str, NDArray[Any]]]:  # fmt: skip
    """Values of the tensors in each sample."""
    import onnxruntime

    given = {value.name for value in g.inputs(model.graph)}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    computed = [name for name in names if name not in given]
    session = None
    if computed:
        part = ending_at(model, computed)
        session = onnxruntime.InferenceSession(part.SerializeToString(), options, providers=["CPUExecutionProvider"])
        wanted = [value.name for value in session.get_inputs()]
    for at, sample in enumerate(samples):
        if at == rounding.SAMPLES:
            break
        values = {name: sample[name] for name in names if name in given}
        if session is not None:
            answers = session.run(None, {name: sample[name] for name in wanted})
            values |= dict(zip(computed, answers, strict=True))
        yield values
