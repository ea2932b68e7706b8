"""The measures of a pair of tensors: sums over samples equal the formulas over everything at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeship import wording
from edgeship.optimize.compare.perform import Part
from edgeship.targets.difference import MOST_DB, Pair, decibel

RNG = np.random.default_rng(0)


def measure(a: np.ndarray, b: np.ndarray, *, channels_first: bool = False) -> dict[str, Any]:
    pair = Pair(a.shape[1:], channels_first=channels_first)
    for one, other in zip(a, b, strict=True):
        pair.add(one, other)
    return pair.result()


def test_streaming_gives_what_the_formulas_give_on_the_whole() -> None:
    a = RNG.normal(1, 3, (20, 1, 5, 7))
    b = a + RNG.normal(0, 0.1, a.shape)
    found, d = measure(a, b), b - a
    assert found["elements"] == a.size
    assert found["noise"] == pytest.approx((d**2).sum() / (a**2).sum())
    assert found["sqnr_db"] == pytest.approx(-10 * np.log10(found["noise"]))
    assert found["cosine"] == pytest.approx((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))
    assert (found["max_abs"], found["low"], found["high"]) == (np.abs(d).max(), a.min(), a.max())
    levels = 10 * np.log10(a.var(axis=(0, 1, 2)) / (d**2).mean(axis=(0, 1, 2)))
    assert found["worst_part"]["index"] == levels.argmin()
    assert found["worst_part"]["sqnr_db"] == pytest.approx(levels.min())


def test_a_small_part_beside_a_large_one_is_judged_by_itself() -> None:
    """Boxes of 0 to 320 and a score of 0 to 1 in one tensor with one scale: the whole looks fine, the score is gone."""
    a = np.concatenate([RNG.uniform(0, 320, (50, 9, 4)), RNG.uniform(0, 1, (50, 9, 1))], axis=2)
    b = np.rint(a / 1.26) * 1.26
    found = measure(a, b)
    assert found["sqnr_db"] > 40
    assert found["worst_part"]["index"] == 4
    assert found["worst_part"]["sqnr_db"] < 3


def test_channels_of_images_are_the_second_axis_in_onnx() -> None:
    a = RNG.normal(size=(4, 1, 3, 6, 6))
    b = a.copy()
    b[:, :, 2] += 0.5
    assert measure(a, b, channels_first=True)["worst_part"] == pytest.approx(
        {"axis": 1, "index": 2, "sqnr_db": 6, "share": 1}, abs=1
    )


def test_of_a_nearly_constant_channel_it_is_told_how_little_it_varies() -> None:
    a = RNG.normal(size=(200, 1, 4)) * (1, 1, 1, 0.004)
    b = a + RNG.normal(size=a.shape) * 0.02
    found = measure(a, b)["worst_part"]
    assert found["index"] == 3
    assert found["sqnr_db"] < -10
    assert found["share"] == pytest.approx(0.004, rel=0.2)
    part = Part(found["axis"], found["index"], found["sqnr_db"], found["share"])
    assert part.words == f"channel 3, nearly constant: varies by {wording.share(found['share'])} of the largest"
    assert Part(2, 1, 30.0, 0.5).words == "channel 1"


def test_tensors_that_are_equal_differ_by_nothing() -> None:
    a = RNG.normal(size=(3, 1, 4))
    found = measure(a, a)
    assert (found["sqnr_db"], found["noise"], found["max_abs"]) == (MOST_DB, 0.0, 0.0)
    zero = np.zeros((3, 1, 4))
    assert (measure(zero, zero)["cosine"], measure(zero, zero)["sqnr_db"]) == (1.0, MOST_DB)


def test_what_is_not_finite_is_counted_and_left_out() -> None:
    a = RNG.normal(size=(3, 1, 4))
    b = a.copy()
    b[1, 0, 2], b[2, 0, 0] = np.nan, np.inf
    found = measure(a, b)
    assert (found["nan_a"], found["nan_b"], found["max_abs"]) == (0, 2, 0.0)


def test_decibels_stay_within_their_limits() -> None:
    assert (decibel(1, 0), decibel(0, 1), decibel(1, 1e-300), decibel(100, 1)) == (MOST_DB, -MOST_DB, MOST_DB, 20)
