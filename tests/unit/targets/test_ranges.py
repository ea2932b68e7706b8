"""From histogram to range: what each choice promises, and what ONNX Runtime's own formulas make of the same counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeship.targets import ranges

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
