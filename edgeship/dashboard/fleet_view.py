"""What the fleet's page shows: tiles, what needs attention, charts, the table of devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeship.dashboard import measures
from edgeship.dashboard.charts import Chart, sparkline
from edgeship.dashboard.filters import Filter
from edgeship.fleet import overview, query
from edgeship.fleet.audit import Entry
from edgeship.fleet.overview import Assessed, Limits
from edgeship.fleet.query import Point, Span
from edgeship.fleet.schema import HOUR
from edgeship.fleet.selector import parse
from edgeship.fleet.store import FleetStore
from edgeship.fleet.summary import Summary

PAGE = 50  # devices of one page
ATTENTION = 6  # devices in the list above the table
SPARKS = 32  # points of a small line
_ROWS = 50_000  # roll-ups that one page may read

#: The worst first.
SEVERITY = {"offline": 0, "degraded": 1, "stale": 2, "online": 3}


@dataclass(frozen=True)
class Settings:
    """What the dashboard is told by `edgeship serve`."""

    project: str = "fleet"
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Row:
    """One device in the table."""

    assessed: Assessed
    total: Summary  # of the time range
    spark: str  # path of its p95 over the time range

    @property
    def name(self) -> str:
        """The device's name."""
        return self.assessed.device.name

    @property
    def p95(self) -> float | None:
        """Seconds."""
        return self.total.latency.quantile(0.95)


@dataclass(frozen=True)
class Rollout:
    """The newest release that was deployed."""

    release: str
    counter: str
    at: float
    good: int
    failed: int


