"""How a device is, and why, in words. Pure: everything that is known comes in, one verdict goes out.

The first rule that holds decides:

| status | when |
|---|---|
| offline | it was never reached, or the last attempt to reach it failed |
| degraded | it was reached, it serves no model, and it never recorded a window |
| stale | it was reached, but the newest window is older than five minutes or three windows, whichever is longer |
| degraded | a crash loop, no model, over 1 % errors, p95 over budget, restarts, heat, wrong clock |
| online | none of these |

Ratios and percentiles are judged on at least `ENOUGH` requests only: fewer are too few to call a device degraded, and
too few to call it healthy (`model_health`). Expired release metadata is no complaint: the device keeps serving, and
every push signs the metadata anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeship.fleet.summary import Summary

STATUSES = ("online", "degraded", "stale", "offline")

STALE_AFTER = 300.0  # seconds; the shortest time without telemetry that is called stale
STALE_WINDOWS = 3
MAX_ERROR_RATIO = 0.01
MAX_SKEW = 60.0  # seconds between the clocks that a person should know of

#: Requests below which a ratio or a percentile is not judged (design: at 500 samples a comparison of distributions
#: fires without cause in 0.3 % of batches, at 200 in 36 %).
ENOUGH = 500


@dataclass(frozen=True)
class Known:
    """What is known of a device; times are seconds since 1970 on the host's clock."""

    now: float
    reached: float | None = None  # last contact that worked
    error: str | None = None  # of the last contact, None when it worked
    failing_since: float | None = None
    last_window: float | None = None  # end of the newest window
    window_seconds: float = 60.0
    status: Mapping[str, Any] = field(default_factory=dict)  # the agent's `status`, untrusted
    skew: float | None = None  # seconds
    recent: Summary = field(default_factory=Summary)  # the last hour
    budget_p95: float | None = None  # seconds
    throttle_celsius: float | None = None  # the profile's


@dataclass(frozen=True)
class Health:
    """A verdict: one of `STATUSES`, why, since when, and what to type next."""

    status: str
    reason: str
    since: float | None = None
    command: str = ""


def judge(known: Known, device: str) -> Health:
    """The status of a device, by the table of this module."""
    if known.error is not None:
        return Health("offline", known.error, known.failing_since, f"edgeship agent status -l name={device}")
    if known.reached is None:
        return Health("offline", "never reached", None, f"edgeship push MODEL -l name={device}")
    limit = max(STALE_AFTER, STALE_WINDOWS * known.window_seconds)
    if known.last_window is None:
        if known.status.get("state") == "no-model":  # nothing is asked of it, so there is nothing to record
            return Health("degraded", "serves no model", None, f"edgeship push MODEL -l name={device}")
        return Health("stale", "no telemetry yet", known.reached, f"edgeship telemetry pull -l name={device}")
    if known.now - known.last_window > limit:
        pulled = known.now - known.reached > limit
        why = "not pulled" if pulled else "reached, but it recorded nothing"
        command = f"edgeship telemetry pull -l name={device}" if pulled else f"edgeship logs {device}"
        return Health("stale", f"no telemetry for {in_words(known.now - known.last_window)}: {why}",
                      known.last_window, command)  # fmt: skip
    complaint = next(_complaints(known), None)
    if complaint is not None:
        reason, command = complaint
        return Health("degraded", reason, None, command.format(device=device))
    return Health("online", "", known.reached)


def _complaints(known: Known) -> Any:
    state, recent = known.status.get("state"), known.recent
    if state == "crash-loop":
        yield "the worker crashes at every start", "edgeship logs {device}"
    if state == "no-model":
        yield "serves no model", "edgeship push MODEL -l name={device}"
    ratio = recent.error_ratio
    if ratio is not None and recent.ok + recent.failed >= ENOUGH and ratio > MAX_ERROR_RATIO:
        yield f"{ratio:.1%} of requests fail (last hour)", "edgeship logs {device}"
    p95 = recent.latency.quantile(0.95)
    if known.budget_p95 is not None and p95 is not None and recent.latency.total >= ENOUGH and p95 > known.budget_p95:
        yield (
            f"p95 {p95 * 1e3:.3g} ms, budget {known.budget_p95 * 1e3:.3g} ms (last hour)",
            "edgeship bench run -l name={device}",
        )
    if recent.restarts:
        times = "once" if recent.restarts == 1 else f"{recent.restarts} times"
        yield f"the worker restarted {times} in the last hour", "edgeship logs {device}"
    heat = recent.sensors.get("temperature_celsius")
    if heat is not None and known.throttle_celsius is not None and heat.high >= known.throttle_celsius:
        yield (
            f"{heat.high:.0f} °C, it throttles at {known.throttle_celsius:.0f} °C",
            "edgeship bench run -l name={device}",
        )
    if known.skew is not None and abs(known.skew) > MAX_SKEW:
        side = "behind" if known.skew > 0 else "ahead"
        yield f"its clock is {in_words(abs(known.skew))} {side}", "edgeship agent status -l name={device}"


@dataclass(frozen=True)
class ModelHealth:
    """What can be said of the model on a device: `healthy`, `degraded`, or `unknown` where samples are too few."""

    verdict: str
    reason: str


def model_health(summary: Summary) -> ModelHealth:
    """Judge a model by what it answered. Too few requests are `unknown`, never healthy."""
    valid = summary.ok + summary.failed
    if valid < ENOUGH:
        return ModelHealth("unknown", f"{valid} requests: too few to judge, {ENOUGH} are needed")
    ratio = summary.error_ratio or 0.0
    if ratio > MAX_ERROR_RATIO:
        return ModelHealth("degraded", f"{ratio:.1%} of {valid} requests fail")
    if summary.restarts:
        return ModelHealth("degraded", f"the worker restarted {summary.restarts} times")
    return ModelHealth("healthy", f"{valid} requests, {ratio:.2%} failed")


def in_words(seconds: float) -> str:
    """A length of time for people: `12 s`, `4 min`, `3 h`, `5 days`."""
    for limit, unit, name in ((90, 1, "s"), (5400, 60, "min"), (129_600, 3600, "h")):
        if seconds < limit:
            return f"{max(seconds, 0) / unit:.0f} {name}"
    days = seconds / 86_400
    return f"{days:.0f} days" if days < 730 else f"{days / 365.25:.0f} years"
