"""Telemetry windows: histograms merge and keep their error, and a device that lies is refused."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.runtime.errors import ProtocolError
from edgeship.runtime.window import GROWTH, Window, bucket_of, bucket_value, quantile

WINDOW = Window(
    "spool1", 3, "boot-1", 10.0, 12.0, 1_790_000_000.0, "digits", 7, "int8", ok=5, failed=1, refused=2,
    latency={100: 4, 120: 1}, compute={90: 5}, classes={"7": 3, "1": 2}, confidence=(0,) * 19 + (5,),
    sensors={"temperature_celsius": 51.5}, events=({"kind": "boot", "text": "started"},),
)  # fmt: skip


def test_encode_and_parse_are_inverse() -> None:
    assert Window.parse(WINDOW.encode()) == WINDOW


@given(st.floats(min_value=1.0, max_value=1e10))
def test_a_bucket_is_within_one_percent(microseconds: float) -> None:
    bucket = bucket_of(microseconds)
    assert GROWTH ** (bucket - 1) * (1 - 1e-6) <= microseconds <= GROWTH**bucket * (1 + 1e-6)
    assert bucket_value(bucket) == pytest.approx(microseconds, rel=0.0101)


@given(
    st.lists(st.floats(min_value=2.0, max_value=1e7), min_size=1, max_size=200), st.sampled_from([0.0, 0.5, 0.95, 1.0])
)
def test_a_quantile_is_within_one_percent_of_the_exact_one(values: list[float], q: float) -> None:
    histogram: dict[int, int] = {}
    for value in values:
        histogram[bucket_of(value)] = histogram.get(bucket_of(value), 0) + 1
    rank = max(1, math.ceil(q * len(values)))
    got = quantile(histogram, q)
    assert got == pytest.approx(sorted(values)[rank - 1], rel=0.0101)


def test_an_empty_histogram_has_no_quantile() -> None:
    assert quantile({}, 0.5) is None


def test_below_a_microsecond_is_the_first_bucket() -> None:
    assert bucket_of(0.0) == bucket_of(1.0) == 0
    assert bucket_value(0) == 1.0


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("schema", "x", "not a telemetry window"),
        ("spool", "<b>", "plain name"),
        ("seq", 0, "out of range"),
        ("seq", 1 << 60, "out of range"),
        ("mono", [3.0, 1.0], "out of range"),
        ("mono", [1.0], "start and end"),
        ("wall_end", 1e300, "not a number in range"),
        ("wall_end", True, "not a number in range"),
        ("requests", {"ok": -1, "failed": 0, "refused": 0}, "out of range"),
        ("latency", {"-1": 1}, "not a small number"),
        ("latency", {"١": 1}, "not a small number"),
        ("latency", {"1": 0.5}, "count is out of range"),
        ("latency", {str(i): 1 for i in range(3000)}, "at most 2048"),
        ("classes", {str(i): 1 for i in range(2000)}, "at most 1100"),
        ("confidence", [1, 2], "out of range"),
        ("sensors", {"a b": 1}, "plain name"),
        ("sensors", {"a": "hot"}, "not a number"),
        ("events", [{"kind": "a b"}], "plain name"),
        ("model", "<script>", "plain name"),
        ("precision", 8, "must be str or null"),
    ],
)
def test_what_a_lying_device_sends_is_refused(key: str, value: object, reason: str) -> None:
    data: dict[str, Any] = {**WINDOW.encode(), key: value}
    with pytest.raises(ProtocolError, match=reason):
        Window.parse(data)


def test_long_texts_of_a_device_are_cut() -> None:
    data = {**WINDOW.encode(), "events": [{"kind": "boot", "text": "x" * 10_000}] * 100, "classes": {"y" * 200: 1}}
    window = Window.parse(data)
    assert len(window.events) == 64
    assert {len(str(e["text"])) for e in window.events} == {500}
    assert list(window.classes) == ["y" * 64]
