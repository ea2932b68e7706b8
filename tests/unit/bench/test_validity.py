"""Each thing that may be wrong with a measurement is named, and a good one has nothing to say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edgeship.bench import validity
from edgeship.bench.record import Conditions, Place, Protocol
from tests.simulators.bench import latencies, record


def said(**changes: Any) -> str:
    return "\n".join(validity.warnings(record(**changes)))


@pytest.mark.parametrize(
    ("format_name", "precision", "arch", "warned"),
    [
        ("tflite", "int16x8", "x86_64", True), ("tflite", "int16x8", "aarch64", False),
        ("tflite", "int16x8", "armv7l", False), ("onnx", "int16x8", "x86_64", False),
        ("tflite", "int8", "x86_64", False), ("tflite", "int16x8", None, False),
    ],
)  # fmt: skip
def test_int16_without_kernels_says_nothing_of_a_board(
    format_name: str, precision: str, arch: str | None, warned: bool
) -> None:
    plain = record()
    identity = replace(plain.identity, format=format_name, precision=precision)
    text = said(identity=identity, place=replace(plain.place, arch=arch))
    assert ("int16x8 runs reference kernels on x86_64" in text) == warned


def test_a_quiet_steady_measurement_has_no_warnings() -> None:
    assert said() == ""


def test_too_few_runs_say_how_many_to_take() -> None:
    assert "--runs 512" in said(samples=latencies(20))


def test_runs_that_were_cut_short_are_told() -> None:
    assert "stopped after 200 of 512 runs" in said(samples=latencies(200), protocol=Protocol(512, 32, 30.0))


def test_a_slow_start_asks_for_more_warm_up() -> None:
    text = said(samples=latencies(40, median=180.0) + latencies(400, seed=2))
    assert "not warm at the start" in text
    assert "--warmup" in text


@pytest.mark.parametrize(("last", "way"), [(140.0, "slower"), (70.0, "faster")])
def test_drift_in_run_order_is_told_with_its_direction(last: float, way: str) -> None:
    assert f"{way} than the first" in said(samples=latencies(300) + latencies(300, median=last, seed=2))


def test_a_wide_interval_is_told() -> None:
    noisy = [v * (3.0 if i % 2 else 1.0) for i, v in enumerate(latencies(120))]
    assert "the median is known to" in said(samples=noisy)


def test_many_outliers_are_told() -> None:
    values = latencies(500)
    for index in range(0, 500, 12):
        values[index] *= 5
    assert "far from the median" in said(samples=values)


def test_runs_as_short_as_a_clock_read_are_told() -> None:
    assert "reading the clock" in said(samples=latencies(median=2.0))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"before": Conditions(load1=3.5)}, "other load on the machine: 3.5"),
        ({"before": Conditions(clock_hertz=2.4e9), "after": Conditions(clock_hertz=1.5e9)}, "clock fell from 2.40"),
        ({"after": Conditions(temperature_celsius=84.0)}, "hot at the end: 84"),
        ({"cpu_seconds": 0.001}, "waited"),
        ({"place": Place("pi", cores=4, governor="ondemand")}, "'ondemand'"),
    ],
)
def test_the_state_of_the_machine_is_judged(changes: dict[str, Any], says: str) -> None:
    assert says in said(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"place": Place("pi", cores=4, governor="performance")},
        {"cpu_seconds": None},
        {"samples": [0.0] * 100, "cpu_seconds": 0.1, "protocol": Protocol(100, 0, 1.0)},
        {"before": Conditions(), "after": Conditions()},
    ],
)
def test_what_is_in_order_or_unknown_is_not_warned_of(changes: dict[str, Any]) -> None:
    text = said(**changes)
    assert "governor" not in text
    assert "waited" not in text
    assert "load" not in text