@dataclass(frozen=True)
class FleetView:
    """Everything on the page."""

    filter: Filter
    span: Span
    now: float
    enrolled: int
    statuses: Mapping[str, int]  # of the devices that the selector selects
    total: Summary
    rate: float | None  # answers a second
    rows: tuple[Row, ...]
    found: int
    attention: tuple[Assessed, ...]
    rollout: Rollout | None
    latency: Chart
    traffic: Chart
    budget: float | None

    @property
    def pages(self) -> int:
        """How many pages the table has."""
        return max(1, -(-self.found // PAGE))

    def encode(self) -> dict[str, Any]:
        """To what `json.dumps` takes."""
        return {
            "start": self.span.start, "end": self.span.end, "enrolled": self.enrolled, "found": self.found,
            "page": self.filter.page, "pages": self.pages, "devices": dict(self.statuses),
            "requests": {"ok": self.total.ok, "failed": self.total.failed, "refused": self.total.refused},
            "inferences_per_second": self.rate, "error_ratio": self.total.error_ratio,
            "p95_seconds": self.total.latency.quantile(0.95), "budget_p95_seconds": self.budget,
            "last_rollout": None if self.rollout is None else vars(self.rollout),
            "rows": [encode_row(row) for row in self.rows],
        }  # fmt: skip


def encode_row(row: Row) -> dict[str, Any]:
    """A device of the table, to what `json.dumps` takes."""
    known, health = row.assessed, row.assessed.health
    return {
        "name": row.name, "profile": known.device.profile, "labels": dict(known.device.labels),
        "status": health.status, "reason": health.reason, "since": health.since, "next": health.command,
        "model": known.model, "counter": known.counter, "precision": known.precision,
        "requests": row.total.requests, "error_ratio": row.total.error_ratio,
        "p50_seconds": row.total.latency.quantile(0.5), "p95_seconds": row.p95,
        "p99_seconds": row.total.latency.quantile(0.99), "restarts": row.total.restarts,
        "last_contact": known.contact.reached if known.contact else None,
        "last_window": known.newest.end if known.newest else None,
    }  # fmt: skip


def gather(store: FleetStore, settings: Settings, wanted: Filter) -> FleetView:
    """Read what the page shows. Raises StoreError, UsageError."""
    now = store.now()
    span = wanted.span(now)
    enrolled = store.devices()
    selected = parse(wanted.l).select(enrolled)
    assessed = overview.assess(store, selected, settings.limits)
    statuses = overview.counts(assessed)
    shown = [one for one in assessed if _wanted(one, wanted)]
    names = [one.device.name for one in shown]
    by_device = query.series_by_device(store, names, span, step_of(span, len(names)))
    points = query.merge(by_device)
    total = _total(points)
    rows = _sorted([Row(one, _total(by_device.get(one.device.name, [])), "") for one in shown], wanted.sort)
    first = (wanted.page - 1) * PAGE
    deployments = store.deployments(limit=2000)
    marks = measures.deployment_marks(deployments, set(names))
    return FleetView(
        filter=wanted, span=span, now=now, enrolled=len(enrolled), statuses=statuses, total=total, rate=total.rate(),
        rows=tuple(
            Row(row.assessed, row.total, spark(by_device.get(row.name, []), span)) for row in rows[first : first + PAGE]
        ),
        found=len(rows),
        attention=tuple(_worst(shown)),
        rollout=_newest_rollout(deployments, {device.name for device in enrolled}),
        latency=measures.latency(span, points, marks, settings.limits.budget_p95),
        traffic=measures.traffic(span, points, marks),
        budget=settings.limits.budget_p95,
    )  # fmt: skip


def step_of(span: Span, devices: int) -> int:
    """The step of the charts: fine enough to look good, coarse enough that a page reads a bounded number of rows."""
    step = query.step_for(span, 160)
    return step if devices * span.seconds / 60 <= _ROWS or step >= HOUR else HOUR


def spark(points: Sequence[Point], span: Span) -> str:
    """The small line of p95 over the time range."""
    bins: list[Summary | None] = [None] * SPARKS
    for point in points:
        at = int((point.start + point.step / 2 - span.start) / span.seconds * SPARKS)
        index = min(max(at, 0), SPARKS - 1)
        into = bins[index] = bins[index] or Summary()
        into.latency.merge(point.summary.latency)
    return sparkline([None if one is None else one.latency.quantile(0.95) for one in bins])


def _total(points: Sequence[Point]) -> Summary:
    return Summary.of(point.summary for point in points)


def _wanted(one: Assessed, wanted: Filter) -> bool:
    right_status = not wanted.status or one.health.status == wanted.status
    return right_status and (not wanted.counter or str(one.counter) == wanted.counter)


def _sorted(rows: list[Row], by: str) -> list[Row]:
    rows.sort(key=lambda row: row.name)
    if by == "name":
        return rows
    if by == "status":
        return sorted(rows, key=lambda row: SEVERITY[row.assessed.health.status])
    values: dict[str, Callable[[Row], float | None]] = {
        "requests": lambda row: float(row.total.requests),
        "errors": lambda row: row.total.error_ratio,
        "p95": lambda row: row.p95,
        "temperature": lambda row: temperature(row.assessed),
    }

    def largest_first(row: Row) -> float:
        found = values[by](row)
        return -found if found is not None else 1.0

    return sorted(rows, key=largest_first)


def temperature(one: Assessed) -> float | None:
    """The last reading within the last hour, °C."""
    reading = one.recent.sensors.get("temperature_celsius")
    return reading.last if reading else None


def _worst(shown: Sequence[Assessed]) -> list[Assessed]:
    bad = [one for one in shown if one.health.status != "online"]
    return sorted(bad, key=lambda one: (SEVERITY[one.health.status], one.device.name))


def _newest_rollout(deployments: Sequence[Entry], enrolled: set[str]) -> Rollout | None:
    newest = next((entry for entry in deployments if entry.release and entry.subject in enrolled), None)
    if newest is None:
        return None
    last: dict[str, Entry] = {}  # of each device, the newest entry of this release
    for entry in deployments:
        if entry.release == newest.release and entry.subject in enrolled:
            last.setdefault(entry.subject, entry)
    good = sum(entry.action == "deploy.good" for entry in last.values())
    return Rollout(newest.release, str(newest.detail["counter"]), newest.at, good, len(last) - good)


def steps(store: FleetStore, wanted: Filter) -> dict[str, Any]:
    """The chart's steps as data: start, step and percentiles, with the times that nothing covers."""
    span = wanted.span(store.now())
    names = [device.name for device in parse(wanted.l).select(store.devices())]
    points = query.series(store, names, span, step_of(span, len(names)))
    return {
        "start": span.start,
        "end": span.end,
        "steps": [
            {
                "start": point.start, "seconds": point.step, "requests": point.summary.requests,
                "error_ratio": point.summary.error_ratio,
                **{f"p{q}_seconds": point.summary.latency.quantile(q / 100) for q in (50, 95, 99)},
            }
            for point in points
        ],
        "gaps": [vars(gap) for gap in query.breaks(points, span)],
    }  # fmt: skip
