"""The search for the smallest failing part: what it finds, and in how many trials."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from edgeship.optimize.compare.graph import Graph
from edgeship.optimize.doctor.bisect import Cut, LimitReachedError, beginning, between, fewest, smallest


def chain(count: int) -> Graph:
    """l0 -> l1 -> …"""
    return graph([(f"l{i}", [f"l{i - 1}" if i else "x"]) for i in range(count)])


def graph(layers: list[tuple[str, list[str]]], outputs: tuple[str, ...] = ()) -> Graph:
    items: list[dict[str, Any]] = [
        {"name": n, "operator": "Op", "node": "", "inputs": i, "outputs": [n], "shape": [1], "weights": 0, "read": n}
        for n, i in layers
    ]
    return Graph.parse({"layers": items, "inputs": ["x"], "outputs": list(outputs) or [layers[-1][0]]})


def holding(*names: str) -> Callable[[Cut], bool]:
    return lambda cut: set(names) <= set(cut.layers)


@pytest.mark.parametrize("culprit", [0, 1, 63, 64, 199])
def test_one_layer_is_found_in_a_logarithm_of_trials(culprit: int) -> None:
    found = smallest(chain(200), holding(f"l{culprit}"), most=100)
    assert found is not None
    assert found.cut == Cut((f"l{culprit}",), (f"l{culprit - 1}" if culprit else "x",), (f"l{culprit}",))
    assert found.trials <= math.ceil(math.log2(200)) + 2


def test_layers_that_fail_together_only_are_the_smallest_part() -> None:
    found = smallest(chain(64), holding("l20", "l23"), most=100)
    assert found is not None
    assert found.cut.layers == ("l20", "l21", "l22", "l23")
    assert found.trials <= 2 * 6 + 3


def test_what_is_on_another_branch_is_left_out() -> None:
    g = graph([("a", ["x"]), ("other", ["x"]), ("b", ["a"]), ("join", ["b", "other"]), ("end", ["join"])])
    found = smallest(g, holding("a", "b"), most=50)
    assert found is not None
    assert found.cut == Cut(("a", "b"), ("x",), ("b",))


def test_a_beginning_gives_out_what_nothing_in_it_reads() -> None:
    g = graph([("a", ["x"]), ("b", ["a"]), ("c", ["a"]), ("d", ["b", "c"])])
    assert beginning(g, 2) == Cut(("a", "b", "c"), ("x",), ("b", "c"))
    assert between(g, 1, 3) == Cut(("b", "c", "d"), ("a",), ("d",))


def test_a_failure_that_no_part_shows_is_nothing() -> None:
    assert smallest(chain(10), lambda cut: False, most=50) is None


def test_at_the_limit_the_best_so_far_is_kept() -> None:
    found = smallest(chain(200), holding("l50"), most=3)
    assert found is not None
    assert len(found.cut.layers) == 100  # all, then the first half
    assert found.trials == 3

    def stopped(cut: Cut) -> bool:
        raise LimitReachedError

    assert smallest(chain(5), stopped, most=10) is None


@pytest.mark.parametrize(
    ("needed", "expected"),
    [
        ({"n0"}, ("n0",)), ({"n5"}, ("n5",)), ({"n2", "n4"}, ("n2", "n3", "n4")),
        ({"n0", "n9"}, tuple(f"n{i}" for i in range(10))),
    ],
)  # fmt: skip
def test_the_fewest_that_help(needed: set[str], expected: tuple[str, ...]) -> None:
    names = [f"n{i}" for i in range(10)]
    assert fewest(names, lambda kept: needed <= set(kept), most=20) == expected


def test_where_not_all_of_them_help_there_are_none() -> None:
    assert fewest(["a", "b", "c"], lambda kept: False, most=20) is None
    assert fewest([], lambda kept: True, most=20) is None
    assert fewest(["a", "b", "c"], lambda kept: "c" in kept, most=1) is None
