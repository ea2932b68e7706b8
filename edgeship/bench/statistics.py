"""Statistics of latencies in run order: pure functions, nothing of a device, a clock or a file.

Rules this module keeps: no sample is ever dropped; a percentile that the number of runs cannot carry is None with the
reason, never an extrapolation; consecutive runs are not taken for independent where that matters.

Sources
-------
* Percentile: linear interpolation, type 7 of Hyndman and Fan, "Sample quantiles in statistical packages", 1996.
* Interval of a percentile: two order statistics chosen by the binomial distribution, exact for any continuous
  distribution of independent runs: Hahn and Meeker, "Statistical Intervals", section 5.2.
* Interval of the median: circular block bootstrap (Politis and Romano, 1992), which keeps neighbouring runs together,
  with blocks of n^(1/3) runs (Hall, Horowitz and Jing, 1995) or longer where the correlation reaches further.
* Outliers: modified z-score above 3.5, Iglewicz and Hoaglin, "How to detect and handle outliers", 1993.
* Settling: MSER-5, White, "An effective truncation heuristic for bias reduction in simulation output", 1997, on medians
  of five.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
LEVEL = 0.95
RESAMPLES = 2000
SEED = 20261122
_CHUNK = 2_000_000  # elements resampled at once: bounds memory


@dataclass(frozen=True)
class Interval:
    """A two-sided confidence interval."""

    low: float
    high: float

    def half_width_of(self, value: float) -> float:
        """Half of the interval as a share of `value`; 0 where the value is 0."""
        return (self.high - self.low) / 2 / value if value else 0.0


@dataclass(frozen=True)
class Percentile:
    """One percentile: its value and interval, or why there is none."""

    percent: float
    value: float | None
    interval: Interval | None
    reason: str | None = None


@dataclass(frozen=True)
class Summary:
    """What is said of one series of latencies, in the unit of the samples."""

    n: int
    median: float
    interval: Interval  # of the median
    mean: float
    deviation: float  # standard, n − 1
    mad: float  # median absolute deviation, unscaled
    least: float
    most: float
    percentiles: tuple[Percentile, ...]
    outliers: int  # counted, never removed
    correlation: float  # of each run with the next, by rank

    def percentile(self, percent: float) -> float | None:
        """The value of one percentile, None where the runs cannot carry it."""
        return next((p.value for p in self.percentiles if p.percent == percent), None)


@dataclass(frozen=True)
class Drift:
    """How the last quarter of the runs differs from the first."""

    relative: float  # (last − first) ÷ first, of medians
    p_value: float  # Mann-Whitney, two-sided


def samples_of(values: Sequence[float] | Array) -> Array:
    """`values` as float64 [n]. Raises ValueError for none, or one that is not finite and positive."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size or not np.isfinite(array).all() or (array < 0).any():
        raise ValueError("latencies must be a non-empty list of finite numbers, none below 0")
    return array


def order_interval(values: Array, percent: float, level: float = LEVEL) -> Interval | None:
    """The exact interval of a percentile between two order statistics; None where the sample is too small for one.

    Coverage is at least `level` for independent runs, whatever their distribution.
    """
    from scipy.stats import binom

    n, q, tail = len(values), percent / 100, (1 - level) / 2
    low, high = int(binom.ppf(tail, n, q)), int(binom.ppf(1 - tail, n, q)) + 1  # ranks from 1
    if low < 1 or high > n:
        return None
    ordered = np.sort(values)
    return Interval(float(ordered[low - 1]), float(ordered[high - 1]))


def runs_needed(percent: float, level: float = LEVEL) -> int:
    """The least number of runs for which `order_interval` exists: the tail beyond it must be seen."""
    q, tail = percent / 100, (1 - level) / 2
    n = math.ceil(math.log(tail) / math.log(max(q, 1 - q)))
    while order_interval(np.arange(n, dtype=np.float64), percent, level) is None:
        n += 1
    return n


def percentile(values: Array, percent: float, level: float = LEVEL) -> Percentile:
    """A percentile with its exact interval, or None with the number of runs that it would take."""
    interval = order_interval(values, percent, level)
    if interval is None:
        reason = f"needs at least {runs_needed(percent, level):,} runs, there are {len(values):,}"
        return Percentile(percent, None, None, reason)
    return Percentile(percent, float(np.percentile(values, percent)), interval)


def _ranks(values: Array) -> Array:
    from scipy.stats import rankdata

    ranks: Array = rankdata(values)
    return ranks


def autocorrelation(values: Array, lag: int = 1) -> float:
    """Rank correlation of each run with the one `lag` later, −1 to 1; 0 for a constant or short series."""
    if len(values) < lag + 3:
        return 0.0
    ranks = _ranks(values)
    ranks = ranks - ranks.mean()
    variance = float(ranks @ ranks)
    return float(ranks[:-lag] @ ranks[lag:]) / variance if variance else 0.0


