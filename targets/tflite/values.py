"""Real values of the constants of a TFLite file: plain, float16, quantized, sparse."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.errors import ConversionError

Array = NDArray[Any]

#: TensorType -> dtype
_NUMBERS = {0: "<f4", 1: "<f2", 3: "u1", 7: "<i2", 9: "i1"}
_DENSE = 0  # DimensionType


def constant(model: Any, tensor: Any) -> Array:
    """Values of a constant as float32: q -> (q - zero point) * scale, one scale or one for each slice of an axis.

    Args:
        model: ModelT of the generated schema.
        tensor: one of its TensorT, with a buffer.

    Raises:
        ConversionError: it is stored in a way that is not known.
    """
    values = written_out(model, tensor)
    parameters = tensor.quantization
    if parameters is None or parameters.scale is None or not len(parameters.scale):
        return values.astype(np.float32)
    scale = np.asarray(parameters.scale, np.float64)
    zero = np.zeros(1) if parameters.zeroPoint is None else np.asarray(parameters.zeroPoint, np.float64)
    if len(scale) > 1:
        along = [1] * values.ndim
        along[parameters.quantizedDimension] = len(scale)
        scale, zero = scale.reshape(along), (zero.reshape(along) if len(zero) > 1 else zero)
    out: Array = ((values.astype(np.float64) - zero) * scale).astype(np.float32)
    return out


def written_out(model: Any, tensor: Any) -> Array:
    """Values of a constant as they are stored, with those that a sparse one leaves out.

    Args and errors as of `constant`. What is left out stands for 0, which is the zero point of a quantized tensor.
    """
    name = tensor.name.decode("utf-8", "replace")
    if tensor.type not in _NUMBERS:
        raise ConversionError(
            f"the weights {name!r} are stored as type {tensor.type}, which is not known",
            hint="convert the source again without compressed weights",
        )
    raw = np.frombuffer(bytes(model.buffers[tensor.buffer].data), _NUMBERS[tensor.type])
    shape = [int(d) for d in tensor.shape] if tensor.shape is not None else []
    if tensor.sparsity is None:
        return raw.reshape(shape)
    zeros = None if tensor.quantization is None else tensor.quantization.zeroPoint
    empty = int(zeros[0]) if zeros is not None and len(zeros) else 0
    return _dense(tensor.sparsity, raw, shape, name, empty)


def _dense(sparsity: Any, raw: Array, shape: list[int], name: str, empty: int) -> Array:
    """A sparse tensor with what it leaves out, which is `empty`.

    The format (SparsityParameters of the schema): dimensions in `traversalOrder`, first those of the tensor, each
    divided by its block, then those of a block; each stored densely or as compressed rows (segments and indices).
    """
    metadata, order = list(sparsity.dimMetadata), [int(d) for d in sparsity.traversalOrder]
    blocked = [] if sparsity.blockMap is None else [int(d) for d in sparsity.blockMap]
    if len(order) != len(shape) + len(blocked) or len(metadata) != len(order):
        raise ConversionError(
            f"the sparse weights {name!r} are not described soundly",
            hint="the file is damaged: convert the source again",
        )
    sizes = [0] * len(order)
    for level, dimension in enumerate(order):
        if metadata[level].format == _DENSE:
            sizes[dimension] = int(metadata[level].denseSize)
    block = {axis: sizes[len(shape) + i] for i, axis in enumerate(blocked)}
    places, coordinates = np.zeros(1, np.int64), np.zeros((1, len(order)), np.int64)
    for level, dimension in enumerate(order):
        item = metadata[level]
        if item.format == _DENSE:
            size = int(item.denseSize)
            within = np.tile(np.arange(size), len(places))
            coordinates = np.repeat(coordinates, size, axis=0)
            places = np.repeat(places, size) * size + within
        else:
            segments = np.asarray(item.arraySegments.values, np.int64)
            indices = np.asarray(item.arrayIndices.values, np.int64)
            if places.max(initial=-1) + 1 >= len(segments) or segments.max(initial=0) > len(indices):
                raise ConversionError(
                    f"the sparse weights {name!r} point beyond what they hold",
                    hint="the file is damaged: convert the source again",
                )
            counts = segments[places + 1] - segments[places]
            starts = np.repeat(segments[places], counts)
            offset = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
            coordinates = np.repeat(coordinates, counts, axis=0)
            places = starts + offset
            within = indices[places]
        coordinates[:, dimension] = within
    if len(places) > len(raw):
        raise ConversionError(
            f"the sparse weights {name!r} lack values", hint="the file is damaged: convert the source again"
        )
    full = coordinates[:, : len(shape)].copy()
    for i, axis in enumerate(blocked):
        full[:, axis] = full[:, axis] * block[axis] + coordinates[:, len(shape) + i]
    if (full >= np.asarray(shape)).any() or (full < 0).any():
        raise ConversionError(
            f"the sparse weights {name!r} reach beyond their shape",
            hint="the file is damaged: convert the source again",
        )
    out = np.full(shape, empty, raw.dtype)
    out[tuple(full.T)] = raw[places]
    return out
