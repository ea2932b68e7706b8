"""The fewest layers in float."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from edgeship.optimize.search.mixed import Judge, fewest


def judge(needed: set[str], asked: list[tuple[str, ...]]) -> Judge:
    """The budget holds when all of `needed` are kept."""

    def judged(sets: Sequence[tuple[str, ...]]) -> list[bool]:
        asked.extend(sets)
        return [needed <= set(keep) for keep in sets]

    return judged


LAYERS = [f"layer{i}" for i in range(50)]


def test_the_costliest_few_are_found_with_few_tries() -> None:
    asked: list[tuple[str, ...]] = []
    assert fewest(LAYERS, judge({"layer0", "layer1", "layer2"}, asked)) == ("layer0", "layer1", "layer2")
    assert len(asked) < 15


def test_a_layer_that_is_not_needed_is_left_out_although_it_ranks_higher() -> None:
    assert fewest(LAYERS, judge({"layer0", "layer4"}, [])) == ("layer0", "layer4")


def test_nothing_is_found_where_half_of_the_layers_are_not_enough() -> None:
    assert fewest(LAYERS, judge({"layer30"}, [])) is None
    assert fewest([], judge(set(), [])) is None


def test_one_layer_can_be_enough() -> None:
    assert fewest(["a", "b"], judge({"a"}, [])) == ("a",)


@given(st.sets(st.sampled_from(LAYERS[:25]), min_size=1, max_size=8))
def test_what_is_found_meets_the_budget_and_is_the_least_for_small_sets(needed: set[str]) -> None:
    found = fewest(LAYERS, judge(needed, []))
    assert found is not None
    assert needed <= set(found)
    if max(LAYERS.index(n) for n in needed) < 8:
        assert set(found) == needed
