"""What arrays must be: inputs as the model takes them, labels, targets, slices and groups of one row a sample.

`where` in every function is how an error calls the array: file and name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.dataset.samples import Array, dtype_of
from edgeship.errors import InputError
from edgeship.runtime.manifest import TensorSpec
from edgeship.runtime.wire import TEXT, TEXT_BYTES

#: Parts of the data that one column may make; more is most likely a column of identifiers.
MAX_SLICES = 64

MAX_TEXTS = 8 << 30  # bytes of an array of text in memory
_AS_TEXT = "save texts as numpy.asarray(…, dtype=str)"
_CHUNK = 1 << 20  # numbers that are looked at at a time
_PREPARE = "prepare the samples as in training: the model's input, one sample a row"


def conform(where: str, array: Array, spec: TensorSpec) -> Array:
    """`array` as [n, *spec.shape] in the kind of number that the input takes, or as text.

    Args:
        where: for errors.
        array: [n, *shape] or [n, *shape without a leading batch axis of 1], any real numbers, or texts.
        spec: the input.

    Raises:
        InputError: text for numbers or numbers for text, another shape, fractions for an integer input, out of range,
            NaN or infinite, a text that is too long.
    """
    check_dtype(where, array.dtype, spec)
    check_shape(where, array.shape, spec)
    if spec.dtype == TEXT:
        return _texts(where, array.reshape(len(array), *spec.shape))
    if array.dtype.kind == "f":
        _finite(where, array)
    array = array.reshape(len(array), *spec.shape)
    if spec.scale and array.dtype == dtype_of(spec):  # given in the model's own integers: back to real values
        return ((array.astype(np.float64) - spec.zero_point) * spec.scale).astype(np.float32)
    if spec.scale or spec.dtype.startswith("float"):
        return _float32(where, array)
    target = dtype_of(spec)
    if array.dtype.kind == "f" and not np.array_equal(array, np.rint(array)):
        raise InputError(f"{where}: the input takes {spec.dtype}, got {array.dtype} with fractions", hint=_PREPARE)
    low, high = (0, 1) if target.kind == "b" else (np.iinfo(target).min, np.iinfo(target).max)
    if array.size and (array.min() < low or array.max() > high):
        raise InputError(f"{where}: values {array.min()} to {array.max()} do not fit {spec.dtype}", hint=_PREPARE)
    return array.astype(target)


def check_dtype(where: str, dtype: np.dtype[Any], spec: TensorSpec) -> None:
    """Raise InputError unless values of this type are what the input takes: real numbers, or text."""
    if spec.dtype != TEXT:
        check_numbers(where, dtype)
    elif dtype.kind not in "SU":
        raise InputError(f"{where} is of type {dtype}, the input {spec.name!r} takes text", hint=_AS_TEXT)


def _texts(where: str, array: Array) -> Array:
    """UTF-8 of a fixed length.

    Raises InputError for a text that is longer, for a zero, behind which all would be lost, and for too many texts.
    """
    if (size := array.size * TEXT_BYTES) > MAX_TEXTS:
        raise InputError(
            f"{where}: {array.size:,} texts take {size:,} bytes, over the limit of {MAX_TEXTS:,}",
            hint="fewer samples: 200 to 1,000 do",
        )
    encoded = array if array.dtype.kind == "S" else np.char.encode(array, "utf-8")
    lengths = np.char.str_len(encoded.reshape(-1))
    longest = int(lengths.max(initial=0))
    if longest > TEXT_BYTES:
        raise InputError(f"{where}: a text of {longest} bytes is over the limit of {TEXT_BYTES}", hint="cut it")
    out = encoded.astype(f"S{TEXT_BYTES}")
    if np.count_nonzero(out.reshape(-1).view(np.uint8)) != int(lengths.sum()):
        raise InputError(f"{where}: a text holds a zero byte", hint="cut it there")
    return out


def check_numbers(where: str, dtype: np.dtype[Any]) -> None:
    """Raise InputError unless values of this type are real numbers."""
    if dtype.kind in "SU":
        raise InputError(
            f"{where} holds text, numbers are wanted",
            hint="turn the text into the numbers that this input takes, as in training",
        )
    if dtype.kind not in "fiub":
        raise InputError(f"{where} is of type {dtype}, numbers are wanted", hint=_PREPARE)


def check_shape(where: str, got: tuple[int, ...], spec: TensorSpec) -> None:
    """Raise InputError unless samples of an array of shape `got` fit the input; the array itself is not wanted."""
    sample = sample_shape(spec)
    if got[1:] not in (spec.shape, sample) or not got:
        expected = " or ".join(dict.fromkeys(_shape(s) for s in (sample, spec.shape)))
        raise InputError(f"{where}: expected shape {expected}, got {list(got)}", hint=_layout(got, sample) or _PREPARE)


def sample_shape(spec: TensorSpec) -> tuple[int, ...]:
    """The shape of one sample: the input's, without a leading batch axis of 1."""
    return spec.shape[1:] if spec.shape and spec.shape[0] == 1 else spec.shape


