"""Inputs and outputs of a static int8 model as int8: what casts them at the edge of the graph is taken out.

ONNX says nowhere what scale an input has, so scales and zero points go into the model's metadata, where the engine
reads them (`runtime.onnxrt.QUANTIZED`).
"""

from __future__ import annotations

import json
from typing import Any

from edgeship.runtime.onnxrt import QUANTIZED
from edgeship.targets.onnx import graph as g

_INT8 = 3  # TensorProto.INT8
_MOVING = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity")


def narrow(model: Any) -> list[str]:
    """Make the inputs and outputs of a QDQ model int8, in place, where the graph quantizes them.

    Returns:
        Float inputs and outputs that stay as they are, because something reads or writes their real values.
    """
    found: dict[str, tuple[float, int]] = {}
    left: list[str] = []
    for value in g.inputs(model.graph):
        if value.type.tensor_type.elem_type == g.FLOAT:
            _narrow_input(model, value, found, left)
    for value in model.graph.output:
        if value.type.tensor_type.elem_type == g.FLOAT:
            _narrow_output(model, value, found, left)
    if found:
        entry = model.metadata_props.add()
        entry.key, entry.value = QUANTIZED, json.dumps(found, sort_keys=True)
    return left


def _narrow_input(model: Any, value: Any, found: dict[str, tuple[float, int]], left: list[str]) -> None:
    moved, between = value.name, list[str]()  # operators that change no value: exporters turn channels-last inputs
    while True:
        readers = g.consumers(model.graph).get(moved, [])
        if len(readers) != 1 or moved in {output.name for output in model.graph.output}:
            left.append(f"input {value.name!r}")
            return
        if readers[0].op_type == "QuantizeLinear":
            break
        if readers[0].op_type not in _MOVING or readers[0].input[0] != moved:
            left.append(f"input {value.name!r}")
            return
        between.append(moved := str(readers[0].output[0]))
    cast = readers[0]
    found[value.name] = _scale(model, cast)
    model.graph.node.remove(cast)
    for node in model.graph.node:
        _replace(node.input, str(cast.output[0]), moved)
    for each in model.graph.value_info:
        if each.name in between:
            each.type.tensor_type.elem_type = _INT8
    value.type.tensor_type.elem_type = _INT8


def _narrow_output(model: Any, value: Any, found: dict[str, tuple[float, int]], left: list[str]) -> None:
    cast = g.producers(model.graph).get(value.name)
    inputs = {each.name for each in model.graph.input}
    if cast is None or cast.op_type != "DequantizeLinear" or cast.input[0] in inputs:
        left.append(f"output {value.name!r}")
        return
    found[value.name] = _scale(model, cast)
    integers = str(cast.input[0])
    if g.consumers(model.graph).get(value.name):
        real = f"{value.name}_real"
        for node in model.graph.node:
            _replace(node.input, value.name, real)
        cast.output[0] = real
    else:
        model.graph.node.remove(cast)
    _rename(model, integers, value.name)
    value.type.tensor_type.elem_type = _INT8


def _scale(model: Any, cast: Any) -> tuple[float, int]:
    from onnx import numpy_helper

    held = {tensor.name: tensor for tensor in model.graph.initializer}
    scale, zero = (numpy_helper.to_array(held[name]) for name in cast.input[1:3])
    return float(scale.reshape(())), int(zero.reshape(()))


def _rename(model: Any, old: str, new: str) -> None:
    for node in model.graph.node:
        _replace(node.input, old, new)
        _replace(node.output, old, new)


def _replace(names: Any, old: str, new: str) -> None:
    for place, name in enumerate(names):
        if name == old:
            names[place] = new
