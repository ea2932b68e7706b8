"""Reading telemetry: merged over devices and time, from the roll-ups.

Minutes and hours come from the roll-ups; steps below a minute are merged from the windows themselves, and only where
they are few. Percentiles are those of the merged histograms, never averages of percentiles.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection, Select, func, select

from edgeship.errors import UsageError
from edgeship.fleet.ingest import Gap
from edgeship.fleet.packing import unpack
from edgeship.fleet.schema import HOUR, MINUTE, devices, events, gaps, rollups, spools, windows
from edgeship.fleet.store import FleetStore
from edgeship.fleet.summary import COLUMNS, LEAN, Summary
from edgeship.fleet.timeline import Placed

STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400)
_RAW = 5000  # windows that may be merged one by one for a step below a minute
_IN = 400  # keys in one IN (…)

_DURATION = re.compile(r"(\d{1,6}(?:\.\d+)?)\s*(s|m|min|h|d|w)")
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}


@dataclass(frozen=True)
class Span:
    """From `start` up to `end`, seconds since 1970 on the host's axis."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """Length."""
        return self.end - self.start


@dataclass(frozen=True)
class Point:
    """What happened in one step of time."""

    start: float
    step: float
    summary: Summary


@dataclass(frozen=True)
class Event:
    """What a device told in a window."""

    at: float
    device: str
    kind: str
    text: str


@dataclass(frozen=True)
class Newest:
    """The newest window of a device."""

    end: float
    seconds: float


# ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def duration(text: str) -> float:
    """`90s`, `15m`, `24h`, `7d`, `2w` in seconds. Raises UsageError."""
    found = _DURATION.fullmatch(text.strip())
    if not found or not float(found[1]):
        raise UsageError(f"not a length of time: {text!r:.40}", hint="30s, 15m, 24h, 7d")
    return float(found[1]) * _UNITS[found[2]]


def moment(text: str, now: float) -> float:
    """A time as ISO 8601 (UTC where it names no zone), or how long ago (`2h`). Raises UsageError."""
    try:
        if _DURATION.fullmatch(text.strip()):
            return now - duration(text)
        at = datetime.fromisoformat(text.strip())
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(f"not a time: {text!r:.40}", hint="2h (ago), 2026-11-22, 2026-11-22T10:00:00+01:00") from error


def span(since: str, until: str | None, now: float) -> Span:
    """The range between two times as `moment` reads them. Raises UsageError."""
    end = now if until is None else moment(until, now)
    start = moment(since, now)
    if not start < end:
        raise UsageError(
            "the time range is empty: --since must lie before --until", hint="such as --since 2h --until 1h"
        )
    return Span(start, end)


def step_for(of: Span, points: int = 240) -> int:
    """The finest step, of `STEPS`, that gives at most `points` points."""
    return next((step for step in STEPS if of.seconds / step <= points), STEPS[-1])


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def totals(store: FleetStore, names: Sequence[str], of: Span, *, detail: bool = True) -> dict[str, Summary]:
    """Device -> everything in a range; devices without a window are left out."""
    out: dict[str, Summary] = {}
    with store.reading() as connection:
        ids = _ids(store, connection, names)
        for resolution, start, end in _pieces(of):
            for row in _rows(connection, ids, resolution, start, end, COLUMNS if detail else LEAN):
                out.setdefault(ids[row[0]], Summary()).merge_columns(row[4:])
    return out


def by_release(store: FleetStore, names: Sequence[str], of: Span) -> dict[tuple[str, int], Summary]:
    """(model, release counter) -> everything in a range, newest counter first; ("", 0): nothing was served."""
    out: dict[tuple[str, int], Summary] = {}
    with store.reading() as connection:
        ids = _ids(store, connection, names)
        for resolution, start, end in _pieces(of):
            for row in _rows(connection, ids, resolution, start, end, COLUMNS):
                out.setdefault((row[2], row[3]), Summary()).merge_columns(row[4:])
    return dict(sorted(out.items(), key=lambda item: item[0][1], reverse=True))


def series(
    store: FleetStore, names: Sequence[str], of: Span, step: int | None = None, *, detail: bool = False
) -> list[Point]:
    """The range in steps, merged over the devices; steps without a window are left out."""
    return merge(series_by_device(store, names, of, step, detail=detail))


def merge(by_device: Mapping[str, Sequence[Point]]) -> list[Point]:
    """One series over all devices."""
    out: dict[float, Point] = {}
    for points in by_device.values():
        for point in points:
            out.setdefault(point.start, Point(point.start, point.step, Summary())).summary.merge(point.summary)
    return [out[start] for start in sorted(out)]


