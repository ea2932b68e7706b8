"""Histograms that take any number of values: exact counts, order does not matter, merging loses nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgeship.targets.histogram import BINS, Histogram

FLOATS = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)


def of(*parts: object) -> Histogram:
    out = Histogram()
    for part in parts:
        out.add(np.asarray(part, np.float32))
    return out


@settings(max_examples=30, deadline=None)
@given(arrays(np.float32, st.integers(1, 200), elements=FLOATS))
def test_counts_are_those_of_numpy_over_the_same_edges(values: np.ndarray) -> None:
    found = of(values)
    expected, _ = np.histogram(values.astype(np.float64), found.edges)
    assert np.array_equal(found.counts, expected)
    assert (found.low, found.high, found.total) == (values.min(), values.max(), values.size)


@settings(max_examples=30, deadline=None)
@given(arrays(np.float32, st.integers(2, 200), elements=FLOATS), st.data())
def test_order_split_and_merge_do_not_matter(values: np.ndarray, draw: st.DataObject) -> None:
    cut = draw.draw(st.integers(1, len(values) - 1))
    whole, parts, merged = of(values), of(values[cut:], values[:cut]), of(values[:cut]).merge(of(values[cut:]))
    for other in (parts, merged):
        assert np.array_equal(other.counts, whole.counts)
        assert (other.exponent, other.low, other.high) == (whole.exponent, whole.low, whole.high)


def test_bins_are_never_wider_than_a_quarter_of_two_thousand_over_the_range() -> None:
    for top in (1.0, 1.01, 1.99, 2.0, 6.0, 1e-4, 3e5):
        edges = of([top, -top / 3]).edges
        assert edges[1] - edges[0] <= 2 * top / 2048 / 2 * 1.0001


def test_a_sample_of_zeros_costs_no_resolution() -> None:
    """A channel that is off in one sample and small in the others: bins are as fine as without that sample."""
    quiet = np.linspace(-1e-3, 1e-3, 501)
    plain, after, between = of(quiet), of(np.zeros(9), quiet), of(quiet[:250], np.zeros(9), quiet[250:])
    assert plain.exponent == after.exponent == between.exponent == -9
    assert of(np.zeros(9)).merge(of(quiet)).exponent == of(quiet).merge(of(np.zeros(9))).exponent == -9
    assert np.array_equal(after.counts, between.counts)
    assert after.total == plain.total + 9


def test_zeros_alone_and_what_is_not_finite() -> None:
    assert of([0, 0]).total == 2
    found = of([np.nan, 1, -np.inf, np.inf, 2], [np.nan])
    assert (found.lost, found.total, found.low, found.high) == (4, 2, 1.0, 2.0)
    assert of([np.nan]).merge(of([1, np.inf])).lost == 2


def test_magnitudes_fold_the_negative_half() -> None:
    counts, edges = of([-0.3, 0.3, 0.7]).magnitudes()
    assert counts.sum() == 3
    assert len(edges) == len(counts) + 1 == BINS // 2 + 1
    assert counts[np.searchsorted(edges, 0.3) - 1] == 2


def test_spread_keeps_the_number_of_values() -> None:
    values = np.random.default_rng(0).normal(size=5000).astype(np.float32)
    found = of(values)
    counts, edges = found.spread(2048)
    assert counts.sum() == pytest.approx(5000)
    assert edges[-1] == pytest.approx(np.abs(values).max())
    expected, _ = np.histogram(values, edges)
    assert np.abs(np.cumsum(counts) - np.cumsum(expected)).max() < 20
