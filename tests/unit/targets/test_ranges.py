"""From histogram to range: what each choice promises, and what ONNX Runtime's own formulas make of the same counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from edgeship.targets import ranges
from edgeship.targets.histogram import Histogram

RNG = np.random.default_rng(3)
SHAPES = {
    "normal": RNG.normal(size=200_000), "one side": np.abs(RNG.normal(size=200_000)), "tails": RNG.laplace(
        size=200_000), "outlier": np.append(RNG.normal(size=200_000), 60.0), "clipped": np.clip(
        RNG.normal(2, 3, 200_000), 0, 6),
}  # fmt: skip


def histogram(values: Any, bins: int = ranges.BINS) -> tuple[Any, Any, tuple[float, float]]:
    top = np.abs(values).max()
    counts, edges = np.histogram(values, bins, range=(-top, top))
    return counts, edges, (float(values.min()), float(values.max()))


def error(values: Any, low: float, high: float, levels: int = 256) -> float:
    """Mean squared error of asymmetric quantization over a range."""
    low, high = min(low, 0.0), max(high, 0.0)
    step = (high - low) / (levels - 1)
    zero = np.rint(-low / step)
    told = (np.clip(np.rint(values / step) + zero, 0, levels - 1) - zero) * step
    return float(((values - told) ** 2).mean())


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("choice", ["percentile", "entropy", "mse"])
def test_a_range_lies_within_what_was_seen(name: str, choice: str) -> None:
    counts, edges, seen = histogram(SHAPES[name])
    if choice == "mse":
        found = ranges.squared_error(counts, edges, seen, 256, centred=False)
    else:
        found = getattr(ranges, choice)(counts, edges, seen)
    assert seen[0] <= found[0] < found[1] <= seen[1]


@pytest.mark.parametrize("name", SHAPES)
def test_the_least_squared_error_is_no_more_than_that_of_the_other_choices(name: str) -> None:
    values = SHAPES[name]
    counts, edges, seen = histogram(values)
    best = error(values, *ranges.squared_error(counts, edges, seen, 256, centred=False))
    others = [seen, ranges.percentile(counts, edges, seen), ranges.entropy(counts, edges, seen)]
    assert best <= 1.03 * min(error(values, *other) for other in others)


def test_one_outlier_moves_min_max_and_nothing_else() -> None:
    counts, edges, seen = histogram(SHAPES["outlier"])
    assert seen[1] == 60.0
    assert ranges.percentile(counts, edges, seen, 99.99)[1] < 6
    assert ranges.entropy(counts, edges, seen)[1] < 12
    assert ranges.squared_error(counts, edges, seen, 256, centred=False)[1] < 50


def test_sixteen_bits_clip_less_than_eight() -> None:
    counts, edges, seen = histogram(SHAPES["tails"])
    eight, sixteen = (ranges.squared_error(counts, edges, seen, levels, centred=True) for levels in (256, 65536))
    assert eight[1] < sixteen[1]


def test_percentiles_leave_out_what_they_say() -> None:
    values = SHAPES["normal"]
    low, high = ranges.percentile(*histogram(values), 99.0)
    assert ((values < low) | (values > high)).mean() == pytest.approx(0.01, abs=0.002)


def test_entropy_is_no_worse_than_onnx_runtime_by_the_published_measure() -> None:
    """Its own differs in three places, so thresholds differ; ours never loses more information than its."""
    from onnxruntime.quantization.calibrate import HistogramCollector

    theirs = HistogramCollector("entropy", False, 512, 128, 99.999, "same")
    for name, values in SHAPES.items():
        counts, edges, seen = histogram(values, 512)
        limits = np.float32(seen[0]), np.float32(seen[1])
        low, high = theirs.get_entropy_threshold((counts, edges.astype(np.float32), *limits), 128)

        def loss(top: float, counts: Any = counts, edges: Any = edges) -> float:
            end = int(np.abs(edges - top).argmin())
            starts = {max(0, len(counts) - end + 1), 0} if end == len(counts) else {len(counts) - end + 1}
            return min(
                ranges._divergence(counts[s:end].astype(float), counts[:s].sum(), counts[end:].sum(), 128)
                for s in starts
            )

        ours = max(map(abs, ranges.entropy(counts, edges, seen)))
        assert loss(ours) <= loss(max(abs(float(low)), abs(float(high)))) + 1e-9, name


def test_averages_and_symmetry() -> None:
    assert ranges.average(None, (-1.0, 2.0)) == (-1.0, 2.0)
    assert ranges.average((-1.0, 2.0), (-3.0, 2.0)) == (-1.02, 2.0)
    assert ranges.symmetric(-1.0, 3.0) == (-3.0, 3.0)
    assert ranges.symmetric(-3.0, 1.0) == (-3.0, 3.0)


def grown(values: Any) -> Histogram:
    found = Histogram()
    found.add(np.asarray(values, np.float32))
    return found


@pytest.mark.parametrize("choice", ["percentile", "entropy", "mse"])
def test_of_nothing_but_zeros_every_choice_says_zero(choice: str) -> None:
    for symmetric in (False, True):
        assert ranges.of_histogram(choice, grown(np.zeros(100)), symmetric, 256) == (0.0, 0.0)


def test_a_symmetric_percentile_is_that_of_the_magnitudes() -> None:
    """Twenty of 200,000 values lie far below and one far above: as far up as down, though that is one in 200,000."""
    drawn = np.random.default_rng(4).uniform(-1, 1, 199_979)
    found = grown(np.concatenate([drawn, np.full(20, -9.0), [9.0]]))
    low, high = ranges.of_histogram("percentile", found, True, 256)
    assert low == -high == pytest.approx(-9.0, abs=0.01)
    low, high = ranges.of_histogram("percentile", found, False, 256)
    assert low == pytest.approx(-9.0, abs=0.01)
    assert high == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("centred", [False, True])
def test_zeros_are_exact_and_move_no_threshold(centred: bool) -> None:
    """Behind a Relu half of the values are 0, which costs nothing: what is clipped is decided by the others."""
    counts, edges, seen = histogram(SHAPES["tails"])
    found = ranges.squared_error(counts, edges, seen, 256, centred=centred)
    more = counts.copy()
    more[(edges[:-1] <= 0) & (edges[1:] > 0)] += 10_000_000
    assert ranges.squared_error(more, edges, seen, 256, centred=centred) == found


def test_a_centred_range_reaches_as_far_as_the_longer_side() -> None:
    values = -np.abs(SHAPES["normal"])
    counts, edges, seen = histogram(values)
    assert seen[1] < 0.001
    low, _ = ranges.squared_error(counts, edges, seen, 256, centred=True)
    assert low < -3.0


def test_both_ends_are_found_together() -> None:
    """An end that is clipped makes steps finer, and that may be worth clipping the other end more."""
    rng = np.random.default_rng(9)
    for values in (
        np.concatenate([rng.normal(size=50_000), rng.uniform(-60, -20, 6), rng.uniform(20, 45, 4)]),
        np.concatenate([rng.laplace(size=50_000), rng.uniform(10, 90, 9)]), rng.standard_t(3, 50_000),
    ):  # fmt: skip
        counts, edges, seen = histogram(values)
        shares = np.linspace(0.2, 1.0, 81)
        least = min(error(values, seen[0] * a, seen[1] * b, 16) for a in shares[::8] for b in shares[::8])
        assert error(values, *ranges.squared_error(counts, edges, seen, 16, centred=False), 16) <= 1.02 * least


def plain_entropy(counts: Any, edges: Any, levels: int) -> tuple[float, float]:
    """Migacz's algorithm as it is told, bin by bin, with scipy's divergence and MXNet's smoothing."""
    middle, found = len(counts) // 2, []

    def smoothed(values: Any) -> Any:
        empty = int((values == 0).sum())
        out = [1e-4 if v == 0 else v - 1e-4 * empty / (len(values) - empty) for v in values]
        return out if min(out) > 0 else None

    for i in range(levels // 2, middle + 1):
        start, end = middle - i, min(middle + i + 1, len(counts))
        inside = [float(v) for v in counts[start:end]]
        reference = list(inside)
        reference[0] += float(sum(counts[:start]))
        reference[-1] += float(sum(counts[end:]))
        told = [0.0] * len(inside)
        width = len(inside) // levels
        for level in range(levels):
            places = range(level * width, len(inside) if level == levels - 1 else (level + 1) * width)
            filled = [p for p in places if reference[p] != 0]
            for p in filled:
                told[p] = sum(inside[q] for q in places) / len(filled)
        p_, q_ = smoothed(np.array(reference)), smoothed(np.array(told)) if any(told) else None
        if p_ is not None and q_ is not None:
            found.append((float(stats.entropy(p_, q_)), start, end))
    _, start, end = min(found, key=lambda item: item[0])
    return float(edges[start]), float(edges[end])


@pytest.mark.parametrize("side", [-1, 1])
def test_entropy_is_that_of_the_published_algorithm_on_either_side(side: int) -> None:
    """Values with gaps and with outliers on one side alone."""
    rng = np.random.default_rng(11)
    values = side * np.concatenate([np.round(rng.gamma(2, 1, 4000), 1), rng.normal(0, 0.3, 4000), [31, 35, 40, 40]])
    counts, edges, seen = histogram(values, 256)
    low, high = plain_entropy(counts, edges, 32)
    assert ranges.entropy(counts, edges, seen, 32) == (max(low, seen[0]), min(high, seen[1]))
    assert max(-low, high) < 40
