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
