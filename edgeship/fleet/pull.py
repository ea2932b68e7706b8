"""Telemetry from devices into the store, over the connection that the caller opens.

Rules this module keeps:

* A device is told to forget windows only after they are committed here; a pull that is cut short loses nothing.
* One device's failure is its own: it is noted at its contact, the others go on, and the errors are folded at the end.
* What a device answers is bounded: windows a page, pages a pull, and the fields of its status.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from edgeship.deploy.device import Device
from edgeship.errors import DeviceError, EdgeshipError, PartialFailure, StoreError
from edgeship.fleet.ingest import Ingested, cursor, ingest, parse_batch
from edgeship.fleet.store import FleetStore
from edgeship.fleet.timeline import Contact
from edgeship.reporter import Reporter, Step
from edgeship.runtime.errors import ProtocolError

PAGE = 200  # windows of one request
MAX_PAGES = 1000  # of one pull: the rest comes with the next one

#: Fields of the agent's `status` that are kept: name -> type. Everything else a device says is dropped.
_STATUS: Mapping[str, type | tuple[type, ...]] = {
    "agent": str, "uptime_seconds": (int, float), "boot_id": str, "model": str, "counter": int, "last_good": (int, str),
    "precision": str, "format": str, "state": str, "worker_restarts": int, "expired": bool, "clock": (int, float),
}  # fmt: skip


class Answer(Protocol):
    """What a request brings."""

    @property
    def result(self) -> dict[str, Any]:
        """The agent's answer."""
        ...


class Client(Protocol):
    """What is needed of `edgeship.deploy.client.AgentClient`."""

    def request(self, op: str, /, **fields: Any) -> Answer:
        """Ask for one operation and wait for its answer."""
        ...


Connect = Callable[[Device], AbstractContextManager[Client]]


@dataclass(frozen=True)
class Pulled:
    """What a pull brought from one device; `error` where it ended early."""

    device: str
    stored: int = 0
    duplicates: int = 0
    missing: int = 0  # windows that the device no longer has
    error: EdgeshipError | None = None

    def encode(self) -> dict[str, Any]:
        """To what `json.dumps` takes."""
        return {
            "device": self.device, "stored": self.stored, "duplicates": self.duplicates, "missing": self.missing,
            "error": None if self.error is None else str(self.error),
        }  # fmt: skip


def pull(
    devices: Sequence[Device], connect: Connect, store: FleetStore, reporter: Reporter, *, jobs: int = 16
) -> list[Pulled]:
    """Pull from many devices at once; never raises for a device, see `failure`.

    Args:
        devices: of the store.
        connect: opens a client to one device; called in several threads.
        store: where windows and contacts go.
        reporter: told a step "pull" for each device.
        jobs: devices at the same time.

    Raises:
        StoreError: the database failed.
    """
    return _each(devices, lambda device: pull_one(device, connect, store, reporter), jobs)


def contact(
    devices: Sequence[Device], connect: Connect, store: FleetStore, reporter: Reporter, *, jobs: int = 16
) -> list[Pulled]:
    """Ask many devices for their status alone, and note it. As `pull` otherwise."""
    return _each(devices, lambda device: _contact_one(device, connect, store, reporter), jobs)


def failure(outcomes: Iterable[Pulled]) -> EdgeshipError | None:
    """The one error that stands for all: the device's own when there is one device, or all failed alike."""
    known = list(outcomes)
    failed = {outcome.device: outcome.error for outcome in known if outcome.error is not None}
    if not failed:
        return None
    errors = list(failed.values())
    if len(known) == 1:
        return errors[0]
    said = f"{len(failed)} of {len(known)} devices could not be reached or read"
    if len(failed) == len(known) and len({type(error) for error in errors}) == 1:
        alike = PartialFailure(said, failed, hint=errors[0].hint)
        alike.exit_code = errors[0].exit_code
        return alike
    return PartialFailure(said, failed, hint="edgeship status")


