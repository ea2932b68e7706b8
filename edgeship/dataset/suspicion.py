"""What is odd about data: calibration samples of another scale than the evaluation's, one class only, samples in both.

An int8 model that was calibrated on 0…255 and is asked with 0…1 answers nonsense with every check of shapes passed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import numpy as np

from edgeship import wording
from edgeship.dataset.samples import Array, Dataset
from edgeship.errors import InputError

#: Ratio of typical magnitudes above which two sets cannot be of one preparation. 0…255 against 0…1 is 255, against −1…1
#: 128 to 255; sets of one preparation that differ by chance stay below 3 from a few samples on.
REFUSED, ODD = 16.0, 4.0
FEW = 50  # samples

#: Layers of Keras that bring pictures to the scale that a model wants.
_SCALING = frozenset({"Rescaling", "Normalization"})

_VALUES = 1_000_000  # that a quantile looks at, of each array


def check_scale(calibration: Dataset, evaluation: Dataset) -> None:
    """Raise InputError where a float input has another scale in one than in the other."""
    for name in calibration.inputs:
        if _ratio(name, calibration, evaluation) > REFUSED:
            raise InputError(
                _ranges(name, calibration, evaluation), hint="prepare both in the same way, as in training"
            )


def doubts(calibration: Dataset, evaluation: Dataset) -> tuple[str, ...]:
    """What a person should know of two sets that belong together, one sentence each."""
    return (
        *(
            f"{_ranges(name, calibration, evaluation)}: were they prepared in the same way?"
            for name in calibration.inputs
            if _ratio(name, calibration, evaluation) > ODD or _signs_differ(name, calibration, evaluation)
        ),
        *_alone("calibration", calibration),
        *_alone("evaluation", evaluation),
        *_shared(calibration, evaluation),
    )


def doubts_alone(calibration: Dataset, operators: Collection[str] = ()) -> tuple[str, ...]:
    """What a person should know of samples that are compared with no others, one sentence each.

    Args:
        calibration: the samples.
        operators: of the model, in its own words.
    """
    scales_itself = not _SCALING.isdisjoint(operators)
    return (
        *(
            f"input {name!r}: calibration data is whole numbers from {_range(array)}, as a file has them: is that what "
            "the model was trained on, or 0 to 1, or -1 to 1?"
            for name, array in calibration.inputs.items()
            if not scales_itself and _as_in_a_file(array)
        ),
        *_alone("calibration", calibration),
    )


def _as_in_a_file(array: Array) -> bool:
    """Whether a float input was given the bytes of pictures: whole numbers, none negative, many above 15, of 8 bits."""
    if array.dtype.kind != "f" or array.ndim < 4:
        return False
    some = _some(array)
    return bool(some.min() >= 0 and 128 <= some.max() <= 255 and (some > 15).mean() > 0.05 and (some % 1 == 0).all())


def _ranges(name: str, calibration: Dataset, evaluation: Dataset) -> str:
    one, other = calibration.inputs[name], evaluation.inputs[name]
    return f"input {name!r}: calibration data is {_range(one)}, evaluation data {_range(other)}"


def _ratio(name: str, calibration: Dataset, evaluation: Dataset) -> float:
    """Of the typical magnitudes of a float input, the larger to the smaller; 1 for integers."""
    one, other = calibration.inputs[name], evaluation.inputs[name]
    if one.dtype.kind != "f":
        return 1.0
    small, large = sorted([_magnitude(one), _magnitude(other)])
    return 1.0 if large == 0 else np.inf if small == 0 else large / small


def _signs_differ(name: str, calibration: Dataset, evaluation: Dataset) -> bool:
    """Whether negative values of a float input are common in one and rare in the other."""
    if calibration.inputs[name].dtype.kind != "f":
        return False
    one, other = (bool((_some(data.inputs[name]) < 0).mean() > 0.05) for data in (calibration, evaluation))
    return one != other


def _alone(role: str, data: Dataset) -> list[str]:
    out = []
    if len(data) < FEW:
        out.append(f"{role} data has {wording.counted(len(data), 'sample')} only: 200 to 1,000 are usual")
    if data.labels is not None and len(data) > 1 and len(classes := np.unique(data.labels)) == 1:
        out.append(f"all {len(data)} samples of the {role} data are of class {classes[0]}")
    return out


def _shared(calibration: Dataset, evaluation: Dataset) -> list[str]:
    """Samples that a model was calibrated with say less about it."""
    known = set(_digests(calibration))
    count = sum(digest in known for digest in _digests(evaluation))
    return [f"{count} of {len(evaluation)} evaluation samples are in the calibration data too"] if count else []


def _digests(data: Dataset) -> list[bytes]:
    out = []
    for index in range(len(data)):
        hasher = hashlib.sha256()
        for name, array in data.inputs.items():
            hasher.update(f"{name}\0{array.dtype.str}".encode())
            hasher.update(array[index].tobytes())
        out.append(hasher.digest())
    return out


def _some(array: Array) -> Array:
    """Evenly drawn values, at most `_VALUES`."""
    flat = array.reshape(-1)
    return flat[:: max(1, flat.size // _VALUES)]


def _magnitude(array: Array) -> float:
    """The 99th percentile of |value|: one outlier does not decide."""
    return float(np.quantile(np.abs(_some(array)), 0.99))


def _range(array: Array) -> str:
    return f"{array.min():.4g} to {array.max():.4g}"
