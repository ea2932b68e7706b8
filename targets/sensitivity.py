"""What layers are ranked by, for every format: how far the outputs move when a layer alone is quantized.

Each measurement quantizes a model and runs it, so in a model of many layers neighbours are measured together first:
errors nearly add up, so a group that costs little holds no layer that costs much. Only the costliest groups are taken
apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

BROKEN = 1e30  # of answers that are no numbers

SINGLY = 48  # layers that are measured one by one; of more, groups first
GROUPS = 24  # of about equal size
APART = 0.95  # part of the groups' error that is taken apart to layers


def costs(names: Sequence[str], error: Callable[[Sequence[str]], float]) -> list[float]:
    """What quantizing each layer alone costs.

    Args:
        names: of the layers, in the order in which they run.
        error: of the outputs when these layers alone are quantized.

    Returns:
        for each layer its error; of a group that was not taken apart, each has an equal share of the group's.
    """
    if len(names) <= SINGLY:
        return [error([name]) for name in names]
    groups = [list(map(int, part)) for part in np.array_split(np.arange(len(names)), GROUPS)]
    errors = [error([names[i] for i in group]) for group in groups]
    out = [0.0] * len(names)
    told, singles, whole = 0.0, 0, sum(errors)
    for at in sorted(range(GROUPS), key=lambda at: -errors[at]):
        group = groups[at]
        if told < APART * whole and singles < SINGLY:
            for i in group:
                out[i] = error([names[i]])
            singles += len(group)
        else:
            for i in group:
                out[i] = errors[at] / len(group)
        told += errors[at]
    return out


def relative_error(expected: Sequence[NDArray[Any]], given: Sequence[NDArray[Any]]) -> float:
    """The largest over the outputs of ‖y − ŷ‖² / ‖y − mean y‖².

    The mean over the samples is taken off each element: what an output always says would hide what it tells apart.

    Args:
        expected: of the float model, [n, …] an output.
        given: of the quantized one, likewise.

    Returns:
        0 for equal answers; 1 where as much is lost as the samples differ; `BROKEN` for NaN or infinity.
    """
    worst = 0.0
    for wanted, got in zip(expected, given, strict=True):
        exact = wanted.astype(np.float64)
        noise = float(np.square(got - exact).sum())
        if not np.isfinite(noise):
            return BROKEN
        signal = float(np.square(exact - exact.mean(axis=0)).sum()) or float(np.square(exact).sum())
        worst = max(worst, noise / signal if signal else noise)
    return min(worst, BROKEN)
