"""The statistics against distributions whose answers are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeship.bench import statistics
from edgeship.bench.statistics import Array


def iid(seed: int, n: int) -> Array:
    """Skewed, like latencies: exponential on top of 1; true median 1 + ln 2."""
    return 1.0 + np.random.default_rng(seed).exponential(size=n)


def correlated(seed: int, n: int, rho: float) -> Array:
    """An AR(1) series around 100 with true median 100."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=n) * math.sqrt(1 - rho * rho)
    out = np.empty(n)
    out[0] = rng.normal()
    for i in range(1, n):
        out[i] = rho * out[i - 1] + noise[i]
    return 100 + out


def coverage(series: list[Array], truth: float) -> float:
    """How many of the median's intervals hold the truth."""
    intervals = [statistics.median_interval(s, resamples=400) for s in series]
    return sum(i.low <= truth <= i.high for i in intervals) / len(intervals)


def test_the_medians_interval_holds_the_true_median_as_often_as_it_says() -> None:
    share = coverage([iid(seed, 200) for seed in range(300)], 1 + math.log(2))
    assert 0.90 <= share <= 0.99


def test_blocks_keep_the_interval_honest_when_neighbouring_runs_are_alike() -> None:
    series = [correlated(seed, 400, 0.8) for seed in range(150)]
    honest = coverage(series, 100.0)
    rng = np.random.default_rng(1)
    shuffled = coverage([rng.permutation(s) for s in series], 100.0)  # what resampling single runs would say
    assert honest > 0.80
    assert shuffled < honest - 0.15


def test_order_statistics_cover_a_percentile_at_least_as_often_as_they_say() -> None:
    truth = 1 - math.log(0.05)  # p95 of the distribution
    hits = 0
    for seed in range(600):
        interval = statistics.order_interval(iid(seed, 256), 95.0)
        assert interval is not None
        hits += interval.low <= truth <= interval.high
    assert hits / 600 >= 0.93


@pytest.mark.parametrize(("percent", "runs"), [(50.0, 6), (90.0, 36), (95.0, 72), (99.0, 368), (99.9, 3688)])
def test_a_percentile_is_given_from_the_least_number_of_runs_that_can_carry_it(percent: float, runs: int) -> None:
    assert statistics.runs_needed(percent) == runs
    enough, short = iid(1, runs), iid(1, runs - 1)
    assert statistics.percentile(enough, percent).value is not None
    missing = statistics.percentile(short, percent)
    assert missing.value is None
    assert missing.interval is None
    assert missing.reason is not None
    assert f"{runs:,}" in missing.reason


def test_percentiles_agree_with_numpy_on_a_known_series() -> None:
    summary = statistics.summarize(np.arange(1.0, 1001.0))
    assert summary.median == 500.5
    assert summary.percentile(50.0) == 500.5
    assert summary.percentile(95.0) == pytest.approx(950.05)
    assert summary.percentile(99.9) is None
    assert summary.mean == 500.5
    assert summary.deviation == pytest.approx(288.819436)
    assert summary.mad == 250.0
    assert (summary.least, summary.most) == (1.0, 1000.0)
    assert summary.interval.low < 500.5 < summary.interval.high
    assert summary.percentile(12.0) is None


def test_the_same_samples_give_the_same_interval() -> None:
    values = iid(7, 300)
    assert statistics.median_interval(values) == statistics.median_interval(values)


def test_a_constant_series_has_no_spread() -> None:
    summary = statistics.summarize([5.0] * 100)
    assert summary.interval == statistics.Interval(5.0, 5.0)
    assert summary.outliers == 0
    assert summary.correlation == 0.0
    assert statistics.drift(np.full(100, 5.0)) == statistics.Drift(0.0, 1.0)


def test_one_run_is_summarized_without_percentiles() -> None:
    summary = statistics.summarize([3.0])
    assert (summary.n, summary.median, summary.deviation) == (1, 3.0, 0.0)
    assert all(p.value is None for p in summary.percentiles)


@pytest.mark.parametrize("bad", [[], [1.0, math.nan], [math.inf], [-1.0], [[1.0]]])
def test_what_is_no_series_of_latencies_is_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        statistics.samples_of(bad)


def test_outliers_are_found_and_nothing_else() -> None:
    values = np.concatenate([np.random.default_rng(3).normal(100, 1, 200), [160.0, 170.0]])
    far = statistics.outliers(values)
    assert far[-2:].all()
    assert far[:-2].sum() <= 2


def test_outliers_are_found_when_the_clock_is_so_coarse_that_most_runs_are_equal() -> None:
    values = np.array([1.0] * 100 + [50.0])
    assert statistics.outliers(values).sum() == 1


def test_drift_is_seen_and_a_steady_series_has_none() -> None:
    rng = np.random.default_rng(5)
    slower = statistics.drift(np.linspace(100, 130, 400) + rng.normal(0, 1, 400))
    assert slower.relative == pytest.approx(0.22, abs=0.03)
    assert slower.p_value < 1e-6
    steady = statistics.drift(rng.normal(100, 1, 400))
    assert abs(steady.relative) < 0.01
    assert statistics.drift(np.arange(10.0)) == statistics.Drift(0.0, 1.0)


def test_a_slow_start_is_found_where_it_ends() -> None:
    rng = np.random.default_rng(8)
    values = np.concatenate([rng.normal(150, 1, 40), rng.normal(100, 1, 360)])
    assert 40 <= statistics.settled_at(values) <= 60
    assert statistics.settled_at(values[:30]) == 0


def test_a_ratio_of_medians_holds_the_true_one() -> None:
    base, double = iid(1, 400), 2 * iid(2, 400)
    ratio, interval = statistics.ratio_of_medians(double, base)
    assert interval.low < ratio < interval.high
    assert interval.low < 2.0 < interval.high
    same, around_one = statistics.ratio_of_medians(iid(3, 400), base)
    assert around_one.low < 1.0 < around_one.high
    assert same == pytest.approx(1.0, abs=0.15)
    with pytest.raises(ValueError, match="0"):
        statistics.ratio_of_medians(base, np.zeros(10))


def test_blocks_grow_with_the_reach_of_the_correlation() -> None:
    assert statistics.block_length(iid(1, 512)) == 8
    assert statistics.block_length(correlated(1, 512, 0.95)) > 16
    assert statistics.block_length(np.arange(4.0)) == 1


def test_an_interval_says_how_wide_it_is() -> None:
    assert statistics.Interval(9.0, 11.0).half_width_of(10.0) == pytest.approx(0.1)
    assert statistics.Interval(0.0, 0.0).half_width_of(0.0) == 0.0


def test_a_summary_as_json_says_why_a_percentile_is_missing() -> None:
    data = statistics.encode(statistics.summarize(iid(1, 100)))
    by_percent = {p["percent"]: p for p in data["percentiles"]}
    assert by_percent[95.0]["value"] > by_percent[50.0]["value"]
    assert by_percent[99.0] == {
        "percent": 99.0, "value": None, "interval": None, "reason": "needs at least 368 runs, there are 100",
    }  # fmt: skip
    assert data["median_interval"][0] <= data["median"] <= data["median_interval"][1]
