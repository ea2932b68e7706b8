"""How much of a metric is lost on the same samples, and how sure that is: for the whole, a class or a slice.

Rules this module keeps:

* A drop is in points of the metric and positive when the variant is worse, also where less of the metric is better.
* Both models answered the same samples, so samples are drawn in pairs. Right or wrong: Tango's score interval
  (`paired.py`). Everything else: percentile bootstrap over samples (Efron and Tibshirani, *An Introduction to the
  Bootstrap*, 1993, chapter 13) with a fixed seed.
* A few samples prove nothing, and one of them alone must not fail a class: see `Drop.fails`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgeship.optimize.paired import CONFIDENCE, interval, needed

#: A class or slice of fewer samples is not judged by the bare figure where one sample would break the limit.
FEW = 20

#: With fewer samples that differ, the bootstrap knows too little: from four on it is wider than `at_least`.
RARE = 4

RESAMPLES = 2000
SEED = 0
ANYTHING = (-100.0, 100.0)  # the interval of a drop of which nothing is known
_CHUNK = 1 << 20  # draws that are held together
_DROPPED = 0.1  # share of resamples on which a metric may have no value

BoolArray = NDArray[np.bool_]
Double = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Drop:
    """What was lost on some samples.

    Attributes:
        before, after: the metric of source and variant.
        value: points, positive is worse.
        interval: 95 %, of the value.
        samples: how many.
        counts: samples that only the source has right, and that only the variant has right; None for other metrics.
    """

    before: float
    after: float
    value: float
    interval: tuple[float, float]
    samples: int
    counts: tuple[int, int] | None = None

    def few(self, limit: float) -> bool:
        """Whether these are too few samples to hold the bare figure against a limit."""
        return self.samples < FEW and (self.counts is None or 100 / self.samples > limit)

    def fails(self, limit: float, *, part: bool = False) -> bool:
        """Measured above the limit; of a part with few samples: the whole interval above it."""
        measured = self.interval[0] if part and self.few(limit) else self.value
        return measured > limit

    def proves(self, limit: float) -> bool:
        """The whole interval within the limit, of enough samples for an interval."""
        return self.interval[1] <= limit and (self.counts is not None or self.samples >= FEW)

    def needed(self, limit: float) -> int | None:
        """Samples of this kind that would prove it at the same rates; None where no number would."""
        if self.proves(limit):
            return self.samples
        if self.counts is not None:
            return needed(*self.counts, self.samples, limit / 100)
        room, width = limit - self.value, self.interval[1] - self.value
        if room <= 0:
            return None
        # an interval narrows with the square root of the number of samples
        return max(FEW, math.ceil(self.samples * (width / room) ** 2))


class Comparison(Protocol):
    """Both models' answers under one metric."""

    @property
    def lower(self) -> bool:
        """Whether less is better."""
        ...

    def drop(self, at: Indices) -> Drop:
        """On the samples at these positions, at least one."""
        ...

    def of_class(self, label: int, truth: NDArray[np.int32]) -> Drop | None:
        """Of one class; None where the metric has no value for a class alone."""
        ...


@dataclass(frozen=True)
class RightWrong:
    """A metric that is the share of right answers: bool [n] of source and variant."""

    before: BoolArray
    after: BoolArray
    lower: bool = False

    def drop(self, at: Indices) -> Drop:
        """See `Comparison`."""
        before, after = self.before[at], self.after[at]
        lost, gained, n = int((before & ~after).sum()), int((after & ~before).sum()), len(at)
        low, high = interval(lost, gained, n)
        value = 100 * (lost - gained) / n
        return Drop(float(before.mean()), float(after.mean()), value, (100 * low, 100 * high), n, (lost, gained))

    def of_class(self, label: int, truth: NDArray[np.int32]) -> Drop | None:
        """Of the samples whose true class this is."""
        return self.drop(np.flatnonzero(truth == label))


@dataclass(frozen=True)
class Means:
    """A metric that is the mean of a figure for each sample: float64 [n] of source and variant."""

    before: Double
    after: Double
    lower: bool = False

    def drop(self, at: Indices) -> Drop:
        """See `Comparison`."""
        before, after = self.before[at], self.after[at]
        worse = 100 * ((after - before) if self.lower else (before - after))
        value, bounds = float(worse.mean()), mean_interval(worse)
        if np.count_nonzero(worse) < RARE:
            bounds = at_least(value, bounds, len(at))
        return Drop(float(before.mean()), float(after.mean()), value, bounds, len(at))

    def of_class(self, label: int, truth: NDArray[np.int32]) -> Drop | None:
        """Of the samples whose true class this is."""
        return self.drop(np.flatnonzero(truth == label))


@dataclass(frozen=True)
class Pooled:
    """A metric that many samples have together: a function of positions that gives source's and variant's value.

    Attributes:
        statistic: that function.
        differ: which samples the two answer differently, bool [n]; None where the caller widens the interval itself
            where they are few.
    """

    statistic: Callable[[Indices], tuple[float, float]]
    differ: BoolArray | None = None
    lower: bool = False

    def drop(self, at: Indices) -> Drop:
        """See `Comparison`. A resample on which the statistic is NaN is left out."""
        sign = 100.0 if self.lower else -100.0
        before, after = self.statistic(at)
        drawn = np.array([sign * (b - a) for a, b in map(self.statistic, draws(at, RESAMPLES))])
        value, bounds = sign * (after - before), percentiles(drawn, len(at))
        if self.differ is not None and np.count_nonzero(self.differ[at]) < RARE:
            bounds = at_least(value, bounds, len(at))
        return Drop(before, after, value, bounds, len(at))

    def of_class(self, label: int, truth: NDArray[np.int32]) -> Drop | None:
        """Of the samples whose true class this is."""
        return self.drop(np.flatnonzero(truth == label))


