"""The shape of what `edgeship model doctor --json` prints."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from edgeship.cli.shapes import Record


class Culprit(Record):
    """What is to blame."""

    layers: list[str] = Field(description="names as `model quantize --keep` takes them")
    operator: str
    node: str = Field(description="the operator's own name; empty where the format has none")
    attributes: dict[str, str]
    source_layer: str = Field(description="layer of the source framework; empty where it is not known")
    parts: int = Field(description="layers of the smallest part that fails; 1: it fails by itself")
    span: list[str] = Field(description="all of them, in order")


class Fix(Record):
    """A known fix that was tried."""

    name: str
    scheme: dict[str, Any]
    worked: bool
    outcome: str = Field(description="why it did not work, or the measures of the result")
    command: str = Field(description="what to type; empty where it did not work")
    repaired: str | None = Field(description="model file that it starts from instead of the source")


class ModelDoctor(Record):
    """Why a conversion or quantization fails, and the fix that works."""

    source: str
    format: str
    scheme: dict[str, Any]
    stage: str = Field(description="ok, convert, source, quantize or answers: where it fails")
    kind: str = Field(
        description="crash, hang, memory, refused, left in float, wrong state, converter, NaN, wrong numbers"
    )
    trouble: str = Field(description="in words; empty where all is well")
    culprit: Culprit | None
    tried: list[Fix] = Field(description="in order, up to the first that worked")
    advice: str = Field(description="where no fix worked")
    saved: list[str] = Field(description="files for a bug report")
    reproduce: str = Field(description="command that shows the trouble with them")
    trials: int
