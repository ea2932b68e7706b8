"""How the core tells what it does: it calls a Reporter and never prints.

The base class is silent. `edgeship.cli.progress` draws lines and bars from it, or writes JSON events.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """One stage of a job on one subject."""

    name: str  # convert | check | fit | deploy | bench | fetch | …
    subject: str = ""  # a device or a variant
    which: Hashable = None  # tells it from others of the same name and subject; not shown


class Reporter:
    """Does nothing; subclasses show. Methods may be called from several threads."""

    def started(self, step: Step) -> None:
        """A step begins."""

    def progress(self, step: Step, done: int, total: int) -> None:
        """`done` of `total` bytes, samples or runs; never goes backwards within a step."""

    def finished(self, step: Step, summary: str, data: Mapping[str, Any] | None = None) -> None:
        """A step ended well: one line for people, the same as data for programs."""

    def note(self, text: str) -> None:
        """Something a person should know now (what is fetched, what was skipped and why)."""