@dataclass(frozen=True)
class F1:
    """F1, the harmonic mean of precision and recall, of each class or of the mean over classes.

    Attributes:
        truth: int32 [n].
        before, after: class that source and variant answer, int [n]; −1 is none.
        positive: the class that counts alone ("binary"), or None for the mean over all classes of the data ("macro").
    """

    truth: NDArray[np.int32]
    before: NDArray[np.intp]
    after: NDArray[np.intp]
    positive: int | None = None
    lower: bool = False

    def drop(self, at: Indices) -> Drop:
        """See `Comparison`."""
        drop = self._pooled().drop(at)
        return replace(drop, interval=at_least(drop.value, drop.interval, len(at)))

    def of_class(self, label: int, truth: NDArray[np.int32]) -> Drop | None:
        """F1 of this class among all samples; its number of samples is that of the class."""
        if self.positive is not None:
            return None
        at = int(np.searchsorted(self._classes, label))
        everything, drawn = self._drawn
        before, after = (float(values[at]) for values in everything)
        points = 100 * (drawn[:, 0, at] - drawn[:, 1, at])
        count = int((truth == label).sum())
        value = 100 * (before - after)
        return Drop(before, after, value, at_least(value, percentiles(points, count), count), count)

    @cached_property
    def _classes(self) -> NDArray[np.int32]:
        return np.unique(self.truth) if self.positive is None else np.array([self.positive], np.int32)

    @cached_property
    def _drawn(self) -> tuple[Double, Double]:
        """Values of both models for each class [2, C], and the same of every resample [r, 2, C]."""
        everything = np.arange(len(self.truth))
        return self._both(everything), np.array([self._both(at) for at in draws(everything, RESAMPLES)])

    def _both(self, at: Indices) -> Double:
        return np.stack([f1(self.truth[at], given[at], self._classes) for given in (self.before, self.after)])

    def _pooled(self) -> Pooled:
        def means(at: Indices) -> tuple[float, float]:
            before, after = self._both(at).mean(axis=1)
            return float(before), float(after)

        return Pooled(means)


def f1(truth: NDArray[np.int32], given: NDArray[np.intp], classes: NDArray[np.int32]) -> Double:
    """2·TP / (2·TP + FP + FN) of each class, 0 where it occurs nowhere.

    Args:
        truth: int32 [n].
        given: class that was answered, [n]; −1 is none.
        classes: that are wanted, [C].
    """
    size = int(max(truth.max(initial=0), given.max(initial=0), classes.max(initial=0))) + 1
    hits = np.bincount(truth[truth == given], minlength=size)[classes]
    total = np.bincount(truth, minlength=size)[classes] + np.bincount(given[given >= 0], minlength=size)[classes]
    out: Double = np.where(total > 0, 2 * hits / np.maximum(total, 1), 0.0)
    return out


# ── the bootstrap ────────────────────────────────────────────────────────────────────────────────────────────────────


def draws(at: Indices, resamples: int) -> list[Indices]:
    """Positions drawn with replacement, as many as there are; the same for the same length."""
    rng = np.random.default_rng(SEED)
    return [at[rng.integers(0, len(at), len(at))] for _ in range(resamples)]


def at_least(value: float, bounds: tuple[float, float], samples: int) -> tuple[float, float]:
    """An interval of points that is no narrower than what samples without any difference leave open.

    Where no sample of n differs, resamples do not differ either, and the bootstrap is sure of what it cannot know. The
    score interval of such a sample is ± z² / (n + z²) (see `paired.interval`), of right answers; one sample moves F1 or
    a share about as far.
    """
    low, high = (100 * bound for bound in interval(0, 0, samples))
    return min(bounds[0], value + low), max(bounds[1], value + high)


def mean_interval(values: Double) -> tuple[float, float]:
    """Percentile interval of the mean of paired differences [n]."""
    n = len(values)
    rng = np.random.default_rng(SEED)
    rows = max(1, _CHUNK // n)
    counts = [min(rows, RESAMPLES - start) for start in range(0, RESAMPLES, rows)]
    means = np.concatenate([values[rng.integers(0, n, (count, n))].mean(axis=1) for count in counts])
    return percentiles(means, n)


def percentiles(drawn: Double, samples: int) -> tuple[float, float]:
    """The middle 95 %, widened by √(n / (n − 1)) around its centre, since resamples vary less than samples do.

    Args:
        drawn: a figure on each resample; NaN where it has none.
        samples: in each.

    Returns:
        `ANYTHING` where there is one sample, or too many resamples have no figure.
    """
    drawn = np.asarray(drawn, np.float64)
    sound = drawn[np.isfinite(drawn)]
    if samples < 2 or len(sound) < (1 - _DROPPED) * len(drawn):
        return ANYTHING
    tail = 100 * (1 - CONFIDENCE) / 2
    low, middle, high = np.percentile(sound, [tail, 50, 100 - tail])
    wide = math.sqrt(samples / (samples - 1))
    return float(middle + wide * (low - middle)), float(middle + wide * (high - middle))
