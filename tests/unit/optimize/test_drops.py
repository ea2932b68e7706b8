"""Drops: their sign, their intervals, what few samples may say, what would prove them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeship.optimize.drops import ANYTHING, F1, FEW, RARE, Drop, Means, Pooled, RightWrong, f1, percentiles


def all_of(n: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    return np.arange(n)


def test_a_drop_is_positive_when_the_variant_is_worse_also_where_less_is_better() -> None:
    rng = np.random.default_rng(0)
    error = rng.uniform(0, 0.1, 200)
    grown = Means(error, error + 0.01, lower=True).drop(all_of(200))
    assert grown.value == pytest.approx(1.0)
    assert grown.after > grown.before
    less = Means(error, error - 0.01).drop(all_of(200))
    assert less.value == pytest.approx(1.0)
    rmse = Pooled(lambda at: (float(error[at].mean()), float(error[at].mean() + 0.02)), lower=True).drop(all_of(200))
    assert rmse.value == pytest.approx(2.0)


def test_pairs_are_drawn_together() -> None:
    """Samples differ a hundred times more among themselves than the two models do on each."""
    rng = np.random.default_rng(1)
    easy = rng.uniform(0, 1, 300)
    drop = Means(easy, easy - 0.01 + rng.normal(0, 0.005, 300)).drop(all_of(300))
    assert drop.interval[0] == pytest.approx(1.0, abs=0.1)
    assert drop.interval[1] == pytest.approx(1.0, abs=0.1)


def test_intervals_of_means_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(150):
        worse = rng.exponential(0.02, 60)
        low, high = Means(np.zeros(60), -worse).drop(all_of(60)).interval
        hits += low <= 2.0 <= high
    assert 0.88 <= hits / 150 <= 0.99


def test_the_same_samples_give_the_same_interval() -> None:
    rng = np.random.default_rng(3)
    one = Means(rng.random(50), rng.random(50))
    assert one.drop(all_of(50)) == one.drop(all_of(50))


def test_a_mean_and_a_pool_of_the_same_figures_agree() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.random(80), rng.random(80)
    mean = Means(a, b).drop(all_of(80))
    pool = Pooled(lambda at: (float(a[at].mean()), float(b[at].mean()))).drop(all_of(80))
    assert pool.value == pytest.approx(mean.value)
    assert pool.interval == pytest.approx(mean.interval)


def test_one_sample_tells_nothing() -> None:
    drop = Means(np.array([0.9]), np.array([0.9])).drop(all_of(1))
    assert drop.interval == ANYTHING
    assert not drop.proves(50.0)
    assert RightWrong(np.array([True]), np.array([True])).drop(all_of(1)).proves(50.0) is False


def test_resamples_without_a_value_are_left_out_until_they_are_too_many() -> None:
    drawn = np.linspace(0, 1, 100)
    drawn[:5] = np.nan
    assert percentiles(drawn, 50) != ANYTHING
    drawn[:20] = np.nan
    assert percentiles(drawn, 50) == ANYTHING


def test_resamples_of_a_part_are_drawn_from_that_part() -> None:
    """Of a slice in the second half of the data, nothing of the first half may be looked at."""
    seen: list[int] = []

    def statistic(at: NDArray[np.intp]) -> tuple[float, float]:
        seen.extend(at.tolist())
        return 0.5, 0.5

    at = np.arange(60, 80)
    Pooled(statistic).drop(at)
    assert set(seen) == set(at.tolist())


def test_intervals_are_widened_by_what_resamples_vary_less_than_samples() -> None:
    drawn = np.linspace(-1, 3, 4001)
    low, high = percentiles(drawn, 5)
    wide = np.sqrt(5 / 4)
    assert (low, high) == pytest.approx((1 - 1.9 * wide, 1 + 1.9 * wide))


@pytest.mark.parametrize(
    ("samples", "limit", "few"), [(10, 10.0, False), (10, 9.9, True), (19, 5.0, True), (20, 1.0, False)]
)
def test_how_many_are_few(samples: int, limit: float, few: bool) -> None:
    """Fewer than 20 where one of them is more than the limit; of a figure, fewer than 20 always."""
    assert Drop(1, 1, 0, (-1, 1), samples, (0, 0)).few(limit) is few
    assert Drop(1, 1, 0, (-1, 1), samples).few(limit) is (samples < FEW)


@pytest.mark.parametrize(
    ("counts", "samples", "limit", "fails", "few"),
    [
        ((1, 0), 3, 5.0, False, True),
        ((3, 0), 3, 5.0, False, True), ((8, 0), 10, 5.0, True, True),
        ((1, 0), 19, 5.0, False, True),
        ((2, 0), 20, 5.0, True, False), ((1, 0), 2, 60.0, False, False), ((1, 0), 100, 0.0, True, False),
    ],
)  # fmt: skip
def test_one_sample_of_a_few_does_not_fail_a_class(
    counts: tuple[int, int], samples: int, limit: float, fails: bool, few: bool
) -> None:
    before = np.ones(samples, bool)
    after = before.copy()
    after[: counts[0]] = False
    drop = RightWrong(before, after).drop(all_of(samples))
    assert drop.counts == counts
    assert drop.few(limit) is few
    assert drop.fails(limit, part=True) is fails
    assert drop.fails(limit) is (100 * counts[0] / samples > limit)
    assert not drop.proves(limit)


def test_a_few_samples_of_a_figure_are_never_a_proof() -> None:
    drop = Means(np.full(FEW - 1, 0.5), np.full(FEW - 1, 0.5)).drop(all_of(FEW - 1))
    assert not drop.proves(50.0)
    assert drop.needed(50.0) == FEW
    assert Means(np.full(FEW, 0.5), np.full(FEW, 0.5)).drop(all_of(FEW)).proves(50.0)


def test_samples_that_do_not_differ_are_no_proof_that_none_does() -> None:
    """As sure as for right and wrong answers, whatever the figure."""
    n = 200
    tango = RightWrong(np.ones(n, bool), np.ones(n, bool)).drop(all_of(n)).interval
    assert tango[1] == pytest.approx(100 * 3.8415 / (n + 3.8415), abs=0.01)
    assert Means(np.ones(n), np.ones(n)).drop(all_of(n)).interval == pytest.approx(tango)
    differ = np.arange(n) < RARE - 1
    pool = Pooled(lambda _: (0.5, 0.5), differ)
    assert pool.drop(all_of(n)).interval == pytest.approx(tango)
    assert Pooled(lambda _: (0.5, 0.5), ~differ).drop(all_of(n)).interval == (0, 0)
    truth = (np.arange(n) % 4).astype(np.int32)
    same = F1(truth, truth.astype(np.intp), truth.astype(np.intp))
    assert same.drop(all_of(n)).interval == pytest.approx(tango)
    assert not same.drop(all_of(n)).proves(1.0)
    other = truth.astype(np.intp).copy()
    other[::10] = (other[::10] + 1) % 4
    assert F1(truth, truth.astype(np.intp), other).drop(all_of(n)).interval[0] > 5.0


def test_f1_of_a_class_is_no_surer_than_its_samples_allow() -> None:
    """Thirty samples of a class that both models answer rightly leave as much open as thirty right answers."""
    truth = np.repeat(np.array([0, 1], np.int32), [170, 30])
    same = F1(truth, truth.astype(np.intp), truth.astype(np.intp))
    thirty = RightWrong(np.ones(30, bool), np.ones(30, bool)).drop(all_of(30)).interval
    drop = same.of_class(1, truth)
    assert drop is not None
    assert drop.interval == pytest.approx(thirty)
    assert not drop.proves(5.0)


def test_needed_is_about_the_number_that_proves_it() -> None:
    rng = np.random.default_rng(5)
    worse = rng.normal(0.005, 0.05, 4000)
    small = Means(np.zeros(100), -worse[:100]).drop(all_of(100))
    limit = small.value + 0.4
    wanted = small.needed(limit)
    assert wanted is not None
    assert wanted > 100
    again = Drop(
        0, 0, small.value, (0, small.value + (small.interval[1] - small.value) * (100 / wanted) ** 0.5), wanted
    )
    assert again.proves(limit + 1e-9)
    assert small.needed(small.value) is None
    assert small.needed(50.0) == 100


# ── F1 ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_f1_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(6)
    truth = rng.integers(0, 4, 200).astype(np.int32)
    given = np.where(rng.random(200) < 0.7, truth, rng.integers(0, 4, 200))
    classes = np.arange(4, dtype=np.int32)
    assert f1(truth, given, classes) == pytest.approx(f1_score(truth, given, average=None))
    assert F1(truth, truth.astype(np.intp), given).drop(all_of(200)).after == pytest.approx(
        f1_score(truth, given, average="macro")
    )
    binary = (truth > 1).astype(np.int32)
    answered = (given > 1).astype(np.intp)
    drop = F1(binary, binary.astype(np.intp), answered, positive=1).drop(all_of(200))
    assert drop.before == 1.0
    assert drop.after == pytest.approx(f1_score(binary, answered))
    assert drop.interval[0] < drop.value < drop.interval[1]


def test_an_answer_that_is_none_counts_against_f1() -> None:
    truth = np.array([0, 0, 1, 1], np.int32)
    assert f1(truth, np.array([0, -1, 1, 1]), np.array([0, 1], np.int32)) == pytest.approx([2 / 3, 1.0])


def test_f1_has_a_value_for_each_class() -> None:
    truth = np.repeat(np.arange(3, dtype=np.int32), 40)
    given = truth.astype(np.intp).copy()
    given[:10] = 1
    compared = F1(truth, truth.astype(np.intp), given)
    first, last = compared.of_class(0, truth), compared.of_class(2, truth)
    assert first is not None
    assert last is not None
    assert first.after == pytest.approx(2 * 30 / (2 * 30 + 10))
    assert (first.samples, last.value) == (40, 0.0)
