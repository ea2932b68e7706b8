"""The shapes of what `--json` prints of benchmarks; see `edgeship.cli.shapes`."""

from __future__ import annotations

from typing import Any

from pydantic import Field, RootModel

from edgeship.cli.shapes import Record


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
