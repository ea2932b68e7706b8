"""Errors part by part: figures that numpy gives directly, parts that are named, memory that does not grow."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeship.optimize import parts
from edgeship.optimize.parts import PartError, axes, measure
from edgeship.runtime.manifest import TensorSpec

Array = NDArray[np.float32]


def spec(*shape: int) -> TensorSpec:
    return TensorSpec("out", "float32", shape)


def one(wanted: Array, given: Array, part: str = "") -> PartError:
    (found,) = (e for e in measure([wanted], [given], [spec(*wanted.shape[1:])]) if e.part == part)
    return found


@pytest.fixture
def pair() -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    wanted = rng.normal(6, 1, (40, 1, 6)).astype(np.float32)
    return wanted, wanted + rng.normal(0, 0.1, wanted.shape).astype(np.float32)


def test_the_figures_are_those_of_their_definitions(pair: tuple[Array, Array]) -> None:
    wanted, given = pair
    e, g = (array.reshape(40, 6).astype(np.float64) for array in pair)
    found = one(wanted, given)
    assert found.cosine == pytest.approx((e * g).sum() / np.sqrt((e * e).sum() * (g * g).sum()), abs=1e-12)
    assert found.sqnr_db == pytest.approx(10 * np.log10((e * e).sum() / ((e - g) ** 2).sum()), abs=1e-9)
    ec, gc = e - e.mean(axis=0), g - g.mean(axis=0)
    assert found.centred == pytest.approx((ec * gc).sum() / np.sqrt((ec * ec).sum() * (gc * gc).sum()), abs=1e-9)
    span = max(e.max(), 0) - min(e.min(), 0)
    assert e.min() > 0, "the span reaches down to 0, which a quantizer must represent"
    assert found.span == pytest.approx(span)
    assert found.range == pytest.approx(e.max() - e.min())
    assert found.worst == pytest.approx(np.abs(e - g).max() / span)
    assert found.rms == pytest.approx(np.sqrt(((e - g) ** 2).mean()) / span)
    assert found.varies == pytest.approx(np.sqrt((ec * ec).mean()) / span)
    assert found.agreement == pytest.approx((e.argmax(axis=1) == g.argmax(axis=1)).mean())


def test_a_column_is_judged_as_if_it_were_alone(pair: tuple[Array, Array]) -> None:
    wanted, given = pair
    alone = one(wanted[..., 4:5], given[..., 4:5])
    column = one(wanted, given, "column 4")
    assert (column.cosine, column.sqnr_db, column.worst) == pytest.approx((alone.cosine, alone.sqnr_db, alone.worst))
    assert column.name == "out, column 4"


def test_figures_do_not_depend_on_how_many_samples_are_summed_at_a_time(
    pair: tuple[Array, Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = one(*pair)
    monkeypatch.setattr(parts, "_CHUNK", 12)
    assert one(*pair).centred == pytest.approx(whole.centred, abs=1e-12)
    assert one(*pair).sqnr_db == pytest.approx(whole.sqnr_db)


def test_a_large_mean_costs_no_digits() -> None:
    rng = np.random.default_rng(1)
    wanted = (1e6 + rng.normal(0, 1, (50, 3))).astype(np.float32)
    assert one(wanted, wanted.copy()).centred == pytest.approx(1.0)
    assert one(wanted, wanted[rng.permutation(50)]).centred == pytest.approx(0, abs=0.3)


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        ((9, 1, 10), ((2, "column"),)), ((9, 10), ((1, "column"),)), ((9, 1), ()), ((9,), ()), ((9, 1, 1), ()),
        ((9, 1, 49, 14), ((3, "column"), (2, "row"))), ((9, 1, 3, 8, 8), ((2, "channel"),)),
        ((9, 1, 7, 7, 256), ((4, "channel"),)), ((9, 1, 8, 8, 1), ()), ((9, 1, 1, 40, 60), ()),
        ((9, 1, 2, 40, 60), ((2, "channel"),)), ((9, 1, 40, 60, 4), ((4, "channel"),)),
        ((9, 40, 5), ((2, "column"), (1, "row"))),
    ],
)  # fmt: skip
def test_which_axes_are_taken_apart(shape: tuple[int, ...], found: tuple[tuple[int, str], ...]) -> None:
    assert axes(shape) == found


def test_the_number_of_parts_is_bounded() -> None:
    wanted = np.random.default_rng(0).normal(size=(3, 1, 10_000)).astype(np.float32)
    found = measure([wanted], [wanted], [spec(1, 10_000)])
    assert len(found) <= parts.MAX_PARTS + 1
    assert found[1].part == "columns 0–2"
    assert sum(e.elements for e in found[1:]) == 10_000


def test_equal_answers_have_no_error(pair: tuple[Array, Array]) -> None:
    same = one(pair[0], pair[0])
    assert same.cosine == pytest.approx(1.0)
    assert (same.sqnr_db, same.worst, same.broken) == (math.inf, 0.0, 0)


def test_nan_is_broken_where_the_source_is_sound_and_an_answer_where_it_is_not() -> None:
    wanted = np.ones((4, 3), np.float32)
    given = wanted.copy()
    wanted[0, 0] = given[0, 0] = -np.inf  # a mask is an answer
    assert one(wanted, given).broken == 0
    given[1, 1] = np.nan
    given[0, 0] = np.inf
    assert one(wanted, given).broken == 2
    assert one(wanted, given, "column 1").broken == 1
    assert np.isfinite(one(wanted, given).cosine)


def test_a_variant_that_always_answers_the_same_is_constant(pair: tuple[Array, Array]) -> None:
    wanted, _ = pair
    mean = np.broadcast_to(wanted.mean(axis=0, keepdims=True), wanted.shape).copy()
    blind = one(wanted, mean)
    assert blind.constant
    assert blind.centred == 0.0
    assert blind.cosine > 0.9
    still = one(mean, mean)
    assert not still.constant
    assert still.centred is None


@pytest.mark.parametrize(
    ("values", "unit"),
    [([0.0, 1.0], True), ([-0.00009, 1.00009], True), ([-0.5, 1.0], False), ([0.0, 1.5], False), ([0.2, 0.4], True)],
)
def test_shares_lie_within_0_and_1(values: list[float], unit: bool) -> None:
    wanted = np.array(values, np.float32)[:, None]
    assert one(wanted, wanted).unit is unit


def test_a_sample_is_clear_where_the_highest_leads_the_second() -> None:
    wanted = np.array([[[0.52, 0.48, 0.0]], [[0.7, 0.2, 0.1]], [[0.1, 0.8, 0.1]]], np.float32)
    found = one(wanted, wanted[:, :, [1, 0, 2]])
    assert (found.agreement, found.clear, found.clear_samples) == (0.0, 0.0, 2)
    given = wanted.copy()
    given[1, 0, 0] = np.nan  # where its highest stands
    assert one(wanted, given).agreement == pytest.approx(2 / 3)
    table = np.random.default_rng(0).random((4, 1, 2, 3)).astype(np.float32)
    assert one(table, table).agreement is None, "a table has no one highest place"


def test_the_last_digit_of_float32_is_no_variation() -> None:
    steady = np.full((50, 1), 16777215, np.float32)
    steady[::2] += 1
    assert one(steady, steady).centred is None
    moving = np.random.default_rng(0).normal(5, 1, (50, 1)).astype(np.float32)
    nearly = np.full((50, 1), 5, np.float32)
    nearly[::2] = np.nextafter(np.float32(5), np.float32(6))
    found = one(moving, nearly)
    assert found.constant
    assert found.centred == 0.0


def test_one_sample_tells_nothing_about_what_varies() -> None:
    found = one(np.ones((1, 3), np.float32), np.ones((1, 3), np.float32))
    assert (found.centred, found.constant) == (None, False)


def test_a_part_of_zeros_is_compared_with_the_whole() -> None:
    wanted = np.zeros((5, 2), np.float32)
    wanted[:, 0] = 10
    given = wanted.copy()
    given[:, 1] = 1
    assert one(wanted, given, "column 1").worst == pytest.approx(0.1)


def test_answers_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        measure([np.ones((2, 3), np.float32)], [np.ones((2, 4), np.float32)], [spec(3)])
