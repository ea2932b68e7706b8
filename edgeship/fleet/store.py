"""The fleet's database: opening it, devices, contacts, and the trail of what was done.

Implements `edgeship.deploy`'s `Store`. Reading telemetry is `query`, writing it is `ingest`; both get their connections
here. Errors of the database are mapped to StoreError at this seam.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Connection, create_engine, delete, insert, inspect, select, update
from sqlalchemy.engine import Engine
from sqlalchemy.engine.url import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from edgeship.deploy.device import Device
from edgeship.errors import StoreError, UsageError
from edgeship.fleet import audit as trail
from edgeship.fleet import schema
from edgeship.fleet.selector import suggest
from edgeship.runtime.errors import ProtocolError
from edgeship.runtime.wire import check_name


@dataclass(frozen=True)
class ContactRecord:
    """What the last contact with a device brought; times are seconds since 1970 on the host's clock."""

    attempted: float
    reached: float | None = None
    error: str | None = None  # of the last attempt, None when it worked
    failing_since: float | None = None
    skew: float | None = None  # host clock minus device clock, seconds
    status: Mapping[str, Any] = field(default_factory=dict)  # the agent's `status`, untrusted


class FleetStore:
    """The fleet's database. Safe to use from several threads and processes."""

    def __init__(self, engine: Engine, *, clock: Any = time.time) -> None:
        self._engine = engine
        self._writer = engine.execution_options(edgeship_write=True)
        self._clock = clock

    @classmethod
    def open(cls, url: str | Path, *, create: bool = True) -> FleetStore:
        """Open the store and bring an empty database to the current schema.

        Args:
            url: an SQLAlchemy URL (`sqlite:///.edgeship/fleet.db`), or the path of an SQLite file.
            create: make a missing SQLite file; False refuses instead.

        Raises:
            UsageError: the URL is not understood, or its driver is not installed.
            StoreError: the database cannot be opened, or is of another schema version.
        """
        text = str(url) if "://" in str(url) else f"sqlite:///{url}"
        try:
            address = make_url(text)
            file = schema.sqlite_file(address)
            if file is not None:
                if not create and not Path(file).exists():
                    raise StoreError(f"there is no fleet store at {file}", hint="edgeship init")
                Path(file).parent.mkdir(parents=True, exist_ok=True)
            in_memory = file is None and address.get_backend_name() == "sqlite"
            engine = create_engine(
                address,
                **({"poolclass": StaticPool, "connect_args": {"check_same_thread": False}} if in_memory else {}),
            )
        except ArgumentError as error:
            raise UsageError(
                f"fleet.store is not a database URL: {text!r}", hint='store = "sqlite:///.edgeship/fleet.db"'
            ) from error
        except ModuleNotFoundError as error:
            raise UsageError(f"fleet.store needs the package {error.name}", hint=f"pip install {error.name}") from error
        except OSError as error:
            raise StoreError(
                f"the folder of the fleet store cannot be made: {error}", hint="[fleet] store in edgeship.toml names it"
            ) from error
        schema.prepare(engine)
        store = cls(engine)
        try:
            store._create(file)
        except BaseException:
            engine.dispose()
            raise
        return store

    def _create(self, file: str | None) -> None:
        with self.writing() as connection:
            if not inspect(connection).has_table("meta"):
                schema.metadata.create_all(connection)
                connection.execute(insert(schema.meta).values(key="schema", value=str(schema.SCHEMA_VERSION)))
            found = connection.execute(select(schema.meta.c.value).where(schema.meta.c.key == "schema")).scalar()
        if found != str(schema.SCHEMA_VERSION):
            raise StoreError(
                f"the fleet store has schema version {found}, this edgeship reads version {schema.SCHEMA_VERSION}",
                hint="use the edgeship that wrote it, or move the file away to start a new one",
            )
        if file is not None:
            os.chmod(file, 0o600)  # addresses, users and host keys of a fleet

    def close(self) -> None:
        """Close all connections; safe to call twice."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def now(self) -> float:
        """The host's clock, seconds since 1970."""
        return float(self._clock())

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection with a consistent view. Raises StoreError."""
        with _mapped(self._engine), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection that holds the write lock: committed at the end, rolled back on any error. Raises StoreError."""
        with _mapped(self._engine), self._writer.begin() as connection:
            yield connection

    # ── devices ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def devices(self) -> list[Device]:
        """All enrolled devices by name."""
        with self.reading() as connection:
            records = connection.execute(select(schema.devices.c.record).order_by(schema.devices.c.name)).scalars()
            return [decode_device(record) for record in records]

    def save_device(self, device: Device) -> None:
        """Add a device, or replace the record of the same name. Raises UsageError for a name that is not plain."""
        try:
            check_name(device.name, "a device's name")
        except ProtocolError as error:
            raise UsageError(str(error), hint="letters, digits, dots, dashes and underscores, such as pi-1") from error
        row = {"profile": device.profile, "record": encode_device(device)}
        table = schema.devices
        with self.writing() as connection:
            changed = connection.execute(update(table).where(table.c.name == device.name).values(row)).rowcount
            if not changed:
                connection.execute(insert(table).values(name=device.name, added=self.now(), **row))
                detail = {"profile": device.profile, "host": device.host, "host_key": device.host_key}
                trail.append(connection, "device.add", device.name, detail, at=self.now())

    def remove_device(self, name: str) -> None:
        """Forget a device and its telemetry; the audit trail keeps its name. Raises UsageError when there is none."""
        with self.writing() as connection:
            identity = self.device_id(connection, name)
            connection.execute(delete(schema.devices).where(schema.devices.c.id == identity))
            trail.append(connection, "device.remove", name, {}, at=self.now())

    def device_ids(self, connection: Connection) -> dict[str, int]:
        """Device name -> key of its rows."""
        table = schema.devices
        return {row.name: row.id for row in connection.execute(select(table.c.name, table.c.id))}

    def device_id(self, connection: Connection, name: str) -> int:
        """The key of a device's rows. Raises UsageError for an unknown name, with the nearest known one."""
        table = schema.devices
        found = connection.execute(select(table.c.id).where(table.c.name == name)).scalar()
        if found is None:
            known = connection.execute(select(table.c.name)).scalars().all()
            raise UsageError(f"there is no device {name!r}", hint=suggest(name, known) or "edgeship device list")
        return int(found)

    # ── contacts ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def contacts(self) -> dict[str, ContactRecord]:
        """Device name -> its last contact, for those that were ever tried."""
        table = schema.contacts
        query = select(schema.devices.c.name, table).join(table, table.c.device_id == schema.devices.c.id)
        with self.reading() as connection:
            return {
                row.name: ContactRecord(
                    row.attempted, row.reached, row.error, row.failing_since, row.skew,
                    json.loads(row.status) if row.status else {},
                )
                for row in connection.execute(query)
            }  # fmt: skip

    def record_contact(
        self,
        device: str,
        *,
        status: Mapping[str, Any] | None = None,
        skew: float | None = None,
        error: str | None = None,
    ) -> None:
        """Note that a device was reached (its `status`, its clock), or that it was not (`error`)."""
        now, table = self.now(), schema.contacts
        with self.writing() as connection:
            identity = self.device_id(connection, device)
            before = connection.execute(select(table).where(table.c.device_id == identity)).first()
            values: dict[str, Any] = {"attempted": now, "error": error and error[:500]}
            if error is None:
                values |= {"reached": now, "failing_since": None, "skew": skew}
                if status is not None:
                    values["status"] = json.dumps(dict(status))
            elif before is None or before.failing_since is None:
                values["failing_since"] = now
            if before is None:
                connection.execute(insert(table).values(device_id=identity, **values))
            else:
                connection.execute(update(table).where(table.c.device_id == identity).values(values))

    # ── audit ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def audit(self, action: str, subject: str, detail: Mapping[str, Any]) -> None:
        """Add one entry to the audit trail."""
        with self.writing() as connection:
            trail.append(connection, action, subject, detail, at=self.now())

    def entries(
        self, *, subject: str | None = None, actions: Sequence[str] = (), since: float = 0.0, limit: int = 100
    ) -> list[trail.Entry]:
        """The newest entries of the trail, newest first."""
        with self.reading() as connection:
            return trail.read(connection, subject=subject, actions=tuple(actions), since=since, limit=limit)

    def deployments(self, *, since: float = 0.0, limit: int = 500) -> list[trail.Entry]:
        """The entries that changed, or tried to change, what a device serves; newest first."""
        return self.entries(actions=trail.DEPLOYMENTS, since=since, limit=limit)

    def verify_audit(self, noted: str | None = None) -> trail.Verdict:
        """Whether the audit trail is whole, and holds an entry whose hash was noted once."""
        with self.reading() as connection:
            return trail.verify(connection, noted)


