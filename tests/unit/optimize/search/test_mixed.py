"""The fewest layers in float."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from edgeship.optimize.search.mixed import Judge, Part, fewest, least


def judge(needed: set[str], asked: list[tuple[str, ...]]) -> Judge:
    """The budget holds when all of `needed` are kept."""

    def judged(sets: Sequence[tuple[str, ...]]) -> list[bool]:
        asked.extend(sets)
        return [needed <= set(keep) for keep in sets]

    return judged


LAYERS = [f"layer{i}" for i in range(50)]
PARTS = [Part(name, place) for place, name in enumerate(LAYERS)]


def test_the_costliest_few_are_found_with_few_tries() -> None:
    asked: list[tuple[str, ...]] = []
    assert fewest(PARTS, judge({"layer0", "layer1", "layer2"}, asked)) == ("layer0", "layer1", "layer2")
    assert len(asked) < 15


def test_a_layer_that_is_not_needed_is_left_out_although_it_ranks_higher() -> None:
    assert fewest(PARTS, judge({"layer0", "layer4"}, [])) == ("layer0", "layer4")


def test_nothing_is_found_where_half_of_the_weights_are_not_enough() -> None:
    assert fewest(PARTS, judge({"layer15", "layer35"}, [])) is None
    assert fewest([], judge(set(), [])) is None


def test_one_layer_can_be_enough() -> None:
    assert fewest([Part("a", 1), Part("b", 0)], judge({"a"}, [])) == ("a",)


def test_a_small_model_is_never_kept_in_float_whole() -> None:
    small = [Part("a", 0), Part("b", 1), Part("c", 2)]
    assert fewest(small, judge({"a", "b", "c"}, [])) is None
    assert set(fewest(small, judge({"a", "b"}, [])) or ()) == {"a", "b"}


def test_more_than_a_few_are_found_to_the_layer_and_not_tried_one_by_one() -> None:
    asked: list[tuple[str, ...]] = []
    assert fewest(PARTS, judge(set(LAYERS[:11]), asked)) == tuple(LAYERS[:11])
    assert len(asked) < 25


def test_of_two_that_would_do_the_costlier_stays_in_float() -> None:
    def judged(sets: Sequence[tuple[str, ...]]) -> list[bool]:
        return ["d" in keep and len(keep) > 1 for keep in sets]

    assert fewest([Part(name, place) for place, name in enumerate("abcdefgh")], judged) == ("a", "d")


@given(st.sets(st.sampled_from(LAYERS[:25]), min_size=1, max_size=8))
def test_what_is_found_meets_the_budget_and_is_the_least_for_small_sets(needed: set[str]) -> None:
    found = fewest(PARTS, judge(needed, []))
    assert found is not None
    assert needed <= set(found)
    if max(LAYERS.index(n) for n in needed) < 8:
        assert set(found) == needed


def scattered(region: range, weights: int, work: int) -> list[Part]:
    """50 layers of which those of a region cost most, in an order that has nothing to do with their places."""
    costly = [Part(f"layer{i}", i, weights, work) for i in region]
    others = [Part(f"layer{i}", i, 100, 100) for i in range(50) if i not in region]
    return [*costly[1::2], *others[5:9], *costly[::2], *others[:5], *others[9:]]


def test_a_region_that_mends_as_a_whole_is_kept_without_layers_of_elsewhere() -> None:
    """A spectral front end: 30 operators, none of which alone matters, before a net with all the weights."""
    parts = scattered(range(30), 0, 1)
    needed = {f"layer{i}" for i in range(30)}
    found = fewest(parts, judge(needed, []))
    assert found is not None
    assert set(found) == needed


def test_an_end_is_found_as_well_as_a_beginning() -> None:
    parts = scattered(range(20, 50), 0, 1)[::-1]  # what ranks first is of no use
    needed = {f"layer{i}" for i in range(20, 50)}
    found = fewest(parts, judge(needed, []))
    assert found is not None
    assert set(found) == needed


def test_operators_without_weights_are_no_share_of_the_weights() -> None:
    parts = [Part(f"layer{i}", i, 0, 10) for i in range(40)] + [Part(f"layer{i}", i, 1000, 10) for i in range(40, 50)]
    assert fewest(parts, judge({"layer39"}, [])) is not None


def test_half_of_the_work_may_be_kept_although_it_has_more_than_half_of_the_weights_but_not_both() -> None:
    def parts(work: int) -> list[Part]:
        return [Part(f"layer{i}", i, 1000, work) for i in range(20)] + [
            Part(f"layer{i}", i, 10, 100) for i in range(20, 50)
        ]

    needed = {f"layer{i}" for i in range(20)}
    assert set(fewest(parts(1), judge(needed, [])) or ()) == needed
    assert fewest(parts(1000), judge(needed, [])) is None


@given(st.integers(0, 40), st.integers(0, 40))
def test_the_least_count_is_found_without_trying_all(most: int, needed: int) -> None:
    needed = min(needed, most)
    asked: list[int] = []

    def good(counts: Sequence[int]) -> list[bool]:
        asked.extend(counts)
        return [count >= needed for count in counts]

    assert least(most, good) == needed
    assert len(asked) <= 12
    assert most not in asked  # that is known
