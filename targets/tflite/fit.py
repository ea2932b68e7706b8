"""Fits the weights of a float TFLite file to int8 steps by what their layers read (`targets.rounding`).

A step of `child` of its own: what it finds serves every set of layers that is kept in float.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.errors import ConversionError
from edgeship.targets import feed, rounding
from edgeship.targets.rounding import Fitted, Layer, same
from edgeship.targets.tflite import calibrate
from edgeship.targets.tflite.inspect import default_signature
from edgeship.targets.tflite.named import Place, scope
from edgeship.targets.tflite.prepare import packed, ready
from edgeship.targets.tflite.reader import Operator, Structure, Subgraph, read
from edgeship.targets.tflite.runnable import runnable
from edgeship.targets.tflite.unpack import unpacked
from edgeship.targets.tflite.values import constant

_CONV, _DEPTHWISE, _DENSE = 3, 4, 9  # builtin codes: CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED
_SAME = 0  # Padding

#: From the axes of a kernel in the file to [out, in / groups, height, width], and back.
_AXES = {_CONV: ((0, 3, 1, 2), (0, 2, 3, 1)), _DEPTHWISE: ((3, 0, 1, 2), (1, 2, 3, 0)), _DENSE: ((0, 1), (0, 1))}


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Fit all layers that can be.

    Args:
        request: "path": a float file; "samples": a feed; "levels": as `rounding.Moments` has it.
        folder: gets what `rounding.load` reads; layers go by the tensors that they write (`named.scope`).

    Returns:
        {"layers": how many were}.
    """
    data = ready(runnable(Path(request["path"]).read_bytes())[0])
    found = fitted(data, list(request["samples"]), int(request["levels"]))
    rounding.save(found, folder)
    return {"layers": len(found)}


def fitted(data: bytes, files: Sequence[Mapping[str, str]], levels: int) -> dict[str, Fitted]:
    """Layer -> its weights on the int8 grid. Raises ConversionError."""
    structure = read(data)
    signature = default_signature(structure)
    if signature.subgraph != 0:
        raise ConversionError(
            f"its first signature, {signature.key!r}, is not that of the main graph, to whose data alone weights are "
            "fitted",
            hint="quantize it without fitting",
        )
    graph = structure.subgraphs[0]
    listed = layers(data, structure)
    out: dict[str, Fitted] = {}
    samples = feed.Samples(files)
    most = rounding.positions(len(samples))
    for lot in rounding.in_memory([layer for layer, _ in listed.values()]):
        inside = {layer.name for layer in lot}
        readers: dict[str, list[tuple[rounding.Moments, bool]]] = {}
        moments: dict[str, rounding.Moments] = {}
        for layer, operator in listed.values():
            if layer.name in inside:
                moments[layer.name] = rounding.Moments(layer, most, levels)
                source = graph.tensors[operator.inputs[0]].name
                readers.setdefault(source, []).append((moments[layer.name], layer.weight.ndim > 2))

        def see(name: str, values: NDArray[Any], readers: Any = readers) -> None:
            for kept, places in readers.get(name, ()):
                kept.add(np.moveaxis(values, 3, 1) if places else values)

        calibrate.observe(data, structure, signature, islice(iter(samples), rounding.SAMPLES), see)
        out |= {name: kept.fit() for name, kept in moments.items()}
    return {name: out[name] for name in listed if name in out}


def layers(data: bytes, structure: Structure) -> dict[str, tuple[Layer, Operator]]:
    """Layers of the main graph whose weights are float constants that nothing else reads, by name."""
    model = unpacked(data)
    graph, tensors = structure.subgraphs[0], model.subgraphs[0].tensors
    readers = _readers(structure)
    out: dict[str, tuple[Layer, Operator]] = {}
    for index, operator, code in _operators(structure):
        source, weights = (graph.tensors[operator.inputs[place]] for place in (0, 1))
        if source.constant or source.dtype != "float32" or not weights.constant or weights.dtype != "float32":
            continue
        if readers[weights.buffer] > 1 or sum(d > 1 for d in weights.shape) < 2:
            continue
        values = constant(model, tensors[operator.inputs[1]])
        if len(values.shape) != len(_AXES[code][0]):
            continue
        options = model.subgraphs[0].operators[index].builtinOptions
        spread = {} if code == _DENSE else _spread(options, source.shape, values.shape, code)
        bias = len(operator.inputs) > 2 and operator.inputs[2] >= 0 and _own(graph, operator.inputs[2], readers)
        name = scope(operator, graph)
        out[name] = (Layer(name, values.transpose(_AXES[code][0]), bias=bias, **spread), operator)
    return out


def apply(data: bytes, structure: Structure, found: Mapping[str, Fitted], keep: Collection[Place]) -> bytes:
    """The file with these weights in place of its own, but for the operators `keep`."""
    model = unpacked(data)
    graph, tensors = structure.subgraphs[0], model.subgraphs[0].tensors
    for index, operator, code in _operators(structure):
        item = found.get(scope(operator, graph))
        if item is None or (0, index) in keep:
            continue
        _put(model, tensors[operator.inputs[1]], item.weight.transpose(_AXES[code][1]))
        if item.shift is not None:
            bias = tensors[operator.inputs[2]]
            _put(model, bias, constant(model, bias) + item.shift)
    return packed(model, len(data))


def _operators(structure: Structure) -> Iterator[tuple[int, Operator, int]]:
    for index, operator in enumerate(structure.subgraphs[0].operators):
        code = structure.codes[operator.code][0]
        if code in _AXES:
            yield index, operator, code


def _put(model: Any, tensor: Any, values: NDArray[Any]) -> None:
    raw = np.ascontiguousarray(values, "<f4")
    model.buffers[tensor.buffer].data = np.frombuffer(raw.tobytes(), np.uint8)


def _readers(structure: Structure) -> Counter[int]:
    """Buffer -> how many operators of all graphs read it."""
    return Counter(
        graph.tensors[i].buffer
        for graph in structure.subgraphs for operator in graph.operators for i in {*operator.inputs} if i >= 0
    )  # fmt: skip


def _own(graph: Subgraph, index: int, readers: Counter[int]) -> bool:
    tensor = graph.tensors[index]
    return tensor.constant and tensor.dtype == "float32" and readers[tensor.buffer] == 1


def _spread(options: Any, read_shape: Sequence[int], kernel: Sequence[int], code: int) -> dict[str, Any]:
    """How a kernel lies over its input [batch, height, width, channels], as `rounding.Layer` has it."""
    strides = (int(options.strideH), int(options.strideW))
    dilations = (int(options.dilationHFactor), int(options.dilationWFactor))
    pads = tuple(
        same(size, k, s, d) if options.padding == _SAME else (0, 0)
        for size, k, s, d in zip(read_shape[1:3], kernel[1:3], strides, dilations, strict=True)
    )
    groups = read_shape[3] if code == _DEPTHWISE else read_shape[3] // kernel[3]
    return {"groups": int(groups), "strides": strides, "dilations": dilations, "pads": pads}
