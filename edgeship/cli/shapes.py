"""The shapes of what `--json` prints, as pydantic models; `edgeship.cli.schemas` names and publishes them.

They only ever grow: a key is added, never taken away or given another meaning.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, RootModel


class Record(BaseModel):
    """An object; unknown keys are allowed, so that a schema of today takes what a later version prints."""

    model_config = ConfigDict(extra="allow")


# ── this tool ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Version(Record):
    """Versions of edgeship and of what it uses."""

    edgeship: str
    python: str
    platform: str
    protocol: int = Field(description="version of the protocol of host and device")
    packages: dict[str, str | None] = Field(description="package -> version, null where it is not installed")


class Setting(Record):
    """One setting."""

    key: str = Field(description="dotted, as in edgeship.toml")
    value: Any
    origin: str = Field(description="environment, edgeship.toml, user file or default")
    where: str | None = Field(description="file and line, or variable")
    variable: str = Field(description="environment variable that overrides it")


class ConfigList(RootModel[list[Setting]]):
    """All settings of the project."""


class SchemaName(Record):
    """One schema."""

    name: str
    about: str


class SchemaList(RootModel[list[SchemaName] | dict[str, Any]]):
    """The names of all schemas; with a name, that JSON Schema."""


class Completion(Record):
    """A completion script."""

    shell: str
    script: str


class Init(Record):
    """What a set-up found and made. Paths are absolute."""

    folder: str
    config: str
    name: str
    model: str | None
    representative: str | None
    evaluation: str | None
    made: list[str]
    notes: list[str]


class Failure(Record):
    """An error, on standard error, when a command with --json fails."""

    kind: str = Field(description="class of the error, see the reference of errors")
    message: str
    hint: str | None = Field(description="what to type or do next")
    exit_code: int
    device: str | None
    stage: str | None
    code: str | None = Field(description="the agent's code")
    log: list[str] = Field(description="last lines of the device")
    failures: dict[str, Failure] = Field(description="device -> its error, when several failed")


class Event(Record):
    """Progress, one object a line on standard error, of a command with --json."""

    event: str = Field(description="started, progress, finished, failed or note")
    step: str | None
    subject: str | None
    done: int | None = None
    total: int | None = None
    seconds: float | None = None
    summary: str | None = None
    text: str | None = None
    details: dict[str, Any] | None = None


# ── profiles, models, releases ───────────────────────────────────────────────────────────────────────────────────────


class ProfileSummary(Record):
    """One hardware profile in short."""

    name: str
    family: str
    summary: str
    arch: str
    supported: bool
    reason: str | None = Field(description="why the agent cannot run there")
    formats: list[str]
    precisions: list[str]


class ProfileList(RootModel[list[ProfileSummary]]):
    """All hardware profiles."""


class Profile(Record):
    """One hardware profile, as its file says; the tables are in the reference of profiles."""

    name: str
    family: str
    summary: str
    source: str
    hardware: dict[str, Any]
    system: dict[str, Any]
    build: dict[str, Any]
    transport: dict[str, Any]
    sensors: dict[str, str | float]
    supported: bool
    reason: str | None
    file: str


class ProfileVerdict(Record):
    """Whether one file is a profile."""

    file: str
    valid: bool
    error: str | None
    hint: str | None


class ProfileValidate(RootModel[list[ProfileVerdict]]):
    """Files that were checked."""


class Tensor(Record):
    """An input or output."""

    name: str
    dtype: str
    shape: list[int]
    scale: float | None = None
    zero_point: int | None = None


class ReleaseVariant(Record):
    """One variant of a release in short."""

    format: str
    precision: str
    bytes: int
    profiles: list[str]


class ReleaseSummary(Record):
    """One release in short."""

    model: str
    counter: int
    current: bool
    created: str
    checks_skipped: bool
    approved_by: str | None
    manifest_sha256: str
    variants: list[ReleaseVariant]


class ReleaseList(RootModel[list[ReleaseSummary]]):
    """Releases within reach."""


class ReleaseInspect(Record):
    """A release: its manifest is of schema edgeship.manifest/v1."""

    manifest_sha256: str
    manifest: dict[str, Any]


class ReleaseVerify(Record):
    """Whether the release folder holds what its signatures say."""

    holds: bool
    files: int
    bytes: int
    releases: dict[str, int] = Field(description="model -> counter of its current release")
    problems: list[str]


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


# ── benchmarks ───────────────────────────────────────────────────────────────────────────────────────────────────────


class BenchPercentile(Record):
    """One percentile of the latencies."""

    percent: float
    value: float | None = Field(description="µs; null where the runs are too few for an interval")
    interval: tuple[float, float] | None = Field(description="exact, between two order statistics")
    reason: str | None = Field(description="why there is none")


class BenchLatency(Record):
    """Statistics of the latencies in µs."""

    n: int
    median: float
    median_interval: tuple[float, float] = Field(description="block bootstrap")
    mean: float
    standard_deviation: float
    mad: float = Field(description="median absolute deviation")
    min: float
    max: float
    percentiles: list[BenchPercentile]
    outliers: int
    lag1_rank_correlation: float


class BenchResults(Record):
    """What was measured."""

    latency_us: BenchLatency
    load_us: float | None
    first_us: float | None
    memory: dict[str, int | None]
    cpu_seconds: float | None
    energy_joules: float | None


class BenchRecord(Record):
    """One benchmark, as it is saved; null: not to be read there."""

    created: str
    identity: dict[str, Any]
    target: dict[str, Any]
    software: dict[str, Any]
    protocol: dict[str, Any]
    results: BenchResults
    conditions: dict[str, dict[str, float | bool | None]]
    quality: dict[str, Any] | None
    budget: dict[str, float | None]
    warnings: list[str] = Field(description="what may be wrong with the measurement")
    samples: dict[str, list[float]] = Field(description="raw latencies in run order")
    file: str | None = Field(default=None, description="where it is saved")


class BenchRun(Record):
    """Benchmarks that were made; a saved file is of this schema too."""

    runs: list[BenchRecord]


class BenchSummary(Record):
    """One saved benchmark in short."""

    file: str
    created: str
    target: str
    model: str
    format: str
    precision: str
    counter: int | None
    n: int
    median_us: float
    p95_us: float | None
    warnings: int


class BenchList(RootModel[list[BenchSummary]]):
    """Saved benchmarks."""


# ── pushing, asking, measuring ───────────────────────────────────────────────────────────────────────────────────────


class Check(Record):
    """What the check of one variant found; fractions of 1, drop and interval in points."""

    metric: str
    float_value: float = Field(alias="float", description="of the source float model")
    variant: float
    drop: float
    interval: list[float] = Field(description="95 % interval of the drop")
    samples: int
    passed: bool
    proven: bool = Field(description="whether the whole interval is within the budget")


class Pushed(Record):
    """A device that serves the release now."""

    device: str
    sent_bytes: int
    sent: dict[str, int] = Field(description="bytes by kind: agent, runtime library, model, …")
    seconds: float
    probe: dict[str, Any] = Field(description="what the device's own probe measured")


class Push(Record):
    """A release and where it went."""

    model: str
    counter: int
    manifest_sha256: str
    checks_skipped: bool
    checks: dict[str, Check] = Field(description="variant -> its check")
    devices: list[Pushed]


class PlannedStep(Record):
    """One step that a push would take."""

    step: str
    subject: str
    summary: str


class PushPlan(Record):
    """What a push would do (--dry-run)."""

    model: str
    steps: list[PlannedStep]


class Answer(Record):
    """A device's answer to one sample."""

    sample: int
    label: str | None = Field(description="the true one, where the data has it")
    predicted: str | None
    confidence: float | None
    milliseconds: float = Field(description="round trip over the channel")
    outputs: dict[str, list[float]]


class Infer(RootModel[list[Answer]]):
    """Answers of a device."""


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


class Serving(Record):
    """Where the dashboard is."""

    url: str
    port: int
    token: str | None
