"""What a device's page shows: facts, charts, model health, sensors, events, gaps, the audit trail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgeship.dashboard import measures
from edgeship.dashboard.charts import Chart, sparkline
from edgeship.dashboard.filters import Filter
from edgeship.dashboard.fleet_view import Row, Settings, encode_row, spark, step_of
from edgeship.deploy.device import Device
from edgeship.fleet import overview, query
from edgeship.fleet.audit import Entry
from edgeship.fleet.health import ENOUGH, ModelHealth, model_health
from edgeship.fleet.ingest import Gap
from edgeship.fleet.query import Event, Point, Span
from edgeship.fleet.store import FleetStore
from edgeship.fleet.summary import BINS, Reading, Summary

CLASSES = 12  # bars; the rest is one bar
EVENTS = 30
ENTRIES = 30


@dataclass(frozen=True)
class ClassShare:
    """One bar: a predicted class, its count and share."""

    name: str
    count: int
    share: float
    width: float  # of the longest bar, 0 to 100


@dataclass(frozen=True)
class Bin:
    """One bar of the histogram of confidence."""

    low: float
    high: float
    count: int
    height: float  # of the tallest, 0 to 100


@dataclass(frozen=True)
class Release:
    """What one release did in the time range."""

    name: str
    summary: Summary
    verdict: ModelHealth


@dataclass(frozen=True)
class Sensor:
    """One sensor in the time range."""

    name: str
    reading: Reading
    spark: str


@dataclass(frozen=True)
class DeviceView:
    """Everything on the page."""

    filter: Filter
    span: Span
    now: float
    row: Row
    health: ModelHealth
    releases: tuple[Release, ...]
    classes: tuple[ClassShare, ...]
    confidence: tuple[Bin, ...]
    enough: bool  # samples, to show shares and confidence as more than a hint
    sensors: tuple[Sensor, ...]
    events: tuple[Event, ...]
    gaps: tuple[Gap, ...]
    entries: tuple[Entry, ...]
    latency: Chart
    traffic: Chart
    budget: float | None

    def encode(self) -> dict[str, Any]:
        """To what `json.dumps` takes."""
        total = self.row.total
        return {
            "start": self.span.start, "end": self.span.end, "device": encode_row(self.row),
            "model_health": {"verdict": self.health.verdict, "reason": self.health.reason},
            "classes": dict(total.classes), "confidence": list(total.confidence),
            "mean_confidence": total.mean_confidence,
            "sensors": {
                s.name: {"last": s.reading.last, "low": s.reading.low, "mean": s.reading.mean, "high": s.reading.high}
                for s in self.sensors
            },
            "releases": [
                {"name": r.name, "requests": r.summary.requests, "error_ratio": r.summary.error_ratio,
                 "p95_seconds": r.summary.latency.quantile(0.95), "verdict": r.verdict.verdict}
                for r in self.releases
            ],
            "events": [vars(event) for event in self.events],
            "gaps": [vars(gap) for gap in self.gaps],
            "audit": [entry.encode() for entry in self.entries],
        }  # fmt: skip


def gather(store: FleetStore, settings: Settings, wanted: Filter, device: Device) -> DeviceView:
    """Read what the page shows. Raises StoreError, UsageError."""
    now = store.now()
    span = wanted.span(now)
    name = device.name
    (assessed,) = overview.assess(store, [device], settings.limits)
    points = query.series(store, [name], span, step_of(span, 1), detail=True)
    total = Summary.of(point.summary for point in points)
    entries = store.entries(subject=name, limit=ENTRIES)
    marks = measures.deployment_marks(store.entries(subject=name, since=span.start, limit=500), {name})
    releases = query.by_release(store, [name], span)
    return DeviceView(
        filter=wanted, span=span, now=now, row=Row(assessed, total, spark(points, span)), health=model_health(total),
        releases=tuple(
            Release(f"{model} #{counter}" if model else "no model", summary, model_health(summary))
            for (model, counter), summary in releases.items()
            if model or summary.requests
        ),
        classes=tuple(shares(total)), confidence=tuple(bins(total)), enough=total.samples >= ENOUGH,
        sensors=tuple(
            Sensor(known, reading, sparkline(_course(points, known), from_zero=False))
            for known, reading in sorted(total.sensors.items())
        ),
        events=tuple(query.happened(store, [name], span, limit=EVENTS)),
        gaps=tuple(query.missing(store, name, span)), entries=tuple(entries),
        latency=measures.latency(span, points, marks, settings.limits.budget_p95),
        traffic=measures.traffic(span, points, marks), budget=settings.limits.budget_p95,
    )  # fmt: skip


def shares(total: Summary) -> list[ClassShare]:
    """The most frequent classes, numbered ones in their order; what is left over is one bar."""
    ranked = sorted(total.classes.items(), key=lambda item: -item[1])
    shown, rest = ranked[:CLASSES], sum(count for _, count in ranked[CLASSES:])
    if all(name.isascii() and name.isdigit() for name, _ in shown):
        shown.sort(key=lambda item: int(item[0]))
    if rest:
        shown.append((f"{len(ranked) - CLASSES} more", rest))
    everything = sum(total.classes.values()) or 1
    longest = max((count for _, count in shown), default=0) or 1
    return [ClassShare(name, n, n / everything, round(100 * n / longest, 1)) for name, n in shown]


def bins(total: Summary) -> list[Bin]:
    """The histogram of confidence; empty without samples."""
    if not total.samples:
        return []
    tallest = max(total.confidence)
    return [Bin(i / BINS, (i + 1) / BINS, n, round(100 * n / tallest, 1)) for i, n in enumerate(total.confidence)]


def _course(points: Sequence[Point], sensor: str) -> list[float | None]:
    readings = [point.summary.sensors.get(sensor) for point in points]
    return [None if reading is None else reading.mean for reading in readings]
