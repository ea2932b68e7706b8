"""Histograms merge by addition and come back from the database as they were."""

from hypothesis import given
from hypothesis import strategies as st

from edgeship.fleet.histogram import BUCKETS, CAP, Histogram
from edgeship.runtime.window import bucket_of, quantile

COUNTS = st.dictionaries(st.integers(0, BUCKETS - 1), st.integers(1, 1 << 36), max_size=30)


@given(COUNTS)
def test_packing_is_lossless(counts: dict[int, int]) -> None:
    back = Histogram()
    back.merge_packed(Histogram(counts).pack())
    assert back.counts() == counts


@given(COUNTS, COUNTS)
def test_merging_is_addition(a: dict[int, int], b: dict[int, int]) -> None:
    both = Histogram(a)
    both.merge(Histogram(b))
    packed = Histogram(b)
    packed.merge_packed(Histogram(a).pack())
    assert both.counts() == packed.counts() == {k: a.get(k, 0) + b.get(k, 0) for k in a | b}


@given(COUNTS, st.floats(0, 1))
def test_quantiles_are_those_of_the_wire(counts: dict[int, int], q: float) -> None:
    expected = quantile(counts, q)
    found = Histogram(counts).quantile(q)
    assert found == (None if expected is None else expected / 1e6)


def test_an_empty_histogram_is_nothing() -> None:
    empty = Histogram()
    empty.merge(Histogram())
    assert (empty.pack(), empty.total, empty.quantile(0.5), empty.counts()) == (b"", 0, None, {})


def test_what_is_out_of_range_is_counted_at_the_edge() -> None:
    assert Histogram({9999: 2, 0: 1 << 53}).counts() == {BUCKETS - 1: 2, 0: CAP}


def test_a_minute_of_a_usual_device_is_small() -> None:
    usual = {bucket_of(3000 * 1.03**i): 5 for i in range(40)}
    assert len(Histogram(usual).pack()) < 120
