"""Weights that are stored in fewer bytes than they are computed with: without their zeros, or as float16.

Quantizers look at neither: they leave them as they are and say nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from edgeship.errors import InputError

_FLOAT, _HALF = 1, 10  # TensorProto.DataType
_EXTERNAL = 1  # TensorProto.DataLocation


def whole(graphs: Iterable[Any], limit: int) -> None:
    """Replace sparse initializers by dense ones, in place; those whose values lie in another file stay.

    Args:
        graphs: a model's graphs.
        limit: bytes that they may take in all.

    Raises:
        InputError: one is not described soundly, or they are too large.
    """
    from onnx import numpy_helper

    taken = 0
    for graph in graphs:
        kept = []
        for sparse in graph.sparse_initializer:
            if _EXTERNAL in (sparse.values.data_location, sparse.indices.data_location):
                kept.append(type(sparse).FromString(sparse.SerializeToString()))
                continue
            name, shape = sparse.values.name, [int(d) for d in sparse.dims]
            try:
                values, places = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
                taken += math.prod(shape) * values.itemsize
                if min(shape, default=1) < 1 or taken >= limit:
                    raise ValueError(f"its shape is {shape}")
                if places.ndim == 2:
                    places = np.ravel_multi_index(tuple(places.T), shape)
                full = np.zeros(math.prod(shape), values.dtype)
                if places.min(initial=0) < 0:
                    raise ValueError("a place below 0")
                full[places] = values
            except Exception as error:
                raise InputError(
                    f"its sparse weights {name!r} are not described soundly: {' '.join(str(error).split())[:200]}",
                    hint="the file is damaged: export it again",
                ) from error
            graph.initializer.append(numpy_helper.from_array(full.reshape(shape), name))
        del graph.sparse_initializer[:]
        graph.sparse_initializer.extend(kept)


def half_is_storage(model: Any, graphs: Iterable[Any]) -> bool:
    """Whether float16 is only how weights are stored: each is cast to float32 before anything computes with it."""
    if any(v.type.tensor_type.elem_type == _HALF for v in (*model.graph.input, *model.graph.output)):
        return False
    half: set[str] = set()
    nodes: list[Any] = []
    for graph in graphs:
        half |= {tensor.name for tensor in graph.initializer if tensor.data_type == _HALF}
        for node in graph.node:
            held = [a.t for a in node.attribute if a.name == "value" and node.op_type == "Constant"]
            if any(tensor.data_type == _HALF for tensor in held):
                half |= set(node.output)
            else:
                nodes.append(node)
    for node in nodes:
        if node.op_type == "Cast":
            if any(a.name == "to" and a.i == _HALF for a in node.attribute):
                return False
            if half & set(node.input) and not any(a.name == "to" and a.i == _FLOAT for a in node.attribute):
                return False
        elif half & set(node.input):
            return False
    return bool(half)
