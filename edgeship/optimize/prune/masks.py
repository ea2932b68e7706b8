"""Masks: which weights of a kernel stay, by their size; shapes are unchanged."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]


def by_magnitude(kernels: Mapping[str, Array], share: float) -> dict[str, Mask]:
    """The largest weights of all kernels together stay.

    Each kernel is measured in its own root mean square, so that a layer with small weights is not emptied (a layer-wise
    normalization; see Lee et al., Layer-adaptive Sparsity for the Magnitude-based Pruning, ICLR 2021, for why a global
    threshold needs one).

    Args:
        kernels: name -> weights.
        share: of all weights that become zero, 0 to 1.
    """
    scaled = {name: np.abs(w) / max(float(np.sqrt(np.mean(np.square(w)))), 1e-12) for name, w in kernels.items()}
    everything = np.concatenate([values.ravel() for values in scaled.values()])
    count = round(share * everything.size)
    if count == 0:
        return {name: np.ones(w.shape, np.bool_) for name, w in kernels.items()}
    threshold = np.partition(everything, count - 1)[count - 1]
    return {name: values > threshold for name, values in scaled.items()}


def two_of_four(kernel: Array) -> Mask:
    """Of every four weights in a row that are summed up for one output, the two largest stay.

    Args:
        kernel: [..., inputs, outputs]; the rows run along inputs, whose number must be a multiple of 4 (`fits`).

    The pattern is that of NVIDIA's sparse tensor cores: Mishra et al., Accelerating Sparse Deep Neural Networks, 2021.
    """
    inputs, outputs = kernel.shape[-2:]
    rows = np.abs(kernel).reshape(*kernel.shape[:-2], inputs // 4, 4, outputs)
    order = np.argsort(np.argsort(-rows, axis=-2, kind="stable"), axis=-2, kind="stable")
    return (order < 2).reshape(kernel.shape)


def fits(shape: tuple[int, ...]) -> bool:
    """Whether a kernel of this shape can be 2:4."""
    return len(shape) >= 2 and shape[-2] % 4 == 0


def schedule(done: float, final: float) -> float:
    """The share of zeros after this part of the way, 0 to 1: it rises fast, then slowly.

    Zhu and Gupta, To prune, or not to prune, 2017: s = s_f (1 − (1 − t)³).
    """
    return float(final * (1 - (1 - min(1.0, max(0.0, done))) ** 3))
