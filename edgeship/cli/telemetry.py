"""`edgeship telemetry`: pull, query, prune."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from edgeship.cli import choose
from edgeship.cli.options import device_options, dry_run_option, jobs_option, with_output, yes_option
from edgeship.cli.output import Output, Pairs, Table
from edgeship.cli.status import connector

if TYPE_CHECKING:
    from edgeship.deploy.device import Device
    from edgeship.fleet.export import Result
    from edgeship.fleet.store import FleetStore


@click.group()
def telemetry() -> None:
    """Pull, query and drop what devices measured."""


@telemetry.command()
@device_options
@jobs_option
@click.option("--watch", type=click.FloatRange(1, 86_400), default=None, metavar="SECONDS",
              help="Pull again and again, so many seconds apart, until Ctrl-C.")  # fmt: skip
@with_output
def pull(out: Output, selector: str | None, all_: bool, jobs: int, watch: float | None) -> None:
    """Bring telemetry from devices into the store.

    Each window is stored exactly once; a device forgets it only after it is stored. Without -l all devices are pulled
    from.
    """
    from edgeship.deploy.fleet_run import raise_for

    with choose.opened() as (_, store):
        chosen = choose.devices(store, selector, all_=selector is None or all_)
        while watch is not None:
            _pull(out, chosen, store, jobs)
            time.sleep(watch)
        raise_for(_pull(out, chosen, store, jobs))


def _pull(out: Output, chosen: list[Device], store: FleetStore, jobs: int) -> Any:
    from edgeship.fleet.pull import pull as run

    with out.reporter() as reporter:
        outcomes = run(chosen, connector(reporter), store, reporter, jobs=jobs)
    records = [
        {"device": o.device.name, "stored": o.result.stored if o.result else 0,
         "duplicates": o.result.duplicates if o.result else 0, "missing": o.result.missing if o.result else 0,
         "error": None if o.error is None else str(o.error)}
        for o in outcomes
    ]  # fmt: skip
    rows = [(r["device"], r["stored"], r["missing"] or None, r["error"]) for r in records]
    out.emit("telemetry.pull", records, Table(("device", "windows", "lost there", "error"), rows))
    return outcomes


@telemetry.command()
@device_options
@click.option("--since", default="1h", show_default=True, metavar="TIME",
              help="From when: how long ago (90s, 15m, 24h, 7d) or ISO 8601, UTC where it names no zone.")  # fmt: skip
@click.option("--until", default=None, metavar="TIME", help="Up to when; now by default.")
@click.option("--metric", "metrics", multiple=True, metavar="NAME",
              help="requests, ok, failed, refused, errors, rate, p50, p95, p99, compute, confidence, restarts, "
                   "windows, seconds, classes, sensors. Several times for several.")  # fmt: skip
@click.option("--by", default="device", show_default=True, type=click.Choice(["device", "release", "fleet"]),
              help="One row a device, a release or for all together.")  # fmt: skip
@click.option("--step", default=None, metavar="TIME", help="One row a step of this length: 1m, 15m, 1h.")
@click.option("--csv", "as_csv", is_flag=True, default=False, help="Print CSV.")
@with_output
def query(
    out: Output, selector: str | None, all_: bool, since: str, until: str | None, metrics: tuple[str, ...], by: str,
    step: str | None, as_csv: bool,
) -> None:  # fmt: skip
    """Ask the store what devices measured.

    Percentiles are of merged histograms, at most 1 % off. Without -l all devices are meant.
    """
    from edgeship.errors import UsageError
    from edgeship.fleet import export
    from edgeship.fleet import query as reading

    if as_csv and out.json:
        raise UsageError("--csv and --json exclude each other", hint="leave one of them out")
    with choose.opened() as (_, store):
        chosen = choose.devices(store, selector, all_=selector is None or all_)
        span = reading.span(since, until, store.now())
        width = None if step is None else max(1, round(reading.duration(step)))
        results = export.rows(
            store, [device.name for device in chosen], span, metrics=metrics or export.DEFAULT, by=by, step=width
        )
    if as_csv:
        sys.stdout.write(export.to_csv(results, by))
        return
    records = [{by: r.group, "start": r.start, "end": r.end, "values": dict(r.values)} for r in results]
    out.emit("telemetry.query", records, _table(results, by, stepped=width is not None))


def _table(results: list[Result], by: str, *, stepped: bool) -> Table:
    from datetime import UTC, datetime

    from edgeship.fleet import export

    names = export.columns(results)
    rows = [
        (r.group, *([f"{datetime.fromtimestamp(r.start, UTC):%Y-%m-%d %H:%M:%S}"] if stepped else []),
         *(_written(name, r.values.get(name)) for name in names))
        for r in results
    ]  # fmt: skip
    head = (by, *(["start (UTC)"] if stepped else []), *(name.removesuffix("_seconds") for name in names))
    empty = "no telemetry in this time\n  next: edgeship telemetry pull"
    return Table(head, rows, empty=empty)


def _written(column: str, value: float | None) -> object:
    if value is None:
        return None
    if column.endswith("_ratio") or column.startswith("class:"):
        return f"{value:.2%}"
    if column.endswith("_seconds") and column.partition("_")[0] in ("p50", "p95", "p99", "compute"):
        return f"{value * 1e3:.3g} ms"
    return value if isinstance(value, int) else f"{value:.4g}"


@telemetry.command()
@click.option("--windows", default="30d", show_default=True, metavar="TIME",
              help="Drop windows, one a device and interval, that are older (12h, 30d, 8w).")  # fmt: skip
@click.option("--minutes", default="90d", show_default=True, metavar="TIME",
              help="Drop summaries by the minute that are older; those by the hour are kept.")  # fmt: skip
@dry_run_option
@yes_option
@with_output
def prune(out: Output, windows: str, minutes: str, dry_run: bool, yes: bool) -> None:
    """Drop old telemetry from the store; it grows for ever otherwise.

    Summaries by the hour stay, so query --since still answers for the whole time, in steps of an hour. What was dropped
    cannot be pulled again. The database's file does not shrink, but the room is used again.
    """
    from dataclasses import asdict

    from edgeship.fleet import query as reading
    from edgeship.fleet import rollup

    with choose.opened() as (_, store):
        now = store.now()
        before = {
            "windows_before": now - reading.duration(windows), "minutes_before": now - reading.duration(minutes),
        }  # fmt: skip
        found = rollup.prunable(store, **before)
        if not dry_run and found != rollup.Pruned(0, 0, 0):
            asked = f"drop {found.windows:,} windows and {found.minutes:,} summaries by the minute?"
            out.confirm(asked, yes=yes)
            found = rollup.prune(store, **before)
            store.audit("telemetry.prune", "store", asdict(found) | before)
    done = "would be dropped" if dry_run else "dropped"
    rows = [("windows", f"{found.windows:,} {done}"), ("by minute", f"{found.minutes:,} {done}")]
    out.emit("telemetry.prune", asdict(found) | before | {"dry_run": dry_run}, Pairs(rows))
