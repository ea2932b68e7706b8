"""Telemetry as rows: one a step and group, with the metrics asked for; as CSV that no spreadsheet runs.

Metrics in base units: seconds, ratios from 0 to 1, counts. `classes` and `sensors` make one column a class or sensor.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from edgeship.errors import UsageError
from edgeship.fleet import query
from edgeship.fleet.selector import suggest
from edgeship.fleet.store import FleetStore
from edgeship.fleet.summary import Summary

Value = float | int | None

#: Metric -> column name and value.
METRICS: Mapping[str, tuple[str, Callable[[Summary], Value]]] = {
    "requests": ("requests", lambda s: s.requests),
    "ok": ("ok", lambda s: s.ok),
    "failed": ("failed", lambda s: s.failed),
    "refused": ("refused", lambda s: s.refused),
    "errors": ("error_ratio", lambda s: s.error_ratio),
    "rate": ("ok_per_second", lambda s: s.rate()),
    "p50": ("p50_seconds", lambda s: s.latency.quantile(0.50)),
    "p95": ("p95_seconds", lambda s: s.latency.quantile(0.95)),
    "p99": ("p99_seconds", lambda s: s.latency.quantile(0.99)),
    "compute": ("compute_p50_seconds", lambda s: s.compute.quantile(0.50)),
    "confidence": ("mean_confidence", lambda s: s.mean_confidence),
    "restarts": ("restarts", lambda s: s.restarts),
    "windows": ("windows", lambda s: s.windows),
    "seconds": ("covered_seconds", lambda s: s.seconds),
}
WIDE = ("classes", "sensors")  # metrics of several columns
DEFAULT = ("requests", "errors", "p50", "p95", "p99")
GROUPS = ("device", "release", "fleet")

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Result:
    """One row: a group, its time, its values by column."""

    group: str
    start: float  # seconds since 1970
    end: float
    values: Mapping[str, Value]


def rows(
    store: FleetStore, names: Sequence[str], of: query.Span, *, metrics: Sequence[str], by: str, step: int | None
) -> list[Result]:
    """Query telemetry.

    Args:
        store: where.
        names: devices.
        of: the time range.
        metrics: of `METRICS` and `WIDE`.
        by: of `GROUPS`.
        step: seconds; None: the range as a whole.

    Raises:
        UsageError: an unknown metric or group, or a step by release.
    """
    for metric in metrics:
        if metric not in METRICS and metric not in WIDE:
            known = [*METRICS, *WIDE]
            raise UsageError(f"there is no metric {metric!r:.40}", hint=suggest(metric, known) or ", ".join(known))
    if by not in GROUPS:
        raise UsageError(f"cannot group by {by!r:.40}", hint=", ".join(GROUPS))
    if by == "release" and step is not None:
        raise UsageError("a step goes with --by device or fleet", hint="leave --step out")
    found = _summaries(store, names, of, by, step)
    return [Result(group, start, end, _values(summary, metrics)) for group, start, end, summary in found]


def _summaries(
    store: FleetStore, names: Sequence[str], of: query.Span, by: str, step: int | None
) -> list[tuple[str, float, float, Summary]]:
    if by == "release":
        releases = query.by_release(store, names, of)
        return [(f"{m} #{c}" if m else "", of.start, of.end, s) for (m, c), s in releases.items()]
    if step is not None:
        if by == "fleet":
            series = {"fleet": query.series(store, names, of, step, detail=True)}
        else:
            series = query.series_by_device(store, names, of, step, detail=True)
        return [(name, p.start, p.start + p.step, p.summary) for name, points in series.items() for p in points]
    totals = query.totals(store, names, of)
    if by == "device":
        return [(name, of.start, of.end, totals[name]) for name in sorted(totals)]
    whole = Summary.of(totals.values())
    return [("fleet", of.start, of.end, whole)] if whole.windows else []


def _values(summary: Summary, metrics: Sequence[str]) -> dict[str, Value]:
    out: dict[str, Value] = {}
    for metric in metrics:
        if metric == "classes":
            everything = sum(summary.classes.values())
            out |= {f"class:{name}": n / everything for name, n in sorted(summary.classes.items())}
        elif metric == "sensors":
            out |= {f"sensor:{name}": reading.mean for name, reading in sorted(summary.sensors.items())}
        else:
            column, value = METRICS[metric]
            out[column] = value(summary)
    return out


def columns(results: Sequence[Result]) -> list[str]:
    """All columns of the values, in the order of their first appearance."""
    return list(dict.fromkeys(name for result in results for name in result.values))


def to_csv(results: Sequence[Result], by: str) -> str:
    """RFC 4180 with a header; times as ISO 8601 in UTC.

    A text that a spreadsheet would take for a formula gets an apostrophe in front: devices choose the names of their
    classes.
    """
    out = io.StringIO()
    writer = csv.writer(out)
    names = columns(results)
    writer.writerow([by, "start", "end", *(safe(name) for name in names)])
    for result in results:
        times = [_iso(result.start), _iso(result.end)]
        writer.writerow([safe(result.group), *times, *(_number(result.values.get(name)) for name in names)])
    return out.getvalue()


def safe(text: str) -> str:
    """A text that is no formula, without line breaks and control characters."""
    cleaned = "".join(c if c.isprintable() else " " for c in text)
    return f"'{cleaned}" if cleaned.lstrip().startswith(_FORMULA) or text.startswith(_FORMULA) else cleaned


def _number(value: Value) -> str:
    return "" if value is None else str(value) if isinstance(value, int) else f"{value:.9g}"


def _iso(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"
