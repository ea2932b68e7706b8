"""`edgeship status`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import click

from edgeship.cli import choose
from edgeship.cli.options import device_options, jobs_option, with_output
from edgeship.cli.output import Output, Table, human_bytes, human_seconds

if TYPE_CHECKING:
    from edgeship.config import Project
    from edgeship.deploy.device import Device
    from edgeship.fleet.overview import Assessed, Limits
    from edgeship.fleet.pull import Client
    from edgeship.reporter import Reporter

COLUMNS = ("device", "status", "serves", "variant", "requests/h", "errors", "p95", "memory", "last window", "why")


@click.command()
@device_options
@click.option("--refresh", is_flag=True, default=False, help="Ask the devices first; else what is known is shown.")
@jobs_option
@with_output
def status(out: Output, selector: str | None, all_: bool, refresh: bool, jobs: int) -> None:
    """Show the devices and what they serve.

    Without -l all devices are shown. A device is online, degraded, stale (no telemetry lately) or offline; the last
    column says why. Requests, errors and p95 are of the last hour of telemetry.
    """
    from edgeship.fleet import inventory, overview
    from edgeship.fleet.pull import contact

    with choose.opened() as (project, store):
        enrolled = store.devices()
        chosen = inventory.choose(enrolled, selector, everything=all_) if selector is not None else enrolled
        if refresh and chosen:
            with out.reporter() as reporter:
                contact(chosen, connector(reporter), store, reporter, jobs=jobs)
        assessed = overview.assess(store, chosen, limits(project, chosen))
        now = store.now()
    rows = [_row(one, now) for one in assessed]
    empty = "no devices yet\n  next: edgeship device add NAME HOST --profile PROFILE, or edgeship lab up"
    out.emit("status", [record(one) for one in assessed], Table(COLUMNS, rows, empty=empty))
    worst = next((one for one in assessed if one.health.command), None)
    if worst is not None:
        out.say(f"next: {worst.health.command}")


def connector(reporter: Reporter) -> Any:
    """What opens the agent of a device, for `edgeship.fleet.pull`."""

    def connect(device: Device) -> AbstractContextManager[Client]:
        return choose.connected(device, reporter)

    return connect


def limits(project: Project, devices: list[Device]) -> Limits:
    """What the devices of a project are held to."""
    from edgeship.fleet import overview

    p95 = project.budget.max_latency_p95_ms
    return overview.Limits(
        budget_p95=None if p95 is None else p95 / 1e3, window_seconds=project.telemetry.window_seconds,
        throttle_celsius=overview.throttle_limits(devices),
    )  # fmt: skip


def record(one: Assessed) -> dict[str, Any]:
    """A device's status as data; times in seconds since 1970, latencies in seconds."""
    recent = one.recent
    return {
        "device": one.device.name, "profile": one.device.profile, "status": one.health.status,
        "reason": one.health.reason, "since": one.health.since, "next": one.health.command,
        "model": one.model, "counter": one.counter, "precision": one.precision,
        "last_contact": one.contact.reached if one.contact else None,
        "last_window": one.newest.end if one.newest else None,
        "clock_skew_seconds": one.contact.skew if one.contact else None,
        "last_hour": {
            "requests": recent.requests, "error_ratio": recent.error_ratio, "restarts": recent.restarts,
            "p50_seconds": recent.latency.quantile(0.5), "p95_seconds": recent.latency.quantile(0.95),
            "p99_seconds": recent.latency.quantile(0.99),
        },
    }  # fmt: skip


def _row(one: Assessed, now: float) -> tuple[object, ...]:
    status = one.contact.status if one.contact else {}
    recent, p95 = one.recent, one.recent.latency.quantile(0.95)
    pss = status.get("pss") or {}
    variant = " ".join(str(status[key]) for key in ("format", "precision") if status.get(key))
    return (
        one.device.name, one.health.status, one.release, variant or None, recent.requests if recent.windows else None,
        None if recent.error_ratio is None else f"{recent.error_ratio:.2%}",
        None if p95 is None else f"{p95 * 1e3:.3g} ms", human_bytes(sum(pss.values())) if pss else None,
        f"{human_seconds(max(0.0, now - one.newest.end))} ago" if one.newest else None, one.health.reason or None,
    )  # fmt: skip
