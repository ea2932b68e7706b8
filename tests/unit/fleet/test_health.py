"""How a device is, and why, in words."""

from dataclasses import replace
from typing import Any

import pytest

from edgeship.fleet.health import ENOUGH, STATUSES, Known, in_words, judge, model_health
from edgeship.fleet.histogram import Histogram
from edgeship.fleet.summary import Reading, Summary
from edgeship.runtime.window import bucket_of

NOW = 1_800_000_000.0
WELL = Known(now=NOW, reached=NOW - 10, last_window=NOW - 20, status={"state": "serving"},
             recent=Summary(ok=1000, latency=Histogram({bucket_of(2000): 1000})))  # fmt: skip


def heat(value: float) -> Summary:
    return Summary(sensors={"temperature_celsius": Reading(1, value, value, value, value, NOW)})


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({}, "online", ""),
        ({"error": "no route to host", "failing_since": NOW - 60}, "offline", "no route to host"),
        ({"reached": None}, "offline", "never reached"),
        ({"last_window": None}, "stale", "no telemetry yet"),
        ({"last_window": None, "status": {"state": "no-model"}}, "degraded", "serves no model"),
        ({"last_window": NOW - 400, "status": {"state": "no-model"}}, "stale",
         "no telemetry for 7 min: reached, but it recorded nothing"),
        ({"last_window": NOW - 400, "reached": NOW - 390}, "stale", "no telemetry for 7 min: not pulled"),
        ({"last_window": NOW - 400}, "stale", "no telemetry for 7 min: reached, but it recorded nothing"),
        ({"last_window": NOW - 400, "window_seconds": 600.0}, "online", ""),
        ({"status": {"state": "crash-loop"}}, "degraded", "the worker crashes at every start"),
        ({"status": {"state": "no-model"}}, "degraded", "serves no model"),
        ({"status": {"expired": True}}, "online", ""),
        ({"status": {"state": ["no-model"]}}, "online", ""),
        ({"recent": Summary(ok=ENOUGH, failed=10)}, "degraded", "2.0% of requests fail (last hour)"),
        ({"recent": Summary(ok=40, failed=2)}, "online", ""),
        ({"budget_p95": 0.001}, "degraded", "p95 1.99 ms, budget 1 ms (last hour)"),
        ({"budget_p95": 0.003}, "online", ""),
        ({"budget_p95": 0.001, "recent": Summary(ok=9, latency=Histogram({bucket_of(2000): 9}))}, "online", ""),
        ({"recent": Summary(restarts=1)}, "degraded", "the worker restarted once in the last hour"),
        ({"recent": Summary(restarts=3)}, "degraded", "the worker restarted 3 times in the last hour"),
        ({"recent": heat(86.0), "throttle_celsius": 85.0}, "degraded", "86 °C, it throttles at 85 °C"),
        ({"recent": heat(86.0)}, "online", ""),
        ({"recent": heat(60.0), "throttle_celsius": 85.0}, "online", ""),
        ({"skew": -7200.0}, "degraded", "its clock is 2 h ahead"),
        ({"skew": 400 * 86_400.0}, "degraded", "its clock is 400 days behind"),
        ({"skew": 3.0}, "online", ""),
    ],
)  # fmt: skip
def test_the_first_rule_that_holds_decides(changes: dict[str, Any], status: str, reason: str) -> None:
    verdict = judge(replace(WELL, **changes), "pi")
    assert (verdict.status, verdict.reason) == (status, reason)
    assert verdict.status in STATUSES
    assert verdict.status == "online" or "pi" in verdict.command


@pytest.mark.parametrize(
    ("summary", "verdict"),
    [
        (Summary(), "unknown"),
        (Summary(ok=ENOUGH - 1), "unknown"),
        (Summary(ok=ENOUGH - 10, failed=9), "unknown"),  # too few is grey, even where some failed
        (Summary(ok=ENOUGH), "healthy"),
        (Summary(ok=ENOUGH, failed=50), "degraded"),
        (Summary(ok=ENOUGH, restarts=2), "degraded"),
    ],
)
def test_too_few_requests_are_unknown_never_healthy(summary: Summary, verdict: str) -> None:
    assert model_health(summary).verdict == verdict


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (12, "12 s"),
        (240, "4 min"),
        (10_000, "3 h"),
        (4 * 86_400, "4 days"),
        (20 * 365.25 * 86_400, "20 years"),
    ],
)
def test_lengths_of_time_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
