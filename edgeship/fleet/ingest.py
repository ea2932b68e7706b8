"""Telemetry into the store: exactly once, ordered by (spool, seq), gaps recorded as gaps.

Rules this module keeps:

* A device may lie about itself and about nothing else: its windows are stored under the name it was contacted by,
  whatever they contain, and a window that is there already is never changed (replays are counted and ignored).
* Everything of a batch is committed together, or nothing is: windows, events, gaps, roll-ups and the cursor.
* The time axis is the host's, see `timeline`.
"""

from __future__ import annotations

import json
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from edgeship.fleet import rollup
from edgeship.fleet.packing import pack
from edgeship.fleet.schema import events, gaps, spools, windows
from edgeship.fleet.store import FleetStore
from edgeship.fleet.timeline import Contact, Placed, place
from edgeship.runtime.errors import ProtocolError
from edgeship.runtime.window import Window
from edgeship.runtime.wire import MAX_WINDOW, Json, check_name, objects

#: Windows of one batch; an agent is asked for fewer.
MAX_BATCH = 1000


@dataclass(frozen=True)
class Batch:
    """A checked answer to the `telemetry` request."""

    spool: str
    windows: tuple[Window, ...]
    more: bool


@dataclass(frozen=True)
class Gap:
    """Sequence numbers `first_seq` to `last_seq` that are not in the store, and the time they would lie in."""

    first_seq: int
    last_seq: int
    start: float
    end: float

    @property
    def missing(self) -> int:
        """Windows that are missing."""
        return self.last_seq - self.first_seq + 1


@dataclass(frozen=True)
class Ingested:
    """What became of a batch."""

    stored: int = 0
    duplicates: int = 0
    gaps: tuple[Gap, ...] = ()  # beside and between the windows of the batch


@dataclass(frozen=True)
class Cursor:
    """Up to where the telemetry of a device is in the store."""

    spool: str
    seq: int


def parse_batch(result: Json) -> Batch:
    """Check what a device answered to `telemetry`.

    Raises:
        ProtocolError: malformed or oversized windows, too many of them, windows of another spool, a sequence that does
            not ascend.
    """
    spool = check_name(result.get("spool"), "spool")
    raw = objects(result, "windows")
    if len(raw) > MAX_BATCH:
        raise ProtocolError(f"a batch of {len(raw)} windows, at most {MAX_BATCH} are allowed")
    parsed = []
    for item in raw:
        size = len(json.dumps(item, separators=(",", ":")))
        if size > MAX_WINDOW:
            raise ProtocolError(f"a window of {size} bytes, at most {MAX_WINDOW} are allowed")
        parsed.append(Window.parse(item))
    if any(window.spool != spool for window in parsed):
        raise ProtocolError(f"a window of another spool than {spool!r}")
    if any(b.seq <= a.seq for a, b in pairwise(parsed)):
        raise ProtocolError("the windows' sequence does not ascend")
    return Batch(spool, tuple(parsed), bool(result.get("more", False)))


def cursor(store: FleetStore, device: str) -> Cursor | None:
    """Where the next pull of a device goes on: its newest spool and the highest sequence number stored of it."""
    with store.reading() as connection:
        row = connection.execute(
            select(spools.c.spool, spools.c.last_seq)
            .where(spools.c.device_id == store.device_id(connection, device))
            .order_by(spools.c.id.desc())
            .limit(1)
        ).first()
    return None if row is None else Cursor(row.spool, row.last_seq)


def ingest(store: FleetStore, device: str, batch: Sequence[Window], contact: Contact | None = None) -> Ingested:
    """Store windows of one device; committed when this returns.

    Args:
        store: the fleet's store.
        device: the name it was contacted by.
        batch: parsed windows, in any order, of one or several spools.
        contact: the clocks at contact; without it the device's clock is taken as right, and never later than now.

    Raises:
        UsageError: no such device.
        StoreError: nothing was stored.
    """
    at = contact or Contact(host=store.now())
    by_spool: dict[str, dict[int, Window]] = {}
    for window in batch:
        by_spool.setdefault(window.spool, {}).setdefault(window.seq, window)
    stored, found = 0, []
    with store.writing() as connection:
        device_id = store.device_id(connection, device)
        for spool, of in by_spool.items():
            new, beside = _ingest_spool(connection, device_id, spool, of, at)
            stored += new
            found += beside
    return Ingested(stored, len(batch) - stored, tuple(found))


@dataclass(frozen=True)
class _Known:
    """A window of the store: sequence number and place."""

    seq: int
    start: float
    end: float