def as_labels(where: str, labels: Array, count: int) -> NDArray[np.int32]:
    """Class indices, int32 [count]. Raises InputError."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (count,):
        raise InputError(
            f"{where}: expected shape [{count}], got {list(labels.shape)}",
            hint="class indices, not one-hot: labels.argmax(axis=1)" if labels.ndim == 2 else "one label a sample",
        )
    if labels.dtype.kind not in "iuf" or not np.array_equal(labels, np.rint(labels)):
        raise InputError(
            f"{where}: class indices (integers) are wanted, got {labels.dtype}",
            hint="an index a sample, from 0, in the order of the model's output",
        )
    if labels.min() < 0 or labels.max() > np.iinfo(np.int32).max:
        raise InputError(
            f"{where}: class indices must be 0 or more, got {labels.min()} to {labels.max()}",
            hint="an index a sample, from 0, in the order of the model's output",
        )
    return labels.astype(np.int32)


def as_targets(where: str, targets: Array, count: int) -> NDArray[np.float32]:
    """What the model should answer, float32 [count, …]. Raises InputError."""
    check_numbers(where, targets.dtype)
    if targets.ndim == 0 or len(targets) != count:
        raise InputError(
            f"{where}: expected one row a sample, [{count}, …], got {list(targets.shape)}",
            hint="targets has one row for each sample, in their order",
        )
    return _float32(where, targets)


def as_groups(where: str, groups: Array, count: int) -> NDArray[np.int32]:
    """Which samples belong together, numbered from 0 in order of appearance, int32 [count]. Raises InputError."""
    _, first, number = np.unique(_column(where, groups, count), return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))  # numbers by appearance, so that renaming a group changes nothing
    return order[number].astype(np.int32)


def as_slices(where: str, name: str, column: Array, count: int) -> dict[str, NDArray[np.bool_]]:
    """Parts of the data out of one column.

    Args:
        where: for errors.
        name: of the part, or of the grouping; "" names a grouping's parts by their values alone.
        column: bool [count]: the part itself; text or integers [count]: one part a value, called `name=value`.
        count: number of samples.

    Raises:
        InputError: another shape or dtype, a part without a sample, more than `MAX_SLICES` values.
    """
    column = _column(where, column, count)
    if column.dtype.kind == "b" and name:
        if not column.any():
            raise InputError(f"{where}: no sample is in the slice {name!r}", hint="leave it out, or mark its samples")
        return {name: column}
    values = np.unique(column)
    if len(values) > MAX_SLICES:
        raise InputError(
            f"{where}: {len(values)} different values are over the limit of {MAX_SLICES} slices",
            hint="a slice is a part large enough to be judged alone: night, camera 3, accent; not an identifier",
        )
    return {f"{name}={value}" if name else str(value): column == value for value in values}


def _column(where: str, column: Array, count: int) -> Array:
    if column.ndim == 2 and column.shape[1] == 1:
        column = column[:, 0]
    if column.shape != (count,):
        raise InputError(f"{where}: expected shape [{count}], got {list(column.shape)}", hint="one value a sample")
    if column.dtype.kind not in "biuSU":
        raise InputError(
            f"{where}: booleans, integers or text are wanted, got {column.dtype}",
            hint="True and False for one slice, or a text for each sample",
        )
    if column.dtype.kind == "S":
        column = np.char.decode(column, "utf-8", "replace")
    return column


def _float32(where: str, array: Array) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused as that
        real = array.astype(np.float32, copy=False)
    _finite(where, real)
    return real


def _finite(where: str, array: Array) -> None:
    flat = array.reshape(-1)
    if not all(np.isfinite(flat[start : start + _CHUNK]).all() for start in range(0, flat.size, _CHUNK)):
        bad = ~np.isfinite(array)
        first = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), array.shape))
        raise InputError(
            f"{where}: {int(bad.sum())} values are NaN or infinite or too large for float32, "
            f"the first at {list(first)}",
            hint=_PREPARE,
        )


def _layout(shape: tuple[int, ...], sample: tuple[int, ...]) -> str | None:
    """A hint where only the order of the axes, or a channel axis, is wrong."""
    got = shape[1:]
    if len(got) > 1 and sorted(got) == sorted(sample):
        return "the axes are in another order: numpy.transpose (channels last or channels first)"
    if math.prod(got) == math.prod(sample) and len(shape) > 1:
        return f"reshape the samples: array.reshape(-1, {', '.join(map(str, sample))})"
    return None


def _shape(sample: Sequence[int]) -> str:
    return f"[n, {', '.join(map(str, sample))}]" if sample else "[n]"
