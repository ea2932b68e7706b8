"""Masks: which single weights stay."""

from __future__ import annotations

import numpy as np
import pytest

from edgeship.optimize.prune import masks


def test_the_largest_weights_stay() -> None:
    kernel = np.array([[3, -1, 2], [-4, 0.5, 0.1]], np.float32)
    mask = masks.by_magnitude({"a": kernel}, 0.5)["a"]
    assert mask.tolist() == [[True, False, True], [True, False, False]]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.7, 0.95])
def test_so_many_become_zero(share: float) -> None:
    rng = np.random.default_rng(0)
    kernels = {"a": rng.normal(size=(30, 20)).astype("f"), "b": rng.normal(size=(3, 3, 8, 16)).astype("f")}
    chosen = masks.by_magnitude(kernels, share)
    zeros = sum(int((~mask).sum()) for mask in chosen.values())
    assert zeros == round(share * (600 + 1152))


def test_a_layer_of_small_weights_is_not_emptied() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 40)).astype("f")
    chosen = masks.by_magnitude({"large": values, "small": values * np.float32(1e-3)}, 0.5)
    assert np.array_equal(chosen["large"], chosen["small"])


def test_two_of_every_four_inputs_stay_for_each_output() -> None:
    rng = np.random.default_rng(1)
    kernel = rng.normal(size=(3, 3, 8, 5)).astype("f")
    mask = masks.two_of_four(kernel)
    rows = mask.reshape(3, 3, 2, 4, 5)
    assert (rows.sum(axis=3) == 2).all()
    kept = np.where(rows, np.abs(kernel.reshape(rows.shape)), np.inf).min(axis=3)
    lost = np.where(rows, -np.inf, np.abs(kernel.reshape(rows.shape))).max(axis=3)
    assert (kept >= lost).all()


def test_equal_weights_leave_two_too() -> None:
    assert masks.two_of_four(np.ones((4, 1), np.float32)).ravel().tolist() == [True, True, False, False]


@pytest.mark.parametrize(("shape", "fits"), [((8, 3), True), ((6, 8), False), ((3, 3, 12, 1), True), ((8,), False)])
def test_rows_of_four_need_a_multiple_of_four_inputs(shape: tuple[int, ...], fits: bool) -> None:
    assert masks.fits(shape) is fits


def test_zeros_come_fast_and_then_slowly() -> None:
    shares = [masks.schedule(done, 0.8) for done in (-1.0, 0.0, 0.25, 0.5, 1.0, 2.0)]
    assert shares[:2] == [0, 0]
    assert shares[-2:] == [0.8, 0.8]
    assert shares[2] == pytest.approx(0.8 * (1 - 0.75**3))
