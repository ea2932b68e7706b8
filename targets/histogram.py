"""Histograms of bounded size that take any number of values and merge without loss.

The range is [−2ᵉ, 2ᵉ) and a bin's edges are multiples of a power of two, so a range that grows merges whole bins in
pairs: the result is the same whatever the order of the values and however they were split among histograms. Finding a
bin is one multiplication by a power of two, which is exact.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 1 << 14  # 128 kB a tensor; at worst four times finer than 2,048 bins over the true range
_HALF = BINS // 2
_LEAST = -60  # the smallest exponent: values below 2⁻⁶⁰ are zero to a quantizer
_CHUNK = 1 << 17  # values at a time: what they need stays in the processor's cache

Counts = NDArray[np.int64]
Edges = NDArray[Any]


@dataclass
class Histogram:
    """Counts of real values. `low` and `high` are exact: the smallest and the largest value seen.

    Values that are not finite are counted apart (`lost`) and not in the bins.
    """

    exponent: int = _LEAST
    counts: Counts = field(default_factory=lambda: np.zeros(BINS, np.int64))
    low: float = np.inf
    high: float = -np.inf
    lost: int = 0

    @property
    def total(self) -> int:
        """How many values are in the bins."""
        return int(self.counts.sum())

    @property
    def edges(self) -> NDArray[np.float64]:
        """Float64 [BINS + 1], exact."""
        return np.arange(-_HALF, _HALF + 1, dtype=np.float64) * 2.0**self.exponent / _HALF

    def add(self, values: NDArray[Any]) -> None:
        """Count the values of an array of any shape, float32 or float16."""
        flat = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
        for start in range(0, flat.size, _CHUNK):
            self._add(flat[start : start + _CHUNK])

    def _add(self, part: NDArray[np.float32]) -> None:
        low, high = float(part.min()), float(part.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            finite = part[np.isfinite(part)]
            self.lost += part.size - finite.size
            if not finite.size:
                return
            part, low, high = finite, float(finite.min()), float(finite.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.grow(_exponent(max(-low, high)))
        scaled = part * np.float32(2.0 ** (_HALF.bit_length() - 1 - self.exponent))
        index = np.floor(scaled, out=scaled).astype(np.intp)
        index += _HALF
        self.counts += np.bincount(index, minlength=BINS)

    def grow(self, exponent: int) -> None:
        """Widen the range to at least [−2^exponent, 2^exponent) by merging bins in pairs."""
        if exponent > self.exponent and not self.counts.any():
            self.exponent = exponent
        while self.exponent < exponent:
            pairs = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.zeros(BINS, np.int64)
            self.counts[_HALF // 2 : _HALF // 2 + _HALF] = pairs
            self.exponent += 1

    def merge(self, other: Histogram) -> Histogram:
        """A histogram of the values of both."""
        out = Histogram(
            self.exponent, self.counts.copy(), min(self.low, other.low), max(self.high, other.high),
            self.lost + other.lost,
        )  # fmt: skip
        out.grow(other.exponent)
        wide = Histogram(other.exponent, other.counts.copy())
        wide.grow(out.exponent)
        out.counts += wide.counts
        return out

    def magnitudes(self) -> tuple[Counts, NDArray[np.float64]]:
        """The same of absolute values: counts [BINS / 2] and edges [BINS / 2 + 1] from 0."""
        return self.counts[_HALF:] + self.counts[:_HALF][::-1], self.edges[_HALF:]

    def spread(self, bins: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Counts over `bins` equal bins from −max to max of what was seen; a bin that is cut is shared in proportion.

        Returns:
            (float64 [bins], edges float64 [bins + 1]).
        """
        largest = max(-self.low, self.high)
        edges = np.linspace(-largest, largest, bins + 1)
        below = np.concatenate([[0], np.cumsum(self.counts)])
        told = np.interp(edges, self.edges, below)
        told[0], told[-1] = 0, below[-1]  # nothing lies beyond, though the bins at the ends reach further
        return np.diff(told), edges


def _exponent(largest: float) -> int:
    """The smallest e with largest < 2ᵉ; that of 0 is `_LEAST`, so that zeros widen nothing."""
    return max(int(np.frexp(largest)[1]), _LEAST) if largest > 0 else _LEAST
