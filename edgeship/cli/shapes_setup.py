"""The shape of what `edgeship setup --json` prints."""

from __future__ import annotations

from pydantic import Field, RootModel

from edgeship.cli.shapes import Record


class Environment(Record):
    """An environment for a tool that cannot live beside the others."""

    name: str
    purpose: str
    ready: bool
    reason: str = Field(description="why it is not ready; empty where it is")
    python: str | None = Field(description="version of its Python")
    bytes: int | None = Field(description="on the disk")
    folder: str


class Setup(RootModel[list[Environment]]):
    """Environments for tools that cannot live beside the others."""