def _ingest_spool(
    connection: Connection, device_id: int, spool: str, of: dict[int, Window], contact: Contact
) -> tuple[int, list[Gap]]:
    row = _spool_row(connection, device_id, spool)
    wanted = [seq for seq in sorted(of) if seq > row.pruned_seq]
    if not wanted:
        return 0, []
    known = _around(connection, row.id, wanted[0], wanted[-1])
    have = {window.seq for window in known}
    fresh = [of[seq] for seq in wanted if seq not in have]
    if not fresh:
        return 0, []
    below = known[0] if known and known[0].seq < wanted[0] else None
    if below is None and row.last_seq and row.last_seq == row.pruned_seq:
        below = _Known(row.last_seq, row.last_end, row.last_end)  # dropped since; its end still bounds what follows
        known = [below, *known]
    placed = _place_runs(fresh, known, contact)
    _insert(connection, device_id, row.id, placed)
    rollup.add(connection, device_id, placed)
    if placed[-1].window.seq > row.last_seq:
        last = placed[-1]
        newest = {"last_seq": last.window.seq, "last_end": last.end, "last_seconds": last.end - last.start}
        connection.execute(update(spools).where(spools.c.id == row.id).values(newest))
    line = sorted(known + [_Known(p.window.seq, p.start, p.end) for p in placed], key=lambda window: window.seq)
    if below is None:
        line = [_Known(row.pruned_seq, line[0].start, line[0].start), *line]
    return len(fresh), _mark_gaps(connection, device_id, row.id, line)


def _spool_row(connection: Connection, device_id: int, spool: str) -> Row[Any]:
    query = select(spools).where(spools.c.device_id == device_id, spools.c.spool == spool)
    row = connection.execute(query).first()
    if row is None:
        blank = {"last_seq": 0, "last_end": 0.0, "last_seconds": 0.0, "pruned_seq": 0}
        connection.execute(insert(spools).values(device_id=device_id, spool=spool, **blank))
        row = connection.execute(query).one()
    return row


def _around(connection: Connection, spool_id: int, low: int, high: int) -> list[_Known]:
    """The stored windows from `low` to `high`, and the nearest one on either side."""
    base = select(windows.c.seq, windows.c.start, windows.c.end).where(windows.c.spool_id == spool_id)
    below = connection.execute(base.where(windows.c.seq < low).order_by(windows.c.seq.desc()).limit(1))
    within = connection.execute(base.where(windows.c.seq.between(low, high)).order_by(windows.c.seq))
    above = connection.execute(base.where(windows.c.seq > high).order_by(windows.c.seq).limit(1))
    return [_Known(row.seq, row.start, row.end) for part in (below, within, above) for row in part.all()]


def _place_runs(fresh: list[Window], known: list[_Known], contact: Contact) -> list[Placed]:
    """Place each run of new windows between the stored ones around it."""
    seqs = [window.seq for window in known]
    out: list[Placed] = []
    start = 0
    while start < len(fresh):
        at = bisect(seqs, fresh[start].seq)
        behind = known[at] if at < len(known) else None
        end = start + 1
        while end < len(fresh) and (behind is None or fresh[end].seq < behind.seq):
            end += 1
        floor = known[at - 1].end if at else None
        out += place(fresh[start:end], contact, floor=floor, ceiling=behind.start if behind else None)
        start = end
    return out


def _insert(connection: Connection, device_id: int, spool_id: int, placed: list[Placed]) -> None:
    connection.execute(
        insert(windows),
        [
            {
                "spool_id": spool_id, "seq": p.window.seq, "device_id": device_id, "start": p.start, "end": p.end,
                "packed": pack(p.window),
            }
            for p in placed
        ],
    )  # fmt: skip
    happened: list[dict[str, Any]] = [
        {"device_id": device_id, "at": p.end, "kind": event["kind"], "text": event["text"]}
        for p in placed
        for event in p.window.events
    ]
    if happened:
        connection.execute(insert(events), happened)


def _mark_gaps(connection: Connection, device_id: int, spool_id: int, line: list[_Known]) -> list[Gap]:
    """Write the gaps between the windows of `line` (ascending) anew."""
    found = [Gap(a.seq + 1, b.seq - 1, a.end, max(a.end, b.start)) for a, b in pairwise(line) if b.seq > a.seq + 1]
    within = gaps.c.first_seq.between(line[0].seq + 1, line[-1].seq)
    connection.execute(delete(gaps).where(gaps.c.spool_id == spool_id, within))
    if found:
        connection.execute(
            insert(gaps),
            [
                {
                    "spool_id": spool_id, "device_id": device_id, "first_seq": g.first_seq, "last_seq": g.last_seq,
                    "start": g.start, "end": g.end,
                }
                for g in found
            ],
        )  # fmt: skip
    return found
