"""The measure that layers are ranked by."""

from __future__ import annotations

import numpy as np
import pytest

from edgeship.targets.sensitivity import BROKEN, relative_error


def test_equal_answers_cost_nothing_and_noise_as_large_as_the_signal_costs_one() -> None:
    y = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    assert relative_error([y], [y]) == 0
    assert relative_error([y], [np.broadcast_to(y.mean(axis=0), y.shape)]) == pytest.approx(1)


def test_what_an_output_always_says_hides_nothing() -> None:
    y = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    assert relative_error([y + 1000], [y + 1000.5]) > 0.1


def test_the_worst_output_counts_and_no_number_is_broken() -> None:
    y = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    assert relative_error([y, y], [y, y * 1.1]) > 0
    assert relative_error([y], [np.full_like(y, np.nan)]) == BROKEN
    assert relative_error([np.zeros((3, 2), np.float32)], [np.ones((3, 2), np.float32)]) > 0
