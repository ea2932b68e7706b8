"""Gives a TFLite file the shapes that were chosen for its inputs: all others follow from a run of the interpreter.

A step of `child`; see `edgeship.targets.shapes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.errors import ConversionError
from edgeship.targets.shapes import check_names, fitted
from edgeship.targets.tflite.inspect import default_signature
from edgeship.targets.tflite.prepare import packed
from edgeship.targets.tflite.reader import Structure, Tensor, read
from edgeship.targets.tflite.unpack import unpacked


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Write `model.tflite` in `folder`: the file at `request["path"]` with inputs of `request["shapes"]`."""
    data = Path(request["path"]).read_bytes()
    (folder / "model.tflite").write_bytes(resize(data, request["shapes"]))
    return {}


def declared(tensor: Tensor) -> list[int]:
    """A tensor's shape, −1 where it is open."""
    return [-1 if axis in tensor.open_axes else d for axis, d in enumerate(tensor.shape)]


def resize(data: bytes, shapes: Mapping[str, Any]) -> bytes:
    """The file with other inputs: each named one of its shape, the others with a batch of 1.

    Raises:
        UsageError: an input that is not there, or a shape that contradicts the file.
        ConversionError: the graph cannot take these shapes.
    """
    structure = read(data)
    signature = default_signature(structure)
    if signature.subgraph != 0:
        raise ConversionError(
            "its first signature is not that of the main graph, whose inputs alone can be resized",
            hint="convert the source again with fixed shapes",
        )
    check_names(shapes, [name for name, _ in signature.inputs])
    tensors = structure.subgraphs[0].tensors
    wanted = {
        index: fitted(name, declared(tensors[index]), shapes[name]) if name in shapes
        else [d if d > 0 else 1 for d in declared(tensors[index])]
        for name, index in signature.inputs
    }  # fmt: skip
    found = wanted | _run(data, structure, wanted)
    model = unpacked(data)
    for index, shape in found.items():
        tensor = model.subgraphs[0].tensors[index]
        tensor.shape, tensor.shapeSignature = list(shape), None
    return packed(model, len(data))


def _run(data: bytes, structure: Structure, wanted: Mapping[int, list[int]]) -> dict[int, list[int]]:
    """Tensor that an operator of the main graph writes -> its shape in a run on zeros."""
    from ai_edge_litert import interpreter as litert

    try:
        interpreter = litert.Interpreter(
            model_content=data, experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )  # fmt: skip
        for index, shape in wanted.items():
            interpreter.resize_tensor_input(index, shape)
        interpreter.allocate_tensors()
        for detail in interpreter.get_input_details():
            interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
        interpreter.invoke()
    except (RuntimeError, ValueError) as error:
        raise ConversionError(
            f"its graph cannot take inputs of {list(wanted.values())}: {' '.join(str(error).split())[:400]}",
            hint="try the shapes that it was trained on",
        ) from error
    graph, out = structure.subgraphs[0], dict[int, list[int]]()
    for index in sorted({i for operator in graph.operators for i in operator.outputs}):
        try:
            out[index] = list(interpreter.get_tensor(index).shape)
        except ValueError:  # it was not computed
            continue
    return out
