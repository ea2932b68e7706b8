"""Shares and counts in words."""

from __future__ import annotations

import pytest

from edgeship import wording


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (1.0, "100%"), (0.996, "99.6%"), (0.9951, "99.5%"), (0.999, "99.9%"), (0.9995, "over 99.9%"),
        (0.99, "99%"), (0.5, "50%"), (0.005, "0.5%"), (0.004, "0.4%"), (0.0004, "under 0.1%"), (0.0, "0%"),
        (1.25, "125%"),
    ],
)  # fmt: skip
def test_only_all_is_100_percent_and_only_nothing_0(part: float, said: str) -> None:
    assert wording.share(part) == said


@pytest.mark.parametrize(
    ("count", "said"),
    [(1, "1 point"), (1.0, "1 point"), (0, "0 points"), (2, "2 points"), (1.5, "1.5 points"), (1200, "1,200 points")],
)
def test_one_is_singular(count: float, said: str) -> None:
    assert wording.counted(count, "point") == said


def test_digits_that_are_asked_for_stay() -> None:
    assert wording.counted(1.0, "point", 1) == "1.0 points"
