"""How numbers, times and sensors are written."""

from collections.abc import Callable
from typing import Any

import pytest

from edgeship.dashboard import text


@pytest.mark.parametrize(
    ("write", "value", "expected"),
    [
        (text.latency, None, "–"), (text.latency, 0.000412, "412 µs"), (text.latency, 0.00342, "3.42 ms"),
        (text.latency, 0.9996, "1.00 s"), (text.latency, 12.0, "12.0 s"), (text.latency, 0.0, "0 µs"),
        (text.share, None, "–"), (text.share, 0.0, "0 %"), (text.share, 0.00001, "< 0.01 %"),
        (text.share, 0.0004, "0.040 %"), (text.share, 0.125, "12.5 %"), (text.share, 1.0, "100 %"),
        (text.rate, None, "–"), (text.rate, 12.34, "12.3 /s"), (text.rate, 0.005, "0.30 /min"),
        (text.rate, 0.0, "0 /s"), (text.rate, 12_345.0, "12.3 k /s"),
        (text.count, None, "–"), (text.count, 999, "999"), (text.count, 12_345, "12.3 k"),
        (text.count, 4_560_000, "4.56 M"), (text.count, 7e9, "7.00 G"),
        (text.size, None, "–"), (text.size, 12, "12 B"), (text.size, 9_300, "9.3 kB"), (text.size, 9.3e6, "9.3 MB"),
        (text.size, 2.1e10, "21.0 GB"),
        (text.moment, None, "–"), (text.moment, 1_800_000_000.0, "2027-01-15 08:00 UTC"),
        (text.moment, 1e15, "9999-12-31 23:46 UTC"), (text.iso, None, ""),
        (text.iso, 1_800_000_000.0, "2027-01-15T08:00:00Z"),
        (text.sensor_name, "memory_available_bytes", "memory available"), (text.sensor_name, "load", "load"),
    ],
)  # fmt: skip
def test_written(write: Callable[[Any], str], value: Any, expected: str) -> None:
    assert write(value) == expected


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("temperature_celsius", 61.4, "61 °C"), ("cpu_ratio", 0.36, "36 %"), ("disk_free_bytes", 2e9, "2.0 GB"),
        ("load", 0.123, "0.123"), ("clock_hertz", 2.4e9, "2400 MHz"), ("x", None, "–"), ("x", 0.0, "0"),
    ],
)  # fmt: skip
def test_sensors(name: str, value: float | None, expected: str) -> None:
    assert text.sensor(name, value) == expected


def test_how_long_ago() -> None:
    assert [text.ago(at, 1000.0) for at in (None, 999.0, 940.0, 700.0)] == [
        "never",
        "just now",
        "60 s ago",
        "5 min ago",
    ]


@pytest.mark.parametrize(
    ("at", "step", "expected"),
    [(1_800_000_000, 10, "08:00:00"), (1_800_000_000, 600, "08:00"), (1_799_971_200, 10_800, "15 Jan"),
     (1_800_000_000, 86_400, "15 Jan")],
)  # fmt: skip
def test_ticks_of_time(at: float, step: float, expected: str) -> None:
    assert text.tick(at, step) == expected


def test_ticks_of_an_axis_share_one_unit() -> None:
    assert [text.latency_axis(v, 0.04) for v in (0, 0.01, 0.04)] == ["0", "10 ms", "40 ms"]
    assert text.latency_axis(0.0005, 0.0009) == "500 µs"
    assert text.latency_axis(2, 4) == "2 s"
    assert text.rate_axis(0.1 * 3, 1) == "0.3 /s"
    assert text.rate_axis(0, 1) == "0"
    assert text.rate_axis(0.0075, 0.01) == "0.45 /min"
