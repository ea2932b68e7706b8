"""Roll-ups by minute and by hour: what dashboards and queries read instead of every window.

Rules this module keeps:

* A window belongs to the minute and the hour in which its middle lies, and to the release it served.
* Windows are *added* in the transaction that stores them. They are stored once, so they are added once, and one that
  comes late changes its own minute and hour and nothing else.
* `rebuild` computes the same rows from the windows that are kept; a test holds the two equal.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, bindparam, delete, func, insert, select, update

from edgeship.fleet.packing import unpack
from edgeship.fleet.schema import HOUR, MINUTE, gaps, rollups, spools, windows
from edgeship.fleet.store import FleetStore
from edgeship.fleet.summary import COLUMNS, Summary
from edgeship.fleet.timeline import Placed

Key = tuple[int, int, str, int]  # resolution, start, model, counter


def bucket(start: float, end: float, resolution: int) -> int:
    """The beginning of the minute or hour that a window belongs to."""
    return int((start + end) / 2 // resolution) * resolution


def add(connection: Connection, device_id: int, placed: Iterable[Placed]) -> None:
    """Add new windows of one device to its minutes and hours."""
    parts: dict[Key, Summary] = {}
    pieces: dict[tuple[int, int, str, int], Summary] = {}  # by hour and minute: added up once, merged twice
    for window in placed:
        minute, hour = (bucket(window.start, window.end, resolution) for resolution in (MINUTE, HOUR))
        release = (window.window.model or "", window.window.counter or 0)
        pieces.setdefault((hour, minute, *release), Summary()).add(window)
    for (hour, minute, model, counter), piece in pieces.items():
        parts[MINUTE, minute, model, counter] = piece
        parts.setdefault((HOUR, hour, model, counter), Summary()).merge(piece)
    if not parts:
        return
    known: set[Key] = set()
    columns = [rollups.c[name] for name in ("start", "model", "counter", *COLUMNS)]
    for resolution in (MINUTE, HOUR):
        of = [key[1] for key in parts if key[0] == resolution]
        rows = connection.execute(
            select(*columns).where(
                rollups.c.device_id == device_id, rollups.c.resolution == resolution,
                rollups.c.start.between(min(of), max(of)),
            )
        )  # fmt: skip
        for row in rows:
            key = (resolution, *row[:3])
            if key in parts:
                known.add(key)
                parts[key].merge_columns(row[3:])
    _write(connection, device_id, parts, known)


def _write(connection: Connection, device_id: int, parts: dict[Key, Summary], known: set[Key]) -> None:
    fresh, changed = [], []
    for key, summary in parts.items():
        values: dict[str, Any] = summary.columns()
        if key in known:
            changed.append(values | dict(zip(("k_resolution", "k_start", "k_model", "k_counter"), key, strict=True)))
        else:
            names = dict(zip(("resolution", "start", "model", "counter"), key, strict=True))
            fresh.append(values | names | {"device_id": device_id})
    if fresh:
        connection.execute(insert(rollups), fresh)
    if changed:
        columns = rollups.c
        connection.execute(
            update(rollups).where(
                columns.device_id == device_id, columns.resolution == bindparam("k_resolution"),
                columns.start == bindparam("k_start"), columns.model == bindparam("k_model"),
                columns.counter == bindparam("k_counter"),
            ),
            changed,
        )  # fmt: skip


def rebuild(store: FleetStore, device: str) -> int:
    """Compute the roll-ups of a device again from the windows that are kept.

    Roll-ups of a time whose windows were pruned stay as they are.

    Returns:
        The number of windows read.
    """
    with store.writing() as connection:
        device_id = store.device_id(connection, device)
        rows = connection.execute(
            select(windows, spools.c.spool)
            .join(spools, spools.c.id == windows.c.spool_id)
            .where(windows.c.device_id == device_id)
            .order_by(windows.c.end)
        ).all()
        placed = [Placed(unpack(row.packed, row.spool, row.seq), row.start, row.end) for row in rows]
        for resolution in (MINUTE, HOUR):
            if not placed:
                break
            oldest = min(bucket(p.start, p.end, resolution) for p in placed)
            connection.execute(
                delete(rollups).where(
                    rollups.c.device_id == device_id, rollups.c.resolution == resolution, rollups.c.start >= oldest
                )
            )
        add(connection, device_id, placed)
    return len(placed)


@dataclass(frozen=True)
class Pruned:
    """How much is dropped, or would be."""

    windows: int
    minutes: int  # roll-ups by minute
    gaps: int


def prunable(store: FleetStore, *, windows_before: float, minutes_before: float) -> Pruned:
    """What `prune` would drop."""
    with store.reading() as connection:
        counts = [
            connection.execute(select(func.count()).select_from(table).where(old)).scalar_one()
            for table, old in _old(windows_before, minutes_before)
        ]
    return Pruned(*counts)


def prune(store: FleetStore, *, windows_before: float, minutes_before: float) -> Pruned:
    """Drop windows, and roll-ups by minute, that ended before a time (seconds since 1970); hours are kept.

    Windows that were dropped are never taken in again. The room of them is used again; the file does not shrink.

    Returns:
        What was dropped.
    """
    with store.writing() as connection:
        old = windows.c.end < windows_before
        tops = select(windows.c.spool_id, func.max(windows.c.seq)).where(old).group_by(windows.c.spool_id)
        for spool_id, top in connection.execute(tops).all():
            connection.execute(update(spools).where(spools.c.id == spool_id).values(pruned_seq=top))
        counts = [
            connection.execute(delete(table).where(past)).rowcount
            for table, past in _old(windows_before, minutes_before)
        ]
    return Pruned(*counts)


def _old(windows_before: float, minutes_before: float) -> tuple[tuple[Table, ColumnElement[bool]], ...]:
    """(table, rows that are dropped), in the order of the fields of `Pruned`."""
    minutes = and_(rollups.c.resolution == MINUTE, rollups.c.start < minutes_before - MINUTE)
    return (windows, windows.c.end < windows_before), (rollups, minutes), (gaps, gaps.c.end < minutes_before)
