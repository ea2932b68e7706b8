"""Statistics of paired answers: how much of a metric is lost, and how sure that is.

Two models answered the same samples, so only the samples where they differ tell anything: b that the first had right
and the second wrong, c the other way round.
"""

from __future__ import annotations

import math

from scipy import optimize, stats

CONFIDENCE = 0.95
_EDGE = 1e-12
_MOST = 1 << 20  # times as many samples: nobody will label more


def interval(b: float, c: float, n: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Score interval for the difference (b − c) / n of two paired proportions.

    T. Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample design",
    Statistics in Medicine 17 (1998), 891–908: the differences δ that a score test does not reject, with the nuisance
    parameter at its constrained maximum likelihood. It keeps its level where b and c are few or 0, as they are when a
    variant is good; with b = c = 0 it is ± z² / (n + z²).

    Args:
        b: samples that only the first model has right; need not be whole.
        c: samples that only the second has right.
        n: all samples, at least b + c.
        confidence: two-sided level.

    Returns:
        (low, high) within −1 and 1.
    """
    if n <= 0 or b < 0 or c < 0 or b + c > n * (1 + 1e-9):
        raise ValueError(f"no paired counts: b={b}, c={c}, n={n}")
    z = float(stats.norm.ppf((1 + confidence) / 2))
    point = (b - c) / n

    def beyond(delta: float) -> float:
        return abs(_score(delta, b, c, n)) - z

    low, high = -1.0 + _EDGE, 1.0 - _EDGE
    lower = -1.0 if beyond(low) < 0 or point <= low else float(optimize.brentq(beyond, low, point, xtol=1e-10))
    upper = 1.0 if beyond(high) < 0 or point >= high else float(optimize.brentq(beyond, point, high, xtol=1e-10))
    return lower, upper


def _score(delta: float, b: float, c: float, n: float) -> float:
    """Tango's statistic: (b − c − nδ) over its standard error where q21 is most likely given δ."""
    top = b - c - n * delta
    if top == 0:
        return 0.0
    second, linear, constant = 2 * n, -b - c + (2 * n - b + c) * delta, -c * delta * (1 - delta)
    q21 = (math.sqrt(max(linear * linear - 4 * second * constant, 0.0)) - linear) / (2 * second)
    variance = n * (2 * q21 + delta * (1 - delta))
    return math.inf if variance <= 0 else top / math.sqrt(variance)


def needed(b: float, c: float, n: float, limit: float, confidence: float = CONFIDENCE) -> int | None:
    """The least number of samples, at the same rates, whose interval lies at or below `limit`.

    Returns:
        `n` itself where it does already; None where the rates are at the limit or above, or no number would do.
    """
    if interval(b, c, n, confidence)[1] <= limit:
        return math.ceil(n)
    if (b - c) / n >= limit:
        return None
    low, high = 1.0, 2.0
    while interval(b * high, c * high, n * high, confidence)[1] > limit:
        low, high = high, high * 2
        if high > _MOST:
            return None
    while (high - low) * n > 0.5:
        middle = (low + high) / 2
        if interval(b * middle, c * middle, n * middle, confidence)[1] > limit:
            low = middle
        else:
            high = middle
    return math.ceil(high * n)
