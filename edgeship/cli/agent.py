"""`edgeship agent`: status, stop, restart, uninstall."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from edgeship.cli import choose
from edgeship.cli.options import device_options, dry_run_option, jobs_option, with_output, yes_option
from edgeship.cli.output import Output, Table, human_bytes, human_seconds

if TYPE_CHECKING:
    from edgeship.deploy.device import Device
    from edgeship.deploy.fleet_run import Outcome
    from edgeship.reporter import Reporter

Job = Callable[["Device", "Reporter"], dict[str, Any]]


@click.group()
def agent() -> None:
    """The agent on devices: status, stop, restart, uninstall."""


@agent.command()
@device_options
@jobs_option
@with_output
def status(out: Output, selector: str | None, all_: bool, jobs: int) -> None:
    """Ask the agents what they do; edgeship status shows what is known without asking."""
    with choose.opened() as (_, store):
        chosen = choose.devices(store, selector, all_=all_)
    outcomes = _run(out, chosen, _status, jobs)
    data = [_record(o) for o in outcomes]
    rows = [
        (
            d["device"],
            d["status"].get("state") if d["error"] is None else "FAILED",
            _release(d["status"]),
            _variant(d["status"]),
            _or_none(human_seconds, d["status"].get("uptime_seconds")),
            d["status"].get("worker_restarts"),
            _memory(d["status"]),
            d["error"],
        )
        for d in data
    ]
    columns = ("device", "state", "model", "variant", "up", "restarts", "memory", "error")
    out.emit("agent.status", data, Table(columns, rows))
    _raise(outcomes)


@agent.command()
@device_options
@dry_run_option
@yes_option
@jobs_option
@with_output
def stop(out: Output, selector: str | None, all_: bool, dry_run: bool, yes: bool, jobs: int) -> None:
    """Stop agents: their devices serve nothing until the next command that talks to them, or their next boot."""
    _change(out, "stop", _stop, selector, all_=all_, dry_run=dry_run, yes=yes, jobs=jobs)


@agent.command()
@device_options
@dry_run_option
@yes_option
@jobs_option
@with_output
def restart(out: Output, selector: str | None, all_: bool, dry_run: bool, yes: bool, jobs: int) -> None:
    """Stop agents and start them again; their devices serve nothing in between."""
    _change(out, "restart", _restart, selector, all_=all_, dry_run=dry_run, yes=yes, jobs=jobs)


@agent.command()
@device_options
@dry_run_option
@yes_option
@jobs_option
@with_output
def uninstall(out: Output, selector: str | None, all_: bool, dry_run: bool, yes: bool, jobs: int) -> None:
    """Stop agents and remove their folders and boot hooks, models and telemetry that was not pulled with them.

    The devices stay in the inventory: edgeship device rm takes them out, edgeship push installs the agent again.
    """
    _change(out, "uninstall", _uninstall, selector, all_=all_, dry_run=dry_run, yes=yes, jobs=jobs)


def _status(device: Device, reporter: Reporter) -> dict[str, Any]:
    from edgeship import profile
    from edgeship.deploy import lifecycle

    return lifecycle.status(device, profile.load(device.profile), reporter=reporter)


def _stop(device: Device, reporter: Reporter) -> dict[str, Any]:
    from edgeship import profile
    from edgeship.deploy import lifecycle

    lifecycle.stop(device, profile.load(device.profile), reporter=reporter)
    return {"state": "stopped"}


def _restart(device: Device, reporter: Reporter) -> dict[str, Any]:
    from edgeship import profile
    from edgeship.deploy import lifecycle

    return lifecycle.restart(device, profile.load(device.profile), reporter=reporter)


def _uninstall(device: Device, reporter: Reporter) -> dict[str, Any]:
    from edgeship import profile
    from edgeship.deploy import lifecycle

    there = lifecycle.uninstall(device, profile.load(device.profile), reporter=reporter)
    return {"state": "uninstalled" if there else "no agent was there"}


def _change(
    out: Output, verb: str, job: Job, selector: str | None, *, all_: bool, dry_run: bool, yes: bool, jobs: int
) -> None:
    """Do something to agents that their users notice: ask, do it on all, write it down, print."""
    with choose.opened() as (project, store):
        chosen = choose.devices(store, selector, all_=all_)
        if dry_run:
            would = [{"device": d.name, "status": {"state": f"would {verb}"}, "error": None} for d in chosen]
            out.emit(f"agent.{verb}", would, Table(("device", "state"), [(d.name, f"would {verb}") for d in chosen]))
            return
        choose.confirm(out, f"{verb} the agent", chosen, project, yes=yes)
        outcomes = _run(out, chosen, job, jobs)
        for outcome in outcomes:
            store.audit(f"agent.{verb}", outcome.device.name, {"error": str(outcome.error) if outcome.error else None})
    data = [_record(o) for o in outcomes]
    rows = [(d["device"], d["status"].get("state") if d["error"] is None else "FAILED", d["error"]) for d in data]
    out.emit(f"agent.{verb}", data, Table(("device", "state", "error"), rows))
    _raise(outcomes)


def _run(out: Output, chosen: list[Device], job: Job, jobs: int) -> list[Outcome[dict[str, Any]]]:
    from edgeship.deploy.fleet_run import fleet_run

    with out.reporter() as reporter:
        return fleet_run(chosen, lambda device: job(device, reporter), jobs)


def _raise(outcomes: list[Outcome[dict[str, Any]]]) -> None:
    from edgeship.deploy.fleet_run import raise_for

    raise_for(outcomes)


def _record(outcome: Outcome[dict[str, Any]]) -> dict[str, Any]:
    error = str(outcome.error) if outcome.error is not None else None
    return {"device": outcome.device.name, "status": dict(outcome.result or {}), "error": error}


def _release(status: dict[str, Any]) -> str | None:
    return f"{status['model']} {status.get('counter')}" if status.get("model") else None


def _variant(status: dict[str, Any]) -> str | None:
    return f"{status['format']} {status.get('precision')}" if status.get("format") else None


def _memory(status: dict[str, Any]) -> str | None:
    parts = status.get("pss")
    sizes = [size for size in parts.values() if isinstance(size, (int, float))] if isinstance(parts, dict) else []
    return human_bytes(sum(sizes)) if sizes else None


def _or_none(words: Callable[[float], str], value: object) -> str | None:
    return words(float(value)) if isinstance(value, (int, float)) else None
