"""Telemetry from devices into the store, over the connection that the caller opens.

Rules this module keeps:

* A device is told to forget windows only after they are committed here; a pull that is cut short loses nothing.
* One device's failure is its own: it is noted at its contact, the others go on, and the errors are folded at the end.
* What a device answers is bounded: windows a page, pages a pull, and the fields of its status.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from edgeship.deploy.device import Device
from edgeship.deploy.fleet_run import JOBS, Outcome, fleet_run
from edgeship.deploy.transport import clean
from edgeship.errors import DeviceError, EdgeshipError, StoreError
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

    def request(
        self,
        op: str,
        data: bytes | Iterable[bytes] | None = None,
        on_event: Callable[[Mapping[str, Any]], None] | None = None,
        **fields: Any,
    ) -> Answer:
        """Ask for one operation and wait for its answer."""
        ...


Connect = Callable[[Device], AbstractContextManager[Client]]


@dataclass(frozen=True)
class Pulled:
    """What a pull brought from one device."""

    device: str
    stored: int = 0
    duplicates: int = 0
    missing: int = 0  # windows that the device no longer has

    def encode(self) -> dict[str, Any]:
        """To what `json.dumps` takes."""
        return {
            "device": self.device, "stored": self.stored, "duplicates": self.duplicates, "missing": self.missing,
        }  # fmt: skip


def pull(
    devices: Sequence[Device], connect: Connect, store: FleetStore, reporter: Reporter, *, jobs: int = JOBS
) -> list[Outcome[Pulled]]:
    """Pull from many devices at once; `deploy.fleet_run.fold` makes one error of the outcomes.

    Args:
        devices: of the store.
        connect: opens a client to one device; called in several threads.
        store: where windows and contacts go.
        reporter: told a step "pull" for each device.
        jobs: devices at the same time.
    """
    return fleet_run(devices, lambda device: pull_one(device, connect, store, reporter), jobs)


def contact(
    devices: Sequence[Device], connect: Connect, store: FleetStore, reporter: Reporter, *, jobs: int = JOBS
) -> list[Outcome[None]]:
    """Ask many devices for their status alone, and note it. As `pull` otherwise."""
    return fleet_run(devices, lambda device: contact_one(device, connect, store, reporter), jobs)


def pull_one(device: Device, connect: Connect, store: FleetStore, reporter: Reporter) -> Pulled:
    """Pull everything that one device holds and the store lacks.

    Raises:
        DeviceError: what happened on the way to the device or there, also noted as its contact; what was committed
            before stays.
        StoreError: the database failed.
    """
    step = Step("pull", device.name)
    reporter.started(step)
    parts: list[Ingested] = []
    with _noted(device, store), connect(device) as client:
        clocks = _ask_status(device, client, store)
        parts.extend(_pages(device, client, store, clocks))
    got = Pulled(
        device.name, sum(part.stored for part in parts), sum(part.duplicates for part in parts),
        sum(gap.missing for part in parts for gap in part.gaps),
    )  # fmt: skip
    text = f"{got.stored} windows" + (f", {got.missing} lost on the device" if got.missing else "")
    reporter.finished(step, text, got.encode())
    return got


def contact_one(device: Device, connect: Connect, store: FleetStore, reporter: Reporter) -> None:
    """Ask one device for its status and note it. Raises as `pull_one`."""
    step = Step("contact", device.name)
    reporter.started(step)
    with _noted(device, store), connect(device) as client:
        _ask_status(device, client, store)
    reporter.finished(step, "reached")


@contextmanager
def _noted(device: Device, store: FleetStore) -> Iterator[None]:
    """Note a failure as the device's contact, and name it where it is not telemetry."""
    try:
        yield
    except StoreError:
        raise
    except EdgeshipError as error:
        store.record_contact(device.name, error=str(error))
        raise
    except ProtocolError as error:
        named = DeviceError(
            f"{device.name}: its telemetry is not what an agent sends: {clean(str(error))}", device=device.name,
            stage="telemetry", code="protocol", hint=f"edgeship logs {device.name}",
        )  # fmt: skip
        store.record_contact(device.name, error=str(named))
        raise named from error


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
        elif isinstance(value, bool) or _finite(value) is not None:
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