def encode_device(device: Device) -> str:
    """A device as JSON; fields at their default are left out, so that a default may change later."""
    blank = Device(name="", profile="")
    data = {f.name: getattr(device, f.name) for f in fields(Device)}
    kept = {k: v for k, v in data.items() if v != getattr(blank, k)}
    if "labels" in kept:
        kept["labels"] = dict(kept["labels"])
    return json.dumps(kept, sort_keys=True)


def decode_device(record: str) -> Device:
    """The inverse of `encode_device`; fields that this version does not know are ignored."""
    known = {f.name for f in fields(Device)}
    data = {k: v for k, v in json.loads(record).items() if k in known}
    if "python" in data:
        data["python"] = tuple(data["python"])
    return Device(**data)


@contextmanager
def _mapped(engine: Engine) -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        hint = None
        if "locked" in str(cause):
            hint = "another edgeship holds the store; try again when it is done"
        elif "not a database" in str(cause) or "malformed" in str(cause):
            hint = "the file is damaged: restore a copy, or move it away to start a new store"
        elif "unable to open" in str(cause) or "readonly" in str(cause):
            hint = "is it a file, and may you read and write it and its folder?"
        where = engine.url.render_as_string(hide_password=True)
        raise StoreError(f"the fleet store {where} failed: {cause}", hint=hint) from error