def series_by_device(
    store: FleetStore, names: Sequence[str], of: Span, step: int | None = None, *, detail: bool = False
) -> dict[str, list[Point]]:
    """Device -> the range in steps. A step that the store is too coarse for becomes a minute."""
    width = step or step_for(of)
    out: dict[str, dict[float, Summary]] = {}
    with store.reading() as connection:
        ids = _ids(store, connection, names)
        if width % MINUTE and not _few(connection, ids, of):
            width = max(MINUTE, math.ceil(width / MINUTE) * MINUTE)
        if width % MINUTE:
            for name, placed in _placed(connection, ids, of):
                at = (placed.start + placed.end) / 2 // width * width
                out.setdefault(name, {}).setdefault(at, Summary()).add(placed)
        else:
            resolution = MINUTE if width % HOUR else HOUR
            start, end = int(of.start // width * width), math.ceil(of.end)
            for row in _rows(connection, ids, resolution, start, end, COLUMNS if detail else LEAN):
                at = row[1] // width * width
                out.setdefault(ids[row[0]], {}).setdefault(at, Summary()).merge_columns(row[4:])
    return {name: [Point(at, width, steps[at]) for at in sorted(steps)] for name, steps in sorted(out.items())}


def breaks(points: Sequence[Point], of: Span) -> list[Span]:
    """Times within a range, longer than a step and three windows, that no window covers."""
    if not points:
        return [of]
    covered = sum(p.summary.seconds for p in points) / max(1, sum(p.summary.windows for p in points))
    least = max(3 * covered, points[0].step)
    edges = [(of.start, of.start), *((p.summary.first, p.summary.last) for p in points), (of.end, of.end)]
    found = []
    reached = of.start
    for (_, last), (first, _) in pairwise(edges):
        reached = max(reached, last)
        if first - reached > least:
            found.append(Span(reached, first))
    return found


def missing(store: FleetStore, name: str, of: Span) -> list[Gap]:
    """Windows of a device that never arrived, in a range."""
    with store.reading() as connection:
        rows = connection.execute(
            select(gaps)
            .where(
                gaps.c.device_id == store.device_id(connection, name), gaps.c.end >= of.start, gaps.c.start <= of.end
            )
            .order_by(gaps.c.start)
            .limit(1000)
        )
        return [Gap(row.first_seq, row.last_seq, row.start, row.end) for row in rows]


def happened(store: FleetStore, names: Sequence[str], of: Span, *, limit: int = 100) -> list[Event]:
    """What devices told in their windows, newest first."""
    with store.reading() as connection:
        ids = _ids(store, connection, names)
        base = (
            select(events)
            .where(events.c.at.between(of.start, of.end))
            .order_by(events.c.at.desc(), events.c.id.desc())
            .limit(limit)
        )
        rows = [
            row for query in _restricted(base, events.c.device_id, ids, connection) for row in connection.execute(query)
        ]
        found = [Event(row.at, ids[row.device_id], row.kind, row.text) for row in rows]
    return sorted(found, key=lambda event: event.at, reverse=True)[:limit]


def newest(store: FleetStore) -> dict[str, Newest]:
    """Device -> its newest window, for devices that have any."""
    query = (
        select(devices.c.name, spools.c.last_end, spools.c.last_seconds)
        .join(spools, spools.c.device_id == devices.c.id)
        .where(spools.c.last_seq > 0)
        .order_by(spools.c.last_end)
    )
    with store.reading() as connection:
        return {row.name: Newest(row.last_end, row.last_seconds) for row in connection.execute(query)}


# ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _ids(store: FleetStore, connection: Connection, names: Sequence[str]) -> dict[int, str]:
    known = store.device_ids(connection)
    wanted = set(names)
    return {key: name for name, key in known.items() if name in wanted}


def _pieces(of: Span) -> Iterator[tuple[int, int, int]]:
    """(resolution, start, end): whole hours by the hour, the edges by the minute."""
    start, end = int(of.start // MINUTE * MINUTE), math.ceil(of.end / MINUTE) * MINUTE
    first, last = math.ceil(start / HOUR) * HOUR, end // HOUR * HOUR
    if last <= first:
        yield MINUTE, start, end
        return
    yield MINUTE, start, first
    yield HOUR, first, last
    yield MINUTE, last, end


def _rows(
    connection: Connection, ids: dict[int, str], resolution: int, start: int, end: int, columns: Sequence[str]
) -> Iterator[Sequence[Any]]:
    """(device id, start, model, counter, *columns) of roll-ups, in the order of time."""
    base = (
        select(*(rollups.c[name] for name in ("device_id", "start", "model", "counter", *columns)))
        .where(rollups.c.resolution == resolution, rollups.c.start >= start, rollups.c.start < end)
        .order_by(rollups.c.start)
    )
    for query in _restricted(base, rollups.c.device_id, ids, connection):
        for portion in connection.execute(query).partitions(2000):
            yield from portion


def _restricted(base: Select[Any], column: Any, ids: dict[int, str], connection: Connection) -> Iterable[Select[Any]]:
    """`base` for these devices alone: as it is when they are all, else in portions."""
    if len(ids) == connection.execute(select(func.count()).select_from(devices)).scalar():
        return [base]
    keys = sorted(ids)
    return [base.where(column.in_(keys[at : at + _IN])) for at in range(0, len(keys), _IN)]


def _few(connection: Connection, ids: dict[int, str], of: Span) -> bool:
    base = select(func.count()).select_from(windows).where(windows.c.end.between(of.start, of.end))
    queries = _restricted(base, windows.c.device_id, ids, connection)
    return sum(connection.execute(query).scalar() or 0 for query in queries) <= _RAW


def _placed(connection: Connection, ids: dict[int, str], of: Span) -> Iterator[tuple[str, Placed]]:
    base = (
        select(windows, spools.c.spool)
        .join(spools, spools.c.id == windows.c.spool_id)
        .where(windows.c.end.between(of.start, of.end))
        .order_by(windows.c.end)
    )
    for query in _restricted(base, windows.c.device_id, ids, connection):
        for row in connection.execute(query):
            yield ids[row.device_id], Placed(unpack(row.packed, row.spool, row.seq), row.start, row.end)
