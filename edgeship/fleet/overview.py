"""Every device with what is known of it and its verdict: what `edgeship status` and the dashboard show."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from edgeship.deploy.device import Device
from edgeship.errors import EdgeshipError
from edgeship.fleet import query
from edgeship.fleet.audit import Entry
from edgeship.fleet.health import STATUSES, Health, Known, judge
from edgeship.fleet.schema import HOUR
from edgeship.fleet.store import ContactRecord, FleetStore
from edgeship.fleet.summary import Summary
from edgeship.profile import load

RECENT = 3600.0  # seconds; what a status is judged on
_DEPLOYMENTS = 5000  # entries of the audit trail that are looked through
_BY_THE_MINUTE = 300  # devices; a larger fleet is judged on the running hour and the one before


@dataclass(frozen=True)
class Limits:
    """What a device is held to."""

    budget_p95: float | None = None  # seconds
    window_seconds: float = 60.0
    throttle_celsius: Mapping[str, float] = field(default_factory=dict)  # by profile


@dataclass(frozen=True)
class Assessed:
    """One device, what is known of it, and the verdict."""

    device: Device
    health: Health
    contact: ContactRecord | None  # a deployment after it counts as one
    newest: query.Newest | None
    recent: Summary  # the last hour

    @property
    def model(self) -> str | None:
        """Name of the model that it said to serve."""
        model = self.contact.status.get("model") if self.contact else None
        return model if isinstance(model, str) else None

    @property
    def counter(self) -> int | None:
        """Release counter that it said to serve."""
        counter = self.contact.status.get("counter") if self.contact else None
        return counter if isinstance(counter, int) else None

    @property
    def release(self) -> str | None:
        """`model #counter`, or None where nothing is served."""
        return f"{self.model} #{self.counter}" if self.model and self.counter else None

    @property
    def precision(self) -> str | None:
        """Precision of what it said to serve."""
        precision = self.contact.status.get("precision") if self.contact else None
        return precision if isinstance(precision, str) else None


def assess(store: FleetStore, devices: Sequence[Device], limits: Limits) -> list[Assessed]:
    """Judge devices by contacts, deployments, windows and the last hour; in the order of `devices`."""
    now = store.now()
    contacts, newest = store.contacts(), query.newest(store)
    recent = query.totals(store, [device.name for device in devices], recent_span(now, len(devices)))
    for name, entry in _deployed(store).items():
        contacts[name] = after_deployment(contacts.get(name), entry)
    return [_one(d, now, contacts.get(d.name), newest.get(d.name), recent.get(d.name), limits) for d in devices]


def after_deployment(contact: ContactRecord | None, entry: Entry) -> ContactRecord:
    """What is known after a deployment that worked, when no contact came later."""
    if contact is not None and contact.attempted >= entry.at:
        return contact
    before = contact.status if contact is not None else {}
    status = {**before, "state": "serving", "model": entry.detail.get("model"), "counter": entry.detail.get("counter")}
    if "precision" in entry.detail:
        status["precision"] = entry.detail["precision"]
    return ContactRecord(entry.at, entry.at, skew=contact.skew if contact is not None else None, status=status)


def _deployed(store: FleetStore) -> dict[str, Entry]:
    """Device -> its newest deployment that worked, among the newest ones of the fleet."""
    out: dict[str, Entry] = {}
    for entry in store.entries(actions=("deploy.good",), limit=_DEPLOYMENTS):
        out.setdefault(entry.subject, entry)
    return out


def recent_span(now: float, devices: int) -> query.Span:
    """The last hour; for many devices rounded to whole hours, which are one row a device instead of sixty."""
    if devices <= _BY_THE_MINUTE:
        return query.Span(now - RECENT, now)
    end = math.ceil(now / HOUR) * HOUR
    return query.Span(end - 2 * HOUR, end)


def _one(
    device: Device,
    now: float,
    contact: ContactRecord | None,
    newest: query.Newest | None,
    recent: Summary | None,
    limits: Limits,
) -> Assessed:
    summary = recent or Summary()
    last = contact or ContactRecord(attempted=0.0)
    known = Known(
        now=now, reached=last.reached, error=last.error, failing_since=last.failing_since,
        last_window=newest.end if newest else None,
        window_seconds=max(limits.window_seconds, newest.seconds if newest else 0.0), status=last.status,
        skew=last.skew, recent=summary, budget_p95=limits.budget_p95,
        throttle_celsius=limits.throttle_celsius.get(device.profile),
    )  # fmt: skip
    return Assessed(device, judge(known, device.name), contact, newest, summary)


def counts(assessed: Iterable[Assessed]) -> dict[str, int]:
    """Status -> number of devices, every status named."""
    out = dict.fromkeys(STATUSES, 0)
    for one in assessed:
        out[one.health.status] += 1
    return out


def throttle_limits(devices: Iterable[Device]) -> dict[str, float]:
    """Profile -> temperature at which its boards throttle, for the profiles that say so."""
    out = {}
    for name in {device.profile for device in devices}:
        try:
            limit = load(name).sensors.get("throttle_celsius")
        except EdgeshipError:  # a profile of the inventory that is not there (any more)
            continue
        if isinstance(limit, int | float):
            out[name] = float(limit)
    return out
