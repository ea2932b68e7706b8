"""What `model prune` and `model distill` share."""

from __future__ import annotations

import pytest

from edgeship.cli.tuning import Limits
from edgeship.errors import UsageError


@pytest.mark.parametrize("points", [float("nan"), float("inf"), float("-inf"), -0.5])
def test_a_limit_that_nothing_would_break_or_that_asks_for_a_gain_is_refused(points: float) -> None:
    with pytest.raises(UsageError, match="--max-drop"):
        Limits(points, 1.0)
    with pytest.raises(UsageError, match="--max-class-drop"):
        Limits(1.0, points)
