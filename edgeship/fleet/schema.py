"""The tables of the fleet's database, its version, and how a connection is set up.

Rules this module keeps:

* Plain SQL types only, so that another database can hold the same tables (only SQLite is tried yet); what SQLite alone
  needs (write-ahead log, busy timeout, foreign keys, triggers) is attached to its dialect.
* One packed row a window, unique by (device, spool, seq): a window is in the store exactly once.
* Roll-ups are additive: a window is added to its minute and its hour in the transaction that stores it.
* The audit table only grows: triggers refuse UPDATE and DELETE, a hash chain shows what was changed around them.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    DDL,
    BigInteger,
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    event,
)
from sqlalchemy.engine import Engine
from sqlalchemy.engine.url import URL
from sqlalchemy.pool import ConnectionPoolEntry

#: Stamped into the database; a store of another version is refused with what to do.
SCHEMA_VERSION = 1

MINUTE, HOUR = 60, 3600  # seconds; the two resolutions of roll-ups

metadata = MetaData()

meta = Table("meta", metadata, Column("key", String(64), primary_key=True), Column("value", Text, nullable=False))

devices = Table(
    "devices", metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("profile", String(64), nullable=False),
    Column("record", Text, nullable=False),  # JSON of edgeship.deploy.device.Device
    Column("added", Float, nullable=False),  # seconds since 1970, host clock
)  # fmt: skip


def _of_device(*, primary_key: bool = False) -> Column[int]:
    return Column(
        "device_id", Integer, ForeignKey("devices.id", ondelete="CASCADE"), primary_key=primary_key, nullable=False
    )


#: What the last contact with a device brought.
contacts = Table(
    "contacts", metadata, _of_device(primary_key=True),
    Column("attempted", Float, nullable=False),
    Column("reached", Float),  # the last contact that worked
    Column("error", Text),  # of the last attempt, NULL when it worked
    Column("failing_since", Float),
    Column("skew", Float),  # host clock minus device clock, seconds
    Column("status", Text),  # JSON, the agent's `status`
)  # fmt: skip

#: One row a spool of a device; (spool, last_seq) is the cursor of the next pull.
spools = Table(
    "spools", metadata,
    Column("id", Integer, primary_key=True), _of_device(),
    Column("spool", String(64), nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("last_end", Float, nullable=False),  # end of the last window on the host's time axis
    Column("last_seconds", Float, nullable=False),  # its length
    Column("pruned_seq", BigInteger, nullable=False),  # up to here windows were dropped: never taken in again
    UniqueConstraint("device_id", "spool"),
)  # fmt: skip


def _of_spool() -> Column[int]:
    return Column("spool_id", Integer, ForeignKey("spools.id", ondelete="CASCADE"), primary_key=True)


windows = Table(
    "windows", metadata, _of_spool(),
    Column("seq", BigInteger, primary_key=True), _of_device(),
    Column("start", Float, nullable=False),  # on the host's time axis, see `timeline`
    Column("end", Float, nullable=False),
    Column("packed", LargeBinary, nullable=False),  # zlib of compact JSON
    Index("windows_by_time", "device_id", "end"),
    sqlite_with_rowid=False,
)  # fmt: skip

#: Sequence numbers that never arrived: lost on the device, or not yet here.
gaps = Table(
    "gaps", metadata, _of_spool(),
    Column("first_seq", BigInteger, primary_key=True), _of_device(),
    Column("last_seq", BigInteger, nullable=False),
    Column("start", Float, nullable=False),
    Column("end", Float, nullable=False),
    Index("gaps_by_time", "device_id", "end"),
)  # fmt: skip

#: What happened on a device, as its windows tell.
events = Table(
    "events", metadata,
    Column("id", Integer, primary_key=True), _of_device(),
    Column("at", Float, nullable=False),
    Column("kind", String(64), nullable=False),
    Column("text", Text, nullable=False),
    Index("events_by_time", "device_id", "at"),
)  # fmt: skip

rollups = Table(
    "rollups", metadata,
    Column("resolution", Integer, primary_key=True),  # MINUTE | HOUR
    Column("start", BigInteger, primary_key=True),  # seconds since 1970, a multiple of the resolution
    _of_device(primary_key=True),
    Column("model", String(64), primary_key=True),  # "" where nothing was served
    Column("counter", BigInteger, primary_key=True),  # release counter; 0 where nothing was served
    Column("first", Float, nullable=False), Column("last", Float, nullable=False),
    Column("windows", BigInteger, nullable=False), Column("seconds", Float, nullable=False),
    Column("ok", BigInteger, nullable=False), Column("failed", BigInteger, nullable=False),
    Column("refused", BigInteger, nullable=False), Column("restarts", BigInteger, nullable=False),
    Column("latency", LargeBinary, nullable=False), Column("compute", LargeBinary, nullable=False),
    Column("detail", LargeBinary, nullable=False),  # zlib of JSON: classes, confidence, sensors
    Index("rollups_of_device", "device_id", "resolution", "start"),
)  # fmt: skip

audit = Table(
    "audit", metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # counts from 1 without gaps
    Column("at", Float, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", String(200), nullable=False),
    Column("detail", Text, nullable=False),  # canonical JSON
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Index("audit_by_subject", "subject", "at"),
)  # fmt: skip

for _verb in ("UPDATE", "DELETE"):
    _trigger: Any = DDL(  # type: ignore[no-untyped-call]  # SQLAlchemy's own annotation is missing
        f"CREATE TRIGGER audit_no_{_verb.lower()} BEFORE {_verb} ON audit "
        "BEGIN SELECT RAISE(ABORT, 'the audit trail only grows'); END"
    )
    event.listen(audit, "after_create", _trigger.execute_if(dialect="sqlite"))


def prepare(engine: Engine) -> None:
    """Set every SQLite connection of `engine` up; nothing to do for other databases.

    The driver's own transaction handling is switched off: it begins a write transaction late, so that two writers
    could both read before one of them writes. A connection with the execution option `edgeship_write` takes the write
    lock at its beginning instead and waits up to the busy timeout for it.
    """
    if engine.dialect.name != "sqlite":
        return

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _entry: ConnectionPoolEntry) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in ("busy_timeout = 30000", "journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("edgeship_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def sqlite_file(url: URL) -> str | None:
    """The path of an SQLite database, None for one in memory or another database."""
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return None
    return url.database
