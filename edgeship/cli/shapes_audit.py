"""The shapes of what `edgeship audit --json` prints."""

from __future__ import annotations

from typing import Any

from pydantic import Field, RootModel

from edgeship.cli.shapes import Record


class AuditEntry(Record):
    """One entry of the audit trail."""

    id: int
    at: float = Field(description="seconds since 1970, host clock")
    actor: str = Field(description="user@host")
    action: str = Field(description="deploy.good, deploy.failed, release.publish, device.add, …")
    subject: str = Field(description="mostly a device's name")
    detail: dict[str, Any]
    hash: str


class AuditList(RootModel[list[AuditEntry]]):
    """The newest entries of the audit trail."""


class AuditVerify(Record):
    """Whether the audit trail is whole."""

    whole: bool
    entries: int = Field(description="that follow each other, from the first one on")
    newest: str = Field(description="hash of the last of them; note it outside of the database")
    broken: int | None = Field(description="number of the first entry that does not fit, where it can be told")
    reason: str | None