def pull_one(device: Device, connect: Connect, store: FleetStore, reporter: Reporter) -> Pulled:
    """Pull everything that one device holds and the store lacks."""
    step = Step("pull", device.name)
    reporter.started(step)
    got = Pulled(device.name)
    try:
        with connect(device) as client:
            clocks = _ask_status(device, client, store)
            for done in _pages(device, client, store, clocks):
                got = Pulled(
                    device.name, got.stored + done.stored, got.duplicates + done.duplicates,
                    got.missing + sum(gap.missing for gap in done.gaps),
                )  # fmt: skip
    except StoreError:
        raise
    except (EdgeshipError, ProtocolError) as error:
        return _failed(device, error, store, got)
    text = f"{got.stored} windows" + (f", {got.missing} lost on the device" if got.missing else "")
    reporter.finished(step, text, got.encode())
    return got


def _contact_one(device: Device, connect: Connect, store: FleetStore, reporter: Reporter) -> Pulled:
    step = Step("contact", device.name)
    reporter.started(step)
    try:
        with connect(device) as client:
            _ask_status(device, client, store)
    except StoreError:
        raise
    except (EdgeshipError, ProtocolError) as error:
        return _failed(device, error, store, Pulled(device.name))
    reporter.finished(step, "reached")
    return Pulled(device.name)


def _each(devices: Sequence[Device], job: Callable[[Device], Pulled], jobs: int) -> list[Pulled]:
    if len(devices) == 1:
        return [job(devices[0])]
    with ThreadPoolExecutor(max_workers=max(1, min(jobs, len(devices)))) as pool:
        return list(pool.map(job, devices))


def _failed(device: Device, error: EdgeshipError | ProtocolError, store: FleetStore, got: Pulled) -> Pulled:
    mine = error if isinstance(error, EdgeshipError) else _not_telemetry(device, error)
    store.record_contact(device.name, error=str(mine))
    return Pulled(device.name, got.stored, got.duplicates, got.missing, mine)


def _not_telemetry(device: Device, error: ProtocolError) -> DeviceError:
    return DeviceError(
        f"{device.name}: its telemetry is not what an agent sends: {error}", device=device.name, stage="telemetry",
        code="protocol", hint=f"edgeship logs {device.name}",
    )  # fmt: skip


def _ask_status(device: Device, client: Client, store: FleetStore) -> Contact:
    """Ask for status and clocks, and note the contact."""
    before = store.now()
    answer = client.request("status").result
    host = (before + store.now()) / 2
    clock, mono = _finite(answer.get("clock")), _finite(answer.get("mono"))
    boot = answer.get("boot_id")
    clocks = Contact(host, clock, boot if isinstance(boot, str) else None, mono)
    store.record_contact(
        device.name, status=known_status(answer), skew=None if clock is None else clocks.skew
    )  # fmt: skip
    return clocks


def known_status(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an agent's status that are known, of the right type and short."""
    out: dict[str, Any] = {}
    for key, kind in _STATUS.items():
        value = answer.get(key)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            continue
        if isinstance(value, str):
            out[key] = value[:100]
        elif isinstance(value, bool):
            out[key] = value
        elif _finite(value) is not None:
            out[key] = value
    pss = answer.get("pss")
    if isinstance(pss, dict):
        out["pss"] = {part: int(n) for part in ("supervisor", "worker") if (n := _finite(pss.get(part))) is not None}
    return out


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or abs(value) > 1e15:
        return None
    return float(value)


def _pages(device: Device, client: Client, store: FleetStore, clocks: Contact) -> Iterable[Ingested]:
    for _ in range(MAX_PAGES):
        at = cursor(store, device.name)
        after = at.seq if at else 0
        batch = parse_batch(client.request("telemetry", spool=at.spool if at else None, after=after, limit=PAGE).result)
        if not batch.windows:
            return
        done = ingest(store, device.name, batch.windows, clocks)
        client.request("telemetry", spool=batch.spool, ack=batch.windows[-1].seq)
        yield done
        if not batch.more:
            return
        if not done.stored:
            raise ProtocolError("it sends the same windows again and says that there are more")
