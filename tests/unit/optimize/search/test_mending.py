"""What is tried with a finalist that breaks its budget. Candidates are judged by made-up costs that add up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from edgeship.optimize.search.candidate import Candidate
from edgeship.optimize.search.evaluate import Outcome
from edgeship.optimize.search.mending import Means, Mended, by_weights, mend, mendable
from edgeship.optimize.search.sensitivity import Cost
from edgeship.targets.base import Layer
from edgeship.targets.scheme import Scheme
from tests.simulators.searched import outcome as judged

LIMIT = 1.0  # points
NOT_ENOUGH = "that is not enough"

#: name, elements of weights, points that int8 costs, points that its weights alone cost
LAYERS = [("stem", 10, 3.0, 2.5), ("wide", 1000, 2.0, 0.1), ("sum", 0, 1.5, 0.0)] + [
    (f"quiet{i}", 500, 0.05, 0.01) for i in range(8)
]


def ranked(layers: Sequence[tuple[str, int, float, float]] = LAYERS) -> tuple[Cost, ...]:
    costs = [
        Cost(Layer(name, "Conv" if size else "Add", size, (1, 8, 4, 4), name), error, place, weights)
        for place, (name, size, error, weights) in enumerate(layers)
    ]
    return tuple(sorted(costs, key=lambda cost: -cost.error))


class World:
    """Judges by sums: what int8 costs in each layer; fitted weights cost a part of what the nearest do."""

    def __init__(
        self, part: float, layers: Sequence[tuple[str, int, float, float]] = LAYERS, samples: int = 20
    ) -> None:
        self.part, self.layers, self.samples = part, layers, samples
        self.asked: list[Candidate] = []
        self.sizes: list[int] = []

    def drop(self, scheme: Scheme) -> float:
        part = self.part if scheme.rounding == "fitted" else 1.0
        lost = 0.0
        for name, _, whole, weights in self.layers:
            if name in scheme.keep:
                continue
            computed = scheme.precision == "int8" and name not in scheme.weights_only
            lost += weights * part + (whole - weights if computed else 0.0)
        return lost

    def judge(self, candidates: Sequence[Candidate], samples: int) -> list[Outcome]:
        self.asked += candidates
        self.sizes.append(samples)
        return [self.outcome(candidate, samples) for candidate in candidates]

    def outcome(self, candidate: Candidate, samples: int = 20) -> Outcome:
        drop = self.drop(candidate.scheme)
        base = judged("tflite int8", 0)
        assert base.verdict is not None
        verdict = replace(base.verdict, drop=drop, interval=(drop - 0.5, drop + 0.5), passed=drop <= LIMIT)
        return replace(base, candidate=candidate, verdict=verdict, samples=samples)

    def mend(self, scheme: Scheme) -> Mended:
        candidate = Candidate("tflite", scheme)
        means = Means(
            self.judge, lambda _: ranked(self.layers), lambda verdict: verdict.passed,
            lambda one: one.verdict is not None and one.verdict.interval[0] > LIMIT, self.samples,
        )  # fmt: skip
        return mend(self.outcome(candidate), means)


def test_fitted_weights_that_are_enough_are_all_that_is_tried() -> None:
    world = World(0.1, [("a", 10, 2.0, 1.9), ("b", 10, 0.2, 0.1)])
    mended = world.mend(Scheme("int8", "mse"))
    assert [one.candidate.scheme for one in mended.found] == [Scheme("int8", "mse", rounding="fitted")]
    assert len(world.asked) == 1


def test_layers_whose_weights_cost_little_have_int8_weights_and_those_whose_cost_much_are_float() -> None:
    world = World(0.9)
    mended = world.mend(Scheme("int8"))
    scheme = mended.found[-1].candidate.scheme
    assert (scheme.rounding, scheme.precision) == ("fitted", "int8")
    assert scheme.keep == ("stem", "sum")  # an operator without weights is float or int8
    assert scheme.weights_only == ("wide",)
    assert mended.found[-1].candidate.name == "tflite int8 fitted, 1 layer int8 weights, 2 layers float32"
    reasons = {candidate.name: why for candidate, why in mended.gone.items()}
    for candidate, why in mended.gone.items():
        enough = world.drop(candidate.scheme) <= LIMIT
        more = len(candidate.scheme.keep) + len(candidate.scheme.weights_only) > 3
        assert why == (("fewer layers in float do" if more else "fewer float weights do") if enough else NOT_ENOUGH)
    assert NOT_ENOUGH in reasons.values(), "what breaks the budget is not said to have too many layers in float"
    assert len(set(reasons.values())) > 1


def test_where_int8_weights_cost_nothing_no_layer_with_weights_is_float() -> None:
    mended = World(0.0, [(name, size, whole, 0.0) for name, size, whole, _ in LAYERS]).mend(Scheme("int8"))
    scheme = mended.found[-1].candidate.scheme
    assert scheme.keep == ("sum",)
    assert set(scheme.weights_only) >= {"stem", "wide"}


def test_with_int8_weights_all_but_one_layer_may_compute_in_float_and_with_float_ones_half_of_them() -> None:
    """Each layer's activations cost as much as the budget allows for all; weights cost nothing, or all of it."""
    light = World(1.0, [(f"l{i}", 100, 0.9, 0.0) for i in range(12)]).mend(Scheme("int8"))
    scheme = light.found[-1].candidate.scheme
    assert (len(scheme.weights_only), scheme.keep) == (11, ())
    heavy = World(1.0, [(f"l{i}", 100, 0.9, 0.9) for i in range(12)]).mend(Scheme("int8"))
    assert [one.candidate.scheme.keep for one in heavy.found] == [()]


