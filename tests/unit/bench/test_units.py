"""Figures for people."""

from __future__ import annotations

import pytest

from edgeship.bench import units


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [(None, "–"), (0.0, "0 µs"), (0.4123, "0.412 µs"), (4.126, "4.13 µs"), (99.96, "100 µs"), (412.4, "412 µs"),
     (4120.0, "4.12 ms"), (1.2e6, "1.20 s")],
)  # fmt: skip
def test_durations(microseconds: float | None, text: str) -> None:
    assert units.time(microseconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(None, "–"), (999, "999 B"), (113_456, "113 kB"), (8_039_424, "8.04 MB"), (8e9, "8.00 GB")]
)
def test_sizes(count: float | None, text: str) -> None:
    assert units.size(count) == text


def test_an_interval_has_as_many_digits_as_tell_its_ends_apart() -> None:
    assert units.interval(410.0, 1414.0) == "0.410 … 1.41 ms"
    assert units.interval(107.81, 108.24) == "107.8 … 108.2 µs"
    assert units.interval(5.0, 5.0) == "5.00 … 5.00 µs"


def test_shares() -> None:
    assert units.percent(0.983) == "98.3 %"
    assert units.percent(-0.004) == "−0.4 %"
