"""The shapes of what `edgeship model` prints as JSON, beside `inspect`."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from edgeship.cli.shapes import Record, Tensor


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
