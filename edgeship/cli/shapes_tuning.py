"""The shapes of what `edgeship model prune|distill --json` print."""

from __future__ import annotations

from pydantic import Field

from edgeship.cli.shapes import Record


class TuningCheck(Record):
    """A model against the one it came from, on the same held-out samples."""

    metric: str = Field(description="top1, or agreement where there are no labels")
    before: float
    after: float
    drop: float = Field(description="points; positive is worse")
    interval: list[float] = Field(description="95 %, of the drop")
    samples: int
    passed: bool
    proven: bool


class PrunedGroup(Record):
    """Layers whose channels are tied together, and how many stay."""

    layers: list[str]
    before: int
    after: int


class ModelPrune(Record):
    """A pruned model."""

    model: str
    output: str
    recipe: str
    method: str
    parameters_before: int
    parameters_after: int
    macs_before: int | None = Field(description="multiply-accumulate operations a sample; null: shapes are unchanged")
    macs_after: int | None
    zeros: float | None = Field(description="share of zeros in the masked kernels; null: channels were cut")
    groups: list[PrunedGroup]
    held: list[str] = Field(description="layers that were left alone, and why")
    epochs: int
    best_epoch: int = Field(description="whose weights were kept; 0: those before fine-tuning")
    untuned: float = Field(description="the metric before fine-tuning")
    check: TuningCheck
    cached: bool = Field(description="it was made before")


class ModelDistill(Record):
    """A student that a teacher taught."""

    teacher: str
    student: str | None = Field(description="that it started from; null: derived from the teacher")
    output: str
    recipe: str
    parameters_before: int = Field(description="of the teacher")
    parameters_after: int
    macs_before: int = Field(description="multiply-accumulate operations a sample, of the teacher")
    macs_after: int
    dropped: list[str] = Field(description="layers of the teacher that the derived student lacks")
    epochs: int
    best_epoch: int = Field(description="whose weights were kept")
    check: TuningCheck
    cached: bool = Field(description="it was made before")
