"""From a histogram of an activation to the range that it is quantized over.

Pure functions of counts and edges; a range always lies within what was seen. Where ONNX Runtime has the same choice,
`percentile` gives the same number from the same histogram. Its `entropy` is not the published one in three places
(counts are cut to integers, bins that are empty get some all the same, the last bins are forgotten), and with its own
128 bins it has one candidate only: the whole range.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.targets.histogram import Histogram

PERCENT = 99.999
AVERAGING = 0.01  # weight of a new sample in the moving average
BINS = 2048  # of a histogram that a threshold is looked for in
QUANTIZED_BINS = 128  # what entropy compares against: Migacz, 8-bit inference with TensorRT, GTC 2017

Counts = NDArray[Any]
Edges = NDArray[Any]
Range = tuple[float, float]


def symmetric(low: float, high: float) -> Range:
    """The range with the same largest magnitude, centred at 0."""
    largest = max(-low, high)
    return -largest, largest


def average(old: Range | None, new: Range) -> Range:
    """The moving average of the extents of single samples; the first one starts it."""
    if old is None:
        return new
    return old[0] + AVERAGING * (new[0] - old[0]), old[1] + AVERAGING * (new[1] - old[1])


def chosen(choice: str, counts: Counts, edges: Edges, seen: Range, symmetric: bool, levels: int) -> Range:
    """The range that a choice of `scheme.RANGES` makes of a histogram; for symmetric percentiles that of magnitudes."""
    if choice == "percentile":
        return (percentile_of_magnitudes if symmetric else percentile)(counts, edges, seen)
    if choice == "entropy":
        return entropy(counts, edges, seen)
    return squared_error(counts, edges, seen, levels, centred=symmetric)


def of_histogram(choice: str, histogram: Histogram, symmetric: bool, levels: int) -> Range:
    """The same of a histogram that grew."""
    seen = histogram.low, histogram.high
    if seen == (0.0, 0.0):
        return seen
    if choice == "entropy":
        return chosen(choice, *histogram.spread(BINS), seen, symmetric, levels)
    if choice == "percentile" and symmetric:
        return chosen(choice, *histogram.magnitudes(), seen, symmetric, levels)
    return chosen(choice, histogram.counts, histogram.edges, seen, symmetric, levels)


def percentile(counts: Counts, edges: Edges, seen: Range, percent: float = PERCENT) -> Range:
    """The range that leaves out (100 − percent)/2 % of the values at either end.

    Args:
        counts: [n].
        edges: [n + 1]; values may have both signs.
        seen: smallest and largest value.
        percent: of the values that lie within.
    """
    cut = (100.0 - percent) / 200.0
    share = np.cumsum(counts / counts.sum())
    return _within(edges[np.searchsorted(share, cut)], edges[np.searchsorted(share, 1.0 - cut)], seen)


def percentile_of_magnitudes(counts: Counts, edges: Edges, seen: Range, percent: float = PERCENT) -> Range:
    """The range ±t with `percent` of the magnitudes below t; counts and edges are those of magnitudes."""
    share = np.cumsum(counts / counts.sum())
    threshold = edges[np.searchsorted(share, percent / 100.0)]
    return _within(-threshold, threshold, seen)


def entropy(counts: Counts, edges: Edges, seen: Range, quantized: int = QUANTIZED_BINS) -> Range:
    """The range ±t whose clipped distribution, told with `quantized` levels, loses the least information.

    Candidates grow from the middle by one bin on either side. Each is compared, by Kullback–Leibler divergence, as the
    clipped distribution with its outliers in the outermost bins, against the same told with `quantized` levels and
    spread over the bins that are not empty (Migacz 2017; zeros are smoothed as MXNet does).

    Args:
        counts: [n], n even, of bins that are symmetric around 0.
        edges: [n + 1].
        seen: smallest and largest value.
        quantized: levels.
    """
    n, middle = len(counts), len(counts) // 2
    values = np.asarray(counts, dtype=np.float64)
    best, least = (float(edges[0]), float(edges[-1])), np.inf
    for i in range(quantized // 2, middle + 1):
        start, end = middle - i, min(middle + i + 1, n)
        divergence = _divergence(values[start:end], values[:start].sum(), values[end:].sum(), quantized)
        if divergence < least:
            best, least = (float(edges[start]), float(edges[end])), divergence
    return _within(*best, seen)


def _divergence(inside: NDArray[np.float64], left: float, right: float, quantized: int) -> float:
    reference = inside.copy()
    reference[0] += left
    reference[-1] += right
    filled = reference != 0
    starts = np.arange(quantized) * (len(inside) // quantized)
    sums, norms = np.add.reduceat(inside, starts), np.add.reduceat(filled.astype(np.float64), starts)
    sizes = np.diff(np.append(starts, len(inside)))
    told = np.repeat(np.divide(sums, norms, out=np.zeros(quantized), where=norms > 0), sizes) * filled
    p, q = _smoothed(reference), _smoothed(told)
    if p is None or q is None:
        return np.inf
    p, q = p / p.sum(), q / q.sum()
    return float((p * np.log(p / q)).sum())


def _smoothed(values: NDArray[np.float64], epsilon: float = 0.0001) -> NDArray[np.float64] | None:
    """No bin is empty: the empty ones get epsilon, the others give it. None where it cannot be."""
    empty = values == 0
    filled = int(values.size - empty.sum())
    if not filled:
        return None
    out = np.where(empty, epsilon, values - epsilon * empty.sum() / filled)
    return out if (out > 0).all() else None


def squared_error(counts: Counts, edges: Edges, seen: Range, levels: int, *, centred: bool) -> Range:
    """The range whose mean squared error of rounding and clipping is the least.

    Rounding costs step²/12 for each value within (values in the bin at 0 are exact), clipping the squared distance.

    Args:
        counts: [n].
        edges: [n + 1].
        seen: smallest and largest value.
        levels: of the quantized type: 256 or 65,536.
        centred: whether the range is to be ±t.
    """
    at = (edges[:-1] + edges[1:]) / 2
    rounded = np.where((edges[:-1] <= 0) & (edges[1:] > 0), 0, counts)
    shares = np.linspace(0.2, 1.0, 81)

    below = [np.concatenate([[0.0], np.cumsum(counts * at**power)]) for power in range(3)]
    within = np.concatenate([[0.0], np.cumsum(rounded)])

    def clipped(bounds: NDArray[np.float64], sums: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        return sums[2] - 2 * bounds * sums[1] + bounds**2 * sums[0]

    def cost(lows: NDArray[np.float64], highs: NDArray[np.float64]) -> NDArray[np.float64]:
        first, last = np.searchsorted(at, lows, "left"), np.searchsorted(at, highs, "right")
        beyond = clipped(lows, [s[first] for s in below]) + clipped(highs, [s[-1] - s[last] for s in below])
        return np.asarray(beyond + (within[last] - within[first]) * ((highs - lows) / (levels - 1)) ** 2 / 12)

    low, high = min(seen[0], 0.0), max(seen[1], 0.0)
    if centred:
        tops = max(-low, high) * shares
        top = float(tops[cost(-tops, tops).argmin()])
        return _within(-top, top, seen)
    for _ in range(2):
        tops = max(seen[1], 0.0) * shares
        high = float(tops[cost(np.full(len(tops), low), tops).argmin()])
        bottoms = min(seen[0], 0.0) * shares
        low = float(bottoms[cost(bottoms, np.full(len(bottoms), high)).argmin()])
    return _within(low, high, seen)


def _within(low: Any, high: Any, seen: Range) -> Range:
    return max(float(low), seen[0]), min(float(high), seen[1])