def test_float_weights_are_taken_back_where_the_budget_does_not_need_them() -> None:
    """All in float does, what costs decide does not: of what is float then, only what must be stays it."""
    layers = [("a", 10, 4.0, 0.4), ("b", 10, 4.0, 0.9), ("c", 10, 4.0, 0.2)]
    layers += [(f"quiet{i}", 500, 0.08, 0.01) for i in range(6)]

    class Unlucky(World):
        def drop(self, scheme: Scheme) -> float:
            return super().drop(scheme) if {"b"} <= {*scheme.keep} else 9.0

    mended = Unlucky(1.0, layers).mend(Scheme("int8", symmetric=True))
    scheme = mended.found[-1].candidate.scheme
    assert (scheme.keep, scheme.weights_only) == (("a", "b"), ("c",)) or scheme.keep == ("b",)
    assert Unlucky(1.0, layers).drop(scheme) <= LIMIT


def test_of_int8_weights_the_few_that_cost_most_for_their_size_become_float() -> None:
    mended = World(0.5).mend(Scheme("int8-weights"))
    assert mended.found[-1].candidate.scheme == Scheme("int8-weights", rounding="fitted", keep=("stem",))
    assert by_weights(ranked())[0].layer.name == "stem"


def test_fitting_that_surely_loses_more_is_left_and_the_nearest_steps_are_mixed() -> None:
    mended = World(2.0).mend(Scheme("int8"))
    assert "the nearest steps lose less" in mended.gone.values()
    assert mended.found[-1].candidate.scheme.rounding == "nearest"


def test_nothing_that_can_be_kept_is_enough_and_every_try_says_so() -> None:
    hopeless = [(f"l{i}", 100, 5.0, 4.0) for i in range(12)]
    mended = World(0.9, hopeless).mend(Scheme("int8"))
    assert [one.candidate.scheme for one in mended.found] == [Scheme("int8", rounding="fitted")]  # the nearest miss
    assert set(mended.gone.values()) == {NOT_ENOUGH}


def test_most_tries_are_refused_by_a_few_samples() -> None:
    world = World(0.9, samples=400)
    mended = world.mend(Scheme("int8"))
    assert world.sizes.count(24) >= 1
    assert mended.found[-1].samples == 400


@pytest.mark.parametrize(
    ("scheme", "source", "can"),
    [
        (Scheme("int8"), "float32", True),
        (Scheme("int8-weights"), "float32", True),
        (Scheme("int8"), "int8", False),
        (Scheme("dynamic"), "float32", False),
        (Scheme("int8", keep=("a",)), "float32", False),
        (Scheme("int8", weights_only=("a",)), "float32", False),
    ],
)
def test_what_is_mended(scheme: Scheme, source: str, can: bool) -> None:
    assert mendable(Candidate("onnx", scheme), source) is can
