"""The shape of what `edgeship optimize --json` prints."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from edgeship.cli.shapes import Record


class SearchBudget(Record):
    """What the pick has to meet; null: no limit."""

    max_drop: float = Field(description="points of the metric")
    max_class_drop: float = Field(description="points of the metric, for each class")
    max_slice_drop: float | None = Field(description="points of the metric, for each named slice; null: as for a class")
    max_latency_us: float | None = Field(description="95th percentile")
    max_bytes: int | None
    strict: bool = Field(description="whether a loss has to be proven to be within the limit")


class CandidateLatency(Record):
    """A measurement."""

    place: str = Field(description="host, or a device")
    arch: str
    median_us: float
    interval_us: list[float] = Field(description="95 %, of the median")
    p95_us: float | None
    pss_bytes: int | None
    runs: int


class SearchPart(Record):
    """A class or a named slice of the data."""

    name: str
    samples: int
    float_: float = Field(alias="float", description="the metric of the source, 0 to 1")
    variant: float = Field(description="the metric of the candidate, 0 to 1")
    drop: float = Field(description="points, positive is worse")
    drop_interval: list[float] = Field(description="95 %, points")
    too_few: bool = Field(description="whether these are too few samples to hold the bare figure against the limit")


class SearchCandidate(Record):
    """One candidate and what became of it."""

    candidate: str
    format: str
    scheme: dict[str, Any] = Field(description="precision, and what is not as usual")
    origin: str = Field(alias="from", description="where it came from, in words")
    status: str = Field(description="pick, front, within, over, dropped or failed")
    why: str
    samples: int = Field(description="evaluation samples of the last round that it took part in")
    bytes: int | None
    sha256: str | None
    int8_share: float | None
    float_: float | None = Field(alias="float", description="the metric of the source, 0 to 1")
    variant: float | None = Field(description="the metric of the candidate, 0 to 1")
    drop: float | None = Field(description="points, positive is worse")
    drop_interval: list[float] | None = Field(description="95 %, points")
    agreement: float | None
    proven: bool | None
    needs_samples: int | None = Field(description="evaluation samples that would prove it; null: proven, or none would")
    worst_class: SearchPart | None = Field(description="what breaks its limit, else what loses most")
    worst_slice: SearchPart | None = Field(description="what breaks its limit, else what loses most")
    gate: str | None = Field(description="why it does not compute what the source does; null: it does")
    summary: str | None = Field(description="all of it in a line for people")
    latency: CandidateLatency | None
    untimed: str | None = Field(description="why there is no latency")


class NotTried(Record):
    """What cannot be built."""

    candidate: str
    why: str


class RuntimeTrial(Record):
    """Variants in the runtime that the board has."""

    runtime: str = Field(description="library or package with its version, as the profile names it")
    checked: bool = Field(description="whether they were loaded and run in that very version; else `said` has why not")
    said: str


class LayerCost(Record):
    """What int8 costs in one layer."""

    layer: str = Field(description="the tensor that it writes")
    source: str = Field(description="the layer of the source, as far as names tell")
    operator: str
    weights: int
    error: float = Field(description="relative squared error of the outputs when it alone is int8")
    weights_error: float = Field(description="likewise when only its weights are int8, and computed with in float")


class Optimize(Record):
    """What a search found."""

    model: str
    sha256: str
    profile: str
    metric: str | None
    calibration_samples: int | None
    evaluation_samples: int
    budget: SearchBudget
    pick: str | None = Field(description="the candidate that meets the budget best; null: none does")
    nearest: str | None = Field(description="the candidate that comes nearest where none does")
    reason: str
    candidates: list[SearchCandidate]
    not_tried: list[NotTried]
    sensitivity: dict[str, list[LayerCost]]
    runtimes: dict[str, RuntimeTrial] = Field(default_factory=dict, description="by format")
    seconds: float
    files: dict[str, str | None] = Field(description="model, recipe, report, data, pruned")
