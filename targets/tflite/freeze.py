"""Computes now what a graph works out of the shapes of its tensors, which are fixed.

Converters write SHAPE, slice and pack the numbers, and RESHAPE by them. An engine that binds its memory once refuses
such files: shapes must be known before they run. With a batch of 1 all these numbers are constants.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.errors import ConversionError
from edgeship.targets.tflite.prepare import packed
from edgeship.targets.tflite.reader import Structure, read
from edgeship.targets.tflite.unpack import unpacked

Array = NDArray[Any]

_SHAPE = 77  # builtin code of the schema
_WHOLE = ("int32", "int64", "bool")  # dtypes of shape arithmetic
_NOT_PURE = (32, 117, 118, 119, 144, 142)  # custom, call, if, while, read and assign of a variable
MAX_ELEMENTS = 1 << 16  # of a folded constant: shapes are short


def freeze(data: bytes) -> bytes:
    """The file without shape arithmetic and with the shapes that a run gave; as it is where it has no SHAPE.

    Args:
        data: a file whose inputs have fixed shapes.

    Raises:
        ConversionError: the interpreter cannot run it.
    """
    structure = read(data)
    places = _shape_arithmetic(structure)
    if not places:
        return data
    first, second = (_run(data, structure, seed) for seed in (0, 1))
    graph = structure.subgraphs[0]
    schema: Any = importlib.import_module("ai_edge_litert.schema_py_generated")
    model = unpacked(data)
    gone: set[int] = set()
    for place in places:
        outputs = graph.operators[place].outputs
        if any(i not in first or i not in second or not np.array_equal(first[i], second[i]) for i in outputs):
            continue  # it depends on the values of the inputs
        if any(i in graph.outputs for i in outputs):
            continue
        for index in outputs:
            tensor, buffer = model.subgraphs[0].tensors[index], schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(first[index]).tobytes(), np.uint8)
            tensor.buffer = len(model.buffers)
            model.buffers.append(buffer)
        gone.add(place)
    written = {i for operator in graph.operators for i in operator.outputs}
    for index in written & first.keys() & second.keys():
        if first[index].shape == second[index].shape:
            tensor = model.subgraphs[0].tensors[index]
            tensor.shape, tensor.shapeSignature = list(first[index].shape), None
    operators = model.subgraphs[0].operators
    model.subgraphs[0].operators = [operator for place, operator in enumerate(operators) if place not in gone]
    return packed(model, len(data))


def _shape_arithmetic(structure: Structure) -> list[int]:
    """Operators of the main graph that compute whole numbers of shapes and constants alone."""
    graph = structure.subgraphs[0]
    known = {i for i, tensor in enumerate(graph.tensors) if tensor.constant}
    out: list[int] = []
    for place, operator in enumerate(graph.operators):
        code = structure.codes[operator.code][0]
        pure = code == _SHAPE or (code not in _NOT_PURE and all(i in known or i < 0 for i in operator.inputs))
        small = all(
            graph.tensors[i].dtype in _WHOLE and graph.tensors[i].elements <= MAX_ELEMENTS for i in operator.outputs
        )
        if pure and small and (code == _SHAPE or out):
            out.append(place)
            known.update(operator.outputs)
    return out


def _run(data: bytes, structure: Structure, seed: int) -> dict[int, Array]:
    """Tensor of the main graph -> its values in a run on zeros (seed 0) or on drawn numbers."""
    from ai_edge_litert import interpreter as litert

    try:
        interpreter = litert.Interpreter(
            model_content=data, experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )  # fmt: skip
        interpreter.allocate_tensors()
        rng = np.random.default_rng(seed)
        for detail in interpreter.get_input_details():
            drawn = rng.random(detail["shape"]) * seed
            interpreter.set_tensor(detail["index"], drawn.astype(detail["dtype"]))
        interpreter.invoke()
        return dict(_values(interpreter, len(structure.subgraphs[0].tensors)))
    except (RuntimeError, ValueError) as error:
        raise ConversionError(
            f"the interpreter cannot run it: {' '.join(str(error).split())[:400]}",
            hint="edgeship model doctor MODEL finds the layer",
        ) from error


def _values(interpreter: Any, count: int) -> Iterator[tuple[int, Array]]:
    for index in range(count):
        try:
            yield index, interpreter.get_tensor(index)
        except ValueError:  # it was not computed
            continue
