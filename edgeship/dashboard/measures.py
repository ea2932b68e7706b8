"""The two charts that the fleet's page and a device's page share."""

from __future__ import annotations

from collections.abc import Sequence

from edgeship.dashboard import text
from edgeship.dashboard.charts import Chart, Limit, Mark, Measure, chart
from edgeship.fleet.audit import Entry
from edgeship.fleet.query import Point, Span, breaks

LATENCY = (
    Measure("p99", "p99", lambda point: point.summary.latency.quantile(0.99)),
    Measure("p95", "p95", lambda point: point.summary.latency.quantile(0.95)),
    Measure("p50", "p50", lambda point: point.summary.latency.quantile(0.50)),
)


def _per_second(point: Point, number: int) -> float | None:
    """A rate over what the windows of a step cover; None where that is too little of the step to call it one."""
    covered = point.summary.last - point.summary.first
    return number / covered if covered >= point.step / 2 else None


TRAFFIC = (
    Measure("ok", "answered", lambda point: _per_second(point, point.summary.ok)),
    Measure("failed", "failed", lambda point: _per_second(point, point.summary.failed)),
)


def latency(of: Span, points: Sequence[Point], marks: Sequence[Mark], budget: float | None) -> Chart:
    """p50, p95 and p99 of the merged histograms over time."""
    limit = None if budget is None else Limit(budget, f"budget {text.latency(budget)}")
    gaps = breaks(points, of)
    return chart(
        "Latency", of, points, LATENCY, text.latency, text.latency_axis, gaps=gaps, marks=marks, limit=limit
    )  # fmt: skip


def traffic(of: Span, points: Sequence[Point], marks: Sequence[Mark]) -> Chart:
    """Requests a second over time."""
    return chart("Requests", of, points, TRAFFIC, text.rate, text.rate_axis, gaps=breaks(points, of), marks=marks)


def deployment_marks(entries: Sequence[Entry], names: set[str]) -> list[Mark]:
    """One mark for each release that reached any of these devices, where it began; failures are marks of their own."""
    first: dict[tuple[str, str], tuple[float, set[str]]] = {}
    for entry in entries:
        if entry.subject not in names or not entry.release:
            continue
        at, devices = first.get((entry.action, entry.release), (entry.at, set()))
        first[entry.action, entry.release] = (min(at, entry.at), devices | {entry.subject})
    marks = []
    for (action, release), (at, devices) in sorted(first.items(), key=lambda item: item[1][0]):
        failed = action != "deploy.good"
        where = next(iter(devices)) if len(devices) == 1 else f"{len(devices)} devices"
        counter = release.rpartition(" ")[2]
        title = f"{release} {'refused by' if failed else 'deployed to'} {where}, {text.moment(at)}"
        marks.append(Mark(at, f"✕ {counter}" if failed else counter, title))
    return marks
