"""The shapes of what `edgeship model` prints as JSON."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from edgeship.cli.shapes import Record, Tensor
from edgeship.cli.shapes_optimize import RuntimeTrial


class ModelMemory(Record):
    """Bytes that a model takes while it runs, for a batch of 1; an estimate."""

    weights: int
    activations: int = Field(description="largest sum of tensors that are alive at one time")
    at: str | None = Field(description="the tensor that is written then")
    unknown: int = Field(description="operators whose cost only a run tells; totals are at least what they say")


class ModelLayer(Record):
    """One operator."""

    name: str = Field(description="of the tensor that it writes")
    operator: str
    shape: list[int] = Field(description="of that tensor; empty where a run tells it")
    macs: int | None
    weights: int = Field(description="elements")


class ModelOnProfile(Record):
    """A model on one hardware profile."""

    profile: str
    formats: dict[str, str | None] = Field(description="format -> null where it is reached, else why not")
    precisions: list[str]
    loads: bool | None = Field(description="in the profile's runtime library; null where that was not tried")
    memory: int | None = Field(description="bytes of a worker that serves the file as it is; an estimate")
    memory_share: float | None
    verdict: str


class ModelInspect(Record):
    """A model file."""

    path: str
    format: str
    sha256: str
    bytes: int
    precision: str
    inputs: list[Tensor]
    outputs: list[Tensor]
    operators: dict[str, int]
    parameters: int | None
    int8_share: float
    open_shapes: bool
    companions: list[str]
    notes: list[str]
    details: dict[str, Any]
    macs: int | None = Field(default=None, description="multiply-accumulates of one inference; of TFLite and ONNX")
    memory: ModelMemory | None = None
    layers: list[ModelLayer] | None = Field(default=None, description="with --layers")
    profiles: list[ModelOnProfile] | None = Field(default=None, description="with --profiles")


class ModelConverted(Record):
    """A variant that was made of a model."""

    source: str
    source_bytes: int
    file: str
    recipe: str = Field(description="the file that says how it was made")
    format: str
    precision: str
    scheme: dict[str, Any]
    bytes: int
    sha256: str
    int8_share: float = Field(description="of the elements of all weight matrices, 0 to 1")
    inputs: list[Tensor]
    outputs: list[Tensor]
    notes: list[str]
    cached: bool = Field(description="it was made before and taken from the cache")
    compared_on: str | None = Field(default=None, description="data or noise; null where nothing was compared")
    compared: str | None = Field(default=None, description="how near its answers are to the source's, in words")
    runtime: RuntimeTrial | None = Field(default=None, description="with --profile: in the runtime of that board")
