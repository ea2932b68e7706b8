"""When two models answer a sample alike. Pure rules, by what kind of answer an output is.

| an answer | is alike when |
|---|---|
| one score for each of several classes | the same class is highest |
| shares of classes at each of several places (the steps of a text, the pixels of a scene), each 1 in all | the same class is highest at every place |
| `MANY` numbers and more (a map, a spectrogram) | the error has at most `SAME` of the energy by which answers differ from sample to sample: 13 dB |
| whole numbers without a scale (classes of letters, a count) | each is the same |
| the state that goes in again at the next call | as for `MANY` numbers, however few it has |
| one share of 0 … 1 | it is within `SAME` of the range that the source's have, or within two int8 steps of 0 … 1 |
| other numbers | each is within `SAME` of the range that the source's numbers have in its column |

Columns, and the few parts of large answers, are judged in ranges of their own: one scale for boxes and scores together
must not hide the scores. Of a large answer no single number decides: at the edge of a letter a pixel is as often off as
on, and one of 100,000 always is.
"""  # noqa: E501 - a table

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.optimize.drops import BoolArray, Double
from edgeship.runtime.manifest import TensorSpec

SAME = 0.05
MANY = 1000  # numbers of an answer of which no single one decides
FEW_PARTS = 128  # an axis longer than that counts places, not kinds of values

_STEPS = 2 / 256  # of a share: what int8 can tell of 0 … 1, twice
_WHOLE = 1e-3  # how far the shares of a place may be from 1 in all
_FLAT = 1e-6  # a part whose energy is below this share of the largest is no signal

FloatArray = NDArray[np.float32]


def is_scores(spec: TensorSpec) -> bool:
    """Whether an output is one score for each of several classes: [1, C] or [C]."""
    return spec.count >= 2 and spec.count == spec.shape[-1]


def states(outputs: Sequence[TensorSpec], inputs: Mapping[str, NDArray[Any]]) -> frozenset[int]:
    """Places of the outputs that are the next value of an input: of its shape, where not all of them are.

    Args:
        outputs: what they are.
        inputs: name -> array [n, …].
    """
    shapes = {array.shape[1:] for array in inputs.values() if array.dtype.kind == "f"}
    found = {index for index, spec in enumerate(outputs) if spec.count > 1 and spec.shape in shapes}
    return frozenset(found if len(found) < len(outputs) else ())


def agreeing(
    expected: Sequence[FloatArray], given: Sequence[FloatArray], outputs: Sequence[TensorSpec],
    carried: Collection[int] = (),
) -> BoolArray:  # fmt: skip
    """Whether source and variant answer alike in every output, bool [n].

    Args:
        expected: the source's answers, one array [n, *shape] an output.
        given: the variant's, likewise; an answer with NaN or infinity is like none.
        outputs: what they are.
        carried: places of those that are state (`states`).
    """
    alike: BoolArray = np.ones(len(expected[0]), dtype=np.bool_)
    for index, (wanted, got, spec) in enumerate(zip(expected, given, outputs, strict=True)):
        alike &= np.isfinite(got.reshape(len(got), -1)).all(axis=1)
        if index in carried:
            alike &= _as_a_whole(wanted, got.reshape(wanted.shape))
        elif np.dtype(spec.dtype).kind in "iu" and not spec.scale:
            alike &= (wanted.reshape(len(wanted), -1) == got.reshape(len(got), -1)).all(axis=1)
        elif is_scores(spec):
            alike &= _same_place(wanted.reshape(len(wanted), 1, -1), got.reshape(len(got), 1, -1))
        elif wanted.ndim > 2 and are_shares(wanted):
            alike &= _same_place(wanted, got.reshape(wanted.shape))
        elif spec.count >= MANY:
            alike &= _as_a_whole(wanted, got.reshape(wanted.shape))
        else:
            alike &= _number_by_number(wanted, got)
    return alike


def are_shares(wanted: FloatArray) -> bool:
    """Whether the last axis of answers [n, …] holds shares of classes: none below 0, 1 in all."""
    if wanted.ndim < 2 or wanted.shape[-1] < 2 or not float(wanted.min()) >= -_WHOLE:
        return False
    return bool((np.abs(wanted.sum(axis=-1, dtype=np.float64) - 1) < _WHOLE).all())


def _same_place(wanted: FloatArray, got: FloatArray) -> BoolArray:
    same = wanted.argmax(axis=-1) == got.argmax(axis=-1)
    return np.asarray(same.reshape(len(same), -1).all(axis=1), dtype=np.bool_)


def _number_by_number(wanted: FloatArray, got: FloatArray) -> BoolArray:
    columns = wanted.reshape(len(wanted), -1, wanted.shape[-1] if wanted.ndim > 1 else 1)
    width = columns.max(axis=(0, 1)) - columns.min(axis=(0, 1))
    least = _STEPS / SAME if columns[0].size == 1 and columns.min() >= 0 and columns.max() <= 1 else 1e-6
    far = np.abs(got.reshape(columns.shape) - columns) > SAME * np.maximum(width, least)
    return np.asarray(~far.any(axis=(1, 2)), dtype=np.bool_)


def _as_a_whole(wanted: FloatArray, got: FloatArray) -> BoolArray:
    """By energy: Σ(w − g)² ≤ SAME · Σ(w − mean of the samples)², of this sample or of the usual one if that is more."""
    axis = _kinds(wanted)
    mean = wanted.mean(axis=0, dtype=np.float64) if len(wanted) > 1 else np.zeros(wanted.shape[1:])
    error, signal = np.empty((2, len(wanted), wanted.shape[axis] if axis else 1))
    for index in range(len(wanted)):  # one sample at a time: answers may be large
        exact = np.asarray(wanted[index], np.float64)
        error[index] = _energy(exact - got[index], axis)
        signal[index] = _energy(exact - mean, axis)
    usual = signal.mean(axis=0)
    if not usual.any():  # every sample is answered alike
        usual = _energy(mean, axis)
    told = np.maximum(signal, usual)
    heard = usual > _FLAT * max(float(usual.max()), 1e-300)
    if not heard.any():
        return np.asarray(~error.any(axis=1), dtype=np.bool_)
    lost = np.minimum(error[:, heard] / told[:, heard], 1.0).mean(axis=1)
    return np.asarray(lost <= SAME, dtype=np.bool_)


def _kinds(wanted: FloatArray) -> int:
    """The axis of an answer, counted with that of the samples, that tells kinds of values apart; 0: none does."""
    if float(wanted.min()) >= -_WHOLE and float(wanted.max()) <= 1 + _WHOLE:
        return 0  # shares: all of one kind
    sizes = [(size, axis) for axis, size in enumerate(wanted.shape) if axis and 1 < size <= FEW_PARTS]
    return min(sizes)[1] if sizes else 0


def _energy(values: Double, axis: int) -> Double:
    """Of each part of one sample's answer along an axis, counted with that of the samples; of all of it for 0."""
    squares = np.square(values)
    if not axis:
        return np.asarray([squares.sum()])
    out: Double = squares.sum(axis=tuple(i for i in range(squares.ndim) if i != axis - 1))
    return out
