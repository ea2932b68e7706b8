"""The measure that layers are ranked by."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from edgeship.targets.sensitivity import BROKEN, SINGLY, costs, relative_error


def test_equal_answers_cost_nothing_and_noise_as_large_as_the_signal_costs_one() -> None:
    y = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    assert relative_error([y], [y]) == 0
    assert relative_error([y], [np.broadcast_to(y.mean(axis=0), y.shape)]) == pytest.approx(1)


def test_what_an_output_always_says_hides_nothing() -> None:
    y = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    assert relative_error([y + 1000], [y + 1000.5]) > 0.1


def test_the_worst_output_counts_and_no_number_is_broken() -> None:
    y = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    assert relative_error([y, y], [y, y * 1.1]) == relative_error([y, y], [y * 1.1, y]) > 0
    steady = np.full((50, 4), 2.0, np.float32)
    assert relative_error([steady], [steady * 1.1]) == pytest.approx(0.01, rel=1e-4), "against what it always says"
    assert relative_error([y], [np.full_like(y, np.nan)]) == BROKEN
    assert relative_error([np.zeros((3, 2), np.float32)], [np.ones((3, 2), np.float32)]) > 0


def counted(
    each: dict[str, float], asked: list[Sequence[str]], least: float = 1e-4
) -> Callable[[Sequence[str]], float]:
    """Errors that add up."""

    def error(names: Sequence[str]) -> float:
        asked.append(names)
        return sum(each.get(name, least) for name in names)

    return error


def test_a_few_layers_are_measured_one_by_one() -> None:
    names, asked = [f"layer{i}" for i in range(SINGLY)], list[Sequence[str]]()
    assert costs(names, counted({"layer7": 2.0}, asked))[7] == 2.0
    assert all(len(group) == 1 for group in asked)


def test_of_many_layers_the_costly_ones_are_found_without_measuring_all() -> None:
    names, asked = [f"layer{i}" for i in range(300)], list[Sequence[str]]()
    each = {"layer11": 0.5, "layer150": 0.2, "layer299": 0.9}
    found = costs(names, counted(each, asked))
    assert len(asked) < 90
    order = sorted(range(300), key=lambda i: -found[i])
    assert order[:3] == [299, 11, 150]
    assert all(cost > 0 for cost in found)
    assert sum(found) == pytest.approx(1.6 + 297e-4)


def test_an_error_that_is_no_number_is_followed_to_its_layer() -> None:
    names = [f"layer{i}" for i in range(300)]
    found = costs(names, lambda group: BROKEN if "layer42" in group else 0.0)
    assert [i for i, cost in enumerate(found) if cost == BROKEN] == [42]