def block_length(values: Array) -> int:
    """Runs that are resampled together: n^(1/3), or as far as neighbours are correlated, at most an eighth."""
    n = len(values)
    length = max(1, round(n ** (1 / 3)))
    noise = 2 / math.sqrt(n)
    while length < n // 8 and abs(autocorrelation(values, length)) > noise:
        length += max(1, length // 4)
    return max(1, min(length, n // 8)) if n >= 8 else 1


def resampled_medians(values: Array, *, resamples: int = RESAMPLES, seed: int = SEED) -> Array:
    """Medians of `resamples` circular block resamples of the runs, [resamples]."""
    n, length = len(values), block_length(values)
    blocks = math.ceil(n / length)
    rng = np.random.default_rng(seed)
    offsets = np.arange(length)
    out = np.empty(resamples)
    at_once = max(1, _CHUNK // (blocks * length))
    for start in range(0, resamples, at_once):
        count = min(at_once, resamples - start)
        starts = rng.integers(0, n, size=(count, blocks, 1))
        rows = ((starts + offsets) % n).reshape(count, -1)[:, :n]
        out[start : start + count] = np.median(values[rows], axis=1)
    return out


def median_interval(values: Array, level: float = LEVEL, *, resamples: int = RESAMPLES, seed: int = SEED) -> Interval:
    """The bootstrap interval of the median, by percentiles of the resampled medians."""
    medians = resampled_medians(values, resamples=resamples, seed=seed)
    tail = (1 - level) / 2 * 100
    low, high = np.percentile(medians, [tail, 100 - tail])
    return Interval(float(low), float(high))


def ratio_of_medians(values: Array, baseline: Array, level: float = LEVEL) -> tuple[float, Interval]:
    """median(values) ÷ median(baseline) with its bootstrap interval, both series resampled apart.

    Raises:
        ValueError: the baseline's median is 0.
    """
    base = float(np.median(baseline))
    if not base:
        raise ValueError("the baseline's median is 0")
    above, below = resampled_medians(values), resampled_medians(baseline, seed=SEED + 1)
    tail = (1 - level) / 2 * 100
    low, high = np.percentile(above / np.maximum(below, 1e-12), [tail, 100 - tail])
    return float(np.median(values)) / base, Interval(float(low), float(high))


def median_absolute_deviation(values: Array) -> float:
    """The median of the distances to the median."""
    return float(np.median(np.abs(values - np.median(values))))


def outliers(values: Array) -> NDArray[np.bool_]:
    """Which runs lie far out: modified z-score above 3.5 in absolute value, [n] bool.

    Where more than half of the runs are equal (a coarse clock) the mean absolute deviation stands in, as in the source.
    """
    distance = values - np.median(values)
    spread = 1.4826 * median_absolute_deviation(values)
    if not spread:
        spread = 1.253314 * float(np.mean(np.abs(distance)))
    if not spread:
        return np.zeros(len(values), dtype=bool)
    far: NDArray[np.bool_] = np.abs(distance) / spread > 3.5
    return far


def drift(values: Array) -> Drift:
    """The last quarter of the runs against the first; no drift for fewer than 16 runs or equal ones."""
    from scipy.stats import mannwhitneyu

    quarter = len(values) // 4
    if quarter < 4 or np.ptp(values) == 0:
        return Drift(0.0, 1.0)
    first, last = values[:quarter], values[-quarter:]
    start = float(np.median(first))
    relative = (float(np.median(last)) - start) / start if start else 0.0
    return Drift(relative, float(mannwhitneyu(first, last, alternative="two-sided").pvalue))


def settled_at(values: Array) -> int:
    """The run from which on the series is steady, at most half of it (MSER-5 on medians of five); 0: from the start."""
    batches = len(values) // 5
    if batches < 8:
        return 0
    medians = np.median(values[: batches * 5].reshape(batches, 5), axis=1)
    errors = [float(np.var(medians[d:])) / (batches - d) for d in range(batches // 2 + 1)]
    return int(np.argmin(errors)) * 5


def summarize(values: Sequence[float] | Array, level: float = LEVEL) -> Summary:
    """All that is said of one series of latencies, in run order. Raises ValueError (see `samples_of`)."""
    array = samples_of(values)
    return Summary(
        n=len(array),
        median=float(np.median(array)),
        interval=median_interval(array, level),
        mean=float(array.mean()),
        deviation=float(array.std(ddof=1)) if len(array) > 1 else 0.0,
        mad=median_absolute_deviation(array),
        least=float(array.min()),
        most=float(array.max()),
        percentiles=tuple(percentile(array, p, level) for p in PERCENTILES),
        outliers=int(outliers(array).sum()),
        correlation=autocorrelation(array),
    )


def encode(summary: Summary) -> dict[str, Any]:
    """A summary as JSON."""

    def pair(interval: Interval | None) -> list[float] | None:
        return None if interval is None else [interval.low, interval.high]

    return {
        "n": summary.n, "median": summary.median, "median_interval": pair(summary.interval), "mean": summary.mean,
        "standard_deviation": summary.deviation, "mad": summary.mad, "min": summary.least, "max": summary.most,
        "percentiles": [
            {"percent": p.percent, "value": p.value, "interval": pair(p.interval), "reason": p.reason}
            for p in summary.percentiles
        ],
        "outliers": summary.outliers, "lag1_rank_correlation": summary.correlation,
    }  # fmt: skip
