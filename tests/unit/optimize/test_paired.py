"""Paired statistics agree with published figures and with their own definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from edgeship.optimize.paired import interval, needed

Z2 = float(stats.norm.ppf(0.975)) ** 2


def by_definition(delta: float, b: int, c: int, n: int) -> float:
    """The score statistic with the nuisance parameter found by search instead of in closed form."""

    def unlikely(q21: float) -> float:
        cells = ((b, q21 + delta), (c, q21), (n - b - c, 1 - 2 * q21 - delta))
        return -sum(count * math.log(max(p, 1e-300)) for count, p in cells if count)

    low, high = max(0.0, -delta), (1 - delta) / 2
    q21 = float(optimize.minimize_scalar(unlikely, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x)
    return (b - c - n * delta) / math.sqrt(n * (2 * q21 + delta - delta * delta))


@pytest.mark.parametrize(("b", "c", "n"), [(12, 2, 14), (43, 12, 87), (1, 0, 100), (6, 9, 1000), (3, 3, 50)])
def test_the_ends_are_where_a_score_test_turns(b: int, c: int, n: int) -> None:
    low, high = interval(b, c, n)
    assert low < (b - c) / n < high
    assert by_definition(low, b, c, n) == pytest.approx(math.sqrt(Z2), abs=0.01)
    assert by_definition(high, b, c, n) == pytest.approx(-math.sqrt(Z2), abs=0.01)


@pytest.mark.parametrize("n", [10, 100, 1000])
def test_no_differences_give_the_closed_form(n: int) -> None:
    bound = Z2 / (n + Z2)
    assert interval(0, 0, n) == pytest.approx((-bound, bound), abs=1e-6)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 400))
@settings(max_examples=200, deadline=None)
def test_intervals_hold_the_point_are_antisymmetric_and_within_one(b: int, c: int, more: int) -> None:
    n = b + c + more
    if not n:
        return
    low, high = interval(b, c, n)
    assert -1 <= low <= (b - c) / n <= high <= 1
    assert interval(c, b, n) == pytest.approx((-high, -low), abs=1e-7)
    wide = interval(b, c, n, 0.99)
    assert wide[0] <= low + 1e-9
    assert wide[1] >= high - 1e-9


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(4)
    n, p_lost, p_gained = 400, 0.02, 0.01
    hits = 0
    for _ in range(400):
        b, c, _ = rng.multinomial(n, [p_lost, p_gained, 1 - p_lost - p_gained])
        low, high = interval(int(b), int(c), n)
        hits += low <= p_lost - p_gained <= high
    assert 0.92 <= hits / 400 <= 0.985


@pytest.mark.parametrize(("b", "c", "n"), [(1, 0, 0), (-1, 0, 5), (3, 3, 5)])
def test_counts_that_cannot_be_are_refused(b: int, c: int, n: int) -> None:
    with pytest.raises(ValueError, match="no paired counts"):
        interval(b, c, n)


def test_everything_lost_reaches_the_end() -> None:
    assert interval(10, 0, 10)[1] == pytest.approx(1.0, abs=1e-6)
    assert interval(0, 10, 10)[0] == pytest.approx(-1.0, abs=1e-6)


def test_needed_is_the_least_number_that_proves_it() -> None:
    n = needed(1, 0, 100, 0.05)
    assert n is not None
    assert 100 < n < 200
    assert interval(n / 100, 0, n)[1] <= 0.05 + 1e-6
    assert interval((n - 2) / 100, 0, n - 2)[1] > 0.05


def test_what_is_proven_needs_no_more() -> None:
    assert needed(0, 0, 1000, 0.01) == 1000


def test_no_number_proves_what_is_at_the_limit() -> None:
    assert needed(5, 0, 100, 0.05) is None
    assert needed(0, 0, 10, 0.0) is None
    assert math.isfinite(needed(0, 0, 10, 0.01) or math.inf)
