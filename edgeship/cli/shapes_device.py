"""The shapes of what `--json` prints of devices, what they do and what they report; see `edgeship.cli.shapes`."""

from __future__ import annotations

from typing import Any

from pydantic import Field, RootModel

from edgeship.cli.shapes import Record

# ── devices ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Device(Record):
    """A device as the fleet knows it; null: the profile or ~/.ssh/config decides."""

    name: str
    profile: str
    transport: str
    host: str | None
    port: int | None
    user: str | None
    identity: str | None
    host_key: str | None
    fingerprint: str | None
    root: str | None
    serve_port: int | None
    python: list[str] | None
    arch: str | None
    init: str | None
    labels: dict[str, str]


class DeviceList(RootModel[list[Device]]):
    """The inventory."""


class Resolved(Record):
    """What holds for a device after the profile filled in what its record leaves open."""

    python: list[str]
    root: str
    init: str
    serve_port: int | None
    arch: str


class DeviceShow(Record):
    """A device, and what holds for it."""

    device: Device
    resolved: Resolved
    overrides: list[str] = Field(description="settings of the record that stand in for the profile's")


# ── what devices do ──────────────────────────────────────────────────────────────────────────────────────────────────


class AgentAnswer(Record):
    """What became of one device."""

    device: str
    status: dict[str, Any] = Field(description="what its agent said; empty when it failed")
    error: str | None


class AgentAnswers(RootModel[list[AgentAnswer]]):
    """What became of each device."""


class Logs(Record):
    """The last lines of a device's log, oldest first."""

    device: str
    lines: list[str]


class RolledBack(Record):
    """What became of one device."""

    device: str
    state: str
    error: str | None


class Rollback(Record):
    """A rollback: a new release that points at the files of an earlier one."""

    model: str
    from_: int = Field(alias="from", description="counter of the release before")
    to: int = Field(description="counter of the release whose files came back")
    counter: int | None = Field(description="counter of the new release; null with --dry-run")
    dry_run: bool
    devices: list[RolledBack]


class RuntimeLibrary(Record):
    """A runtime library in the cache."""

    format: str
    name: str
    arch: str
    path: str
    license: str
    sha256: str
    bytes: int


class RuntimeFetch(RootModel[list[RuntimeLibrary]]):
    """Runtime libraries of a profile."""


class VirtualDevice(Record):
    """A virtual device."""

    name: str
    profile: str
    label: str
    power: bool
    server: str
    user: str
    port: int
    serve_port: int
    arch: str
    python: list[str]


class VirtualDevices(RootModel[list[VirtualDevice]]):
    """Virtual devices."""


class Ended(Record):
    """A virtual device that is gone."""

    name: str


class LabDown(RootModel[list[Ended]]):
    """Virtual devices that were ended and removed."""


# ── watching ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class LastHour(Record):
    """Telemetry of the last hour; null: nothing to compute it from."""

    requests: int
    error_ratio: float | None
    restarts: int
    p50_seconds: float | None
    p95_seconds: float | None
    p99_seconds: float | None


class DeviceStatus(Record):
    """A device and what it serves; times in seconds since 1970."""

    device: str
    profile: str
    status: str = Field(description="online, degraded, stale or offline")
    reason: str | None
    since: float | None
    next: str | None = Field(description="the command to type")
    model: str | None
    counter: int | None
    precision: str | None
    last_contact: float | None
    last_window: float | None
    clock_skew_seconds: float | None
    last_hour: LastHour


class Status(RootModel[list[DeviceStatus]]):
    """The devices and what they serve."""


class Pulled(Record):
    """What a pull brought from one device."""

    device: str
    stored: int = Field(description="windows that are new in the store")
    duplicates: int
    missing: int = Field(description="windows that the device no longer had")
    error: str | None


class TelemetryPull(RootModel[list[Pulled]]):
    """What a pull brought."""


class Measured(Record):
    """Telemetry of one device, release or the fleet in one span of time."""

    device: str | None = None
    release: str | None = None
    fleet: str | None = None
    start: float
    end: float
    values: dict[str, float | None] = Field(description="name of the metric with its unit -> value")


class TelemetryQuery(RootModel[list[Measured]]):
    """What devices measured."""


class TelemetryPrune(Record):
    """What was dropped from the store, or would be."""

    windows: int
    minutes: int = Field(description="summaries by the minute")
    gaps: int = Field(description="notes of windows that never arrived")
    windows_before: float = Field(description="seconds since 1970: windows that ended before")
    minutes_before: float
    dry_run: bool


class Serving(Record):
    """Where the dashboard is."""

    url: str
    port: int
    token: str | None
