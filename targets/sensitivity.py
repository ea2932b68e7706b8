"""The measure that layers are ranked by, for every format: how far the outputs move when one layer is quantized."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

BROKEN = 1e30  # of answers that are no numbers


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
