"""The audit trail: who did what to which device, append-only and hash-chained.

Each entry's hash covers its content and the hash before it, so that changing, dropping or reordering an entry breaks
every hash after it. Cutting the newest entries off leaves a whole chain: the number of entries and the newest hash are
kept beside it (`meta`) and given by `verify`, to be noted outside the database and given back to it later.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from edgeship.fleet.schema import audit, meta

GENESIS = "0" * 64
_HEAD = "audit_head"

#: Actions that change what a device serves; the dashboard marks them on the time axis.
DEPLOYMENTS = ("deploy.good", "deploy.failed")


@dataclass(frozen=True)
class Entry:
    """One line of the trail."""

    id: int
    at: float  # seconds since 1970, host clock
    actor: str  # user@host
    action: str  # deploy.good | deploy.failed | release.publish | device.add | …
    subject: str  # mostly a device's name
    detail: Mapping[str, Any]
    previous: str
    hash: str

    @property
    def release(self) -> str:
        """`model #counter` as the detail names it, else empty."""
        model, counter = self.detail.get("model"), self.detail.get("counter")
        return f"{model} #{counter}" if model and counter else ""

    def encode(self) -> dict[str, Any]:
        """To what `json.dumps` takes."""
        return {
            "id": self.id, "at": self.at, "actor": self.actor, "action": self.action, "subject": self.subject,
            "detail": dict(self.detail), "hash": self.hash,
        }  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """Whether the trail is whole."""

    entries: int
    head: str  # hash of the newest entry
    broken: int | None = None  # id of the first entry that does not fit, where it can be told
    reason: str = ""

    @property
    def whole(self) -> bool:
        """Every hash fits and nothing is missing."""
        return not self.reason


def actor() -> str:
    """Who runs this command: user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in many containers
        user = "unknown"
    return f"{user}@{socket.gethostname()}"[:200]


def append(
    connection: Connection, action: str, subject: str, detail: Mapping[str, Any], *, at: float, by: str | None = None
) -> Entry:
    """Add one entry; `connection` must hold the write lock."""
    newest = connection.execute(select(audit.c.id, audit.c.hash).order_by(audit.c.id.desc()).limit(1)).first()
    number, previous = (newest.id + 1, newest.hash) if newest else (1, GENESIS)
    text = json.dumps(dict(detail), sort_keys=True, separators=(",", ":"), default=str)
    row: dict[str, Any] = {
        "id": number, "at": at, "actor": by or actor(), "action": action[:64], "subject": subject[:200],
        "detail": text, "previous": previous,
    }  # fmt: skip
    row["hash"] = digest(row)
    connection.execute(insert(audit).values(row))
    head = {"value": f"{number} {row['hash']}"}
    if not connection.execute(update(meta).where(meta.c.key == _HEAD).values(head)).rowcount:
        connection.execute(insert(meta).values(key=_HEAD, **head))
    return _entry(row)


def digest(row: Mapping[str, Any]) -> str:
    """The hash of an entry: SHA-256 of its fields as canonical JSON, `previous` among them."""
    fields = {key: row[key] for key in ("id", "at", "actor", "action", "subject", "detail", "previous")}
    return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read(
    connection: Connection,
    *,
    subject: str | None = None,
    actions: tuple[str, ...] = (),
    since: float = 0.0,
    until: float | None = None,
    limit: int = 100,
) -> list[Entry]:
    """The newest entries, newest first."""
    query = select(audit).where(audit.c.at >= since).order_by(audit.c.id.desc()).limit(limit)
    if subject is not None:
        query = query.where(audit.c.subject == subject)
    if actions:
        query = query.where(audit.c.action.in_(actions))
    if until is not None:
        query = query.where(audit.c.at <= until)
    return [_entry(_fields(row)) for row in connection.execute(query)]


def verify(connection: Connection, noted: str | None = None) -> Verdict:
    """Walk the whole chain from its beginning.

    `noted`: the newest hash of an earlier time; a trail that was written anew does not have it.
    """
    previous, number, seen = GENESIS, 0, noted in (None, GENESIS)
    for row in connection.execute(select(audit).order_by(audit.c.id)).yield_per(1000):
        fields = _fields(row)
        if row.id != number + 1:
            return Verdict(number, previous, number + 1, f"entry {number + 1} is missing")
        if row.previous != previous:
            return Verdict(number, previous, row.id, f"entry {row.id} does not follow entry {number}")
        if digest(fields) != row.hash:
            return Verdict(number, previous, row.id, f"entry {row.id} was changed")
        previous, number, seen = row.hash, row.id, seen or row.hash == noted
    head = connection.execute(select(meta.c.value).where(meta.c.key == _HEAD)).scalar()
    if head is not None and head != f"{number} {previous}":
        return Verdict(number, previous, number + 1, f"the newest entries are missing: {head.split()[0]} were written")
    if not seen:
        return Verdict(number, previous, None, f"no entry has the hash that was noted, {noted}: it was written anew")
    return Verdict(number, previous)


def _fields(row: Row[Any]) -> dict[str, Any]:
    return dict(row._mapping)  # noqa: SLF001 -- the documented way to a row's columns


def _entry(row: Mapping[str, Any]) -> Entry:
    return Entry(**{**row, "detail": json.loads(row["detail"])})
