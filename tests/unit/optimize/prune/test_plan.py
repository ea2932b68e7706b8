"""What is asked of pruning: values that make no sense are refused where they are written."""

from __future__ import annotations

from typing import Any

import pytest

from edgeship.errors import UsageError
from edgeship.optimize.prune.plan import Plan
from edgeship.optimize.tuning.settings import Settings


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"amount": 0.0}, "must lie between 0 and 1"), ({"amount": 1.0}, "must lie between 0 and 1"),
        ({"amount": -0.1}, "between 0 and 1"), ({"amount": float("nan")}, "between 0 and 1"),
        ({"speedup": 1.0}, "must be above 1"), ({"speedup": float("inf")}, "must be above 1"),
        ({"amount": 0.5, "speedup": 2.0}, "exclude each other"), ({"method": "magic"}, "unknown method"),
        ({"method": "magnitude", "speedup": 2.0}, "takes no speedup"), ({"method": "2:4", "amount": 0.5}, "always a"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        Plan(**given)
    assert caught.value.hint


@pytest.mark.parametrize(
    "given",
    [{"epochs": -1}, {"batch": 0}, {"rate": 0.0}, {"rate": float("inf")}, {"patience": 0}, {"temperature": 0.0},
     {"alpha": 1.5}, {"seed": -1}],
)  # fmt: skip
def test_a_training_that_makes_no_sense_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="makes no sense") as caught:
        Settings(**given)
    assert caught.value.hint


@pytest.mark.parametrize("plan", [Plan(), Plan(speedup=1.5), Plan("2:4"), Plan("magnitude", 0.7, None, Settings(3))])
def test_a_plan_survives_json(plan: Plan) -> None:
    import json

    assert Plan.parse(json.loads(json.dumps(plan.encode()))) == plan


def test_a_half_is_the_default_of_what_takes_an_amount() -> None:
    assert (Plan().amount, Plan("magnitude").amount, Plan("2:4").amount, Plan(speedup=2.0).amount) == (
        0.5, 0.5, None, None,
    )  # fmt: skip
