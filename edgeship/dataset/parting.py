"""Parts data into samples to calibrate with and samples to judge by, where a user has one set only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeship.dataset.samples import Dataset
from edgeship.errors import InputError

#: Fewer samples than this cannot be parted: an evaluation of one sample says nothing.
MIN_SAMPLES = 10


def split(data: Dataset, fraction: float = 0.2, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Hold some samples out.

    Every class is parted alike, and no sample is in both parts. Samples of one group stay together: two windows of one
    recording, one in each part, would make a model look better than it is.

    Args:
        data: at least `MIN_SAMPLES` samples.
        fraction: of the samples that is held out, more than 0 and less than 1.
        seed: the same seed parts the same data alike.

    Returns:
        (calibration, evaluation), each in the order of the data.

    Raises:
        InputError: too few samples, or groups that leave one part empty.
        ValueError: `fraction` is not between 0 and 1.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"a fraction between 0 and 1 is wanted, got {fraction}")
    if len(data) < MIN_SAMPLES:
        raise InputError(
            f"too few samples to hold {fraction:.0%} of them out: {len(data)}",
            hint=f"give evaluation data of its own, or at least {MIN_SAMPLES} samples; 200 to 1,000 are usual",
        )
    groups = np.arange(len(data)) if data.groups is None else data.groups
    _, first, group_of = np.unique(groups, return_index=True, return_inverse=True)
    classes = np.zeros(len(first), np.int64) if data.labels is None else data.labels[first]
    held = stratified(classes, np.bincount(group_of), fraction, np.random.default_rng(seed))[group_of]
    if held.all() or not held.any():
        raise InputError(
            f"{len(data)} samples in {len(first)} groups cannot be parted: samples of one group stay together",
            hint="give evaluation data of its own, or samples of more recordings",
        )
    return data.select(np.flatnonzero(~held)), data.select(np.flatnonzero(held))


def stratified(
    classes: NDArray[np.int64] | NDArray[np.int32], sizes: NDArray[np.intp], fraction: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Which groups are drawn: of each class about `fraction` of its samples, of all classes together too.

    What rounding leaves over in one class is carried to the next, so that many small classes do not add up to nothing.
    No class is drawn whole where it has two groups or more.

    Args:
        classes: class of each group, [g].
        sizes: samples of each group, [g].
        fraction: more than 0 and less than 1.
        rng: decides which.

    Returns:
        bool [g].
    """
    held = np.zeros(len(classes), np.bool_)
    owed = 0.0
    for label in np.unique(classes):
        members = rng.permutation(np.flatnonzero(classes == label))
        owed += fraction * float(sizes[members].sum())
        for index, group in enumerate(members):
            last = index == len(members) - 1
            if owed < sizes[group] / 2 or (last and index > 0 and held[members[:-1]].all()):
                continue
            held[group] = True
            owed -= float(sizes[group])
    return held
