"""The live table of a search: one row a candidate, on a terminal; elsewhere a line a candidate, as of any step."""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from edgeship.cli.progress import names
from edgeship.cli.terminal import Terminal
from edgeship.reporter import Reporter, Step

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

STEPS = ("try", "time")
TO_BUILD = "to build"
ROWS = 24  # shown at most: those that changed last


class LiveTable(Reporter):
    """Draws the candidates as they come; other steps are one line above the table."""

    def __init__(self, screen: Terminal, jobs: int) -> None:
        """`jobs`: how many candidates are built at the same time; they are taken in the order in which they start."""
        self._screen, self._jobs = screen, jobs
        self._lock = threading.RLock()
        self._rows: dict[tuple[str, Hashable], dict[str, Any]] = {}  # by name, and what tells apart those of one name
        self._doing: dict[Step, str] = {}  # steps under way that are no candidate's, with how far they are
        self._begun = time.monotonic()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        """The reporter; the table is on the screen until the block ends."""
        from rich.console import Console
        from rich.live import Live

        console = Console(file=self._screen.stream, force_terminal=True, no_color=not self._screen.colour)
        self._live = Live(get_renderable=self._table, console=console, refresh_per_second=4, transient=True)
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the table away; what is left says the result."""
        if self._live is not None:
            self._live.stop()

    def started(self, step: Step) -> None:
        """A candidate is to be built, or timed."""
        with self._lock:
            if step.name in STEPS:
                key = step.subject, step.which
                row = self._rows.pop(key, {})
                self._rows[key] = row | {"state": TO_BUILD if step.name == "try" else "timing"}
            else:
                self._doing[step] = ""

    def progress(self, step: Step, done: int, total: int) -> None:
        """How far a step is."""
        with self._lock:
            if step in self._doing and total:
                self._doing[step] = f", {done:,} of {total:,}"

    def finished(self, step: Step, summary: str, data: Mapping[str, Any] | None = None) -> None:
        """A candidate is known better; another step is said in a line."""
        with self._lock:
            if step.name in STEPS:
                key = step.subject, step.which
                row = self._rows.pop(key, {})
                self._rows[key] = row | dict(data or {}) | {"state": _state(data or {})}
            else:
                self._doing.pop(step, None)
                subject = f"{step.subject}: " if step.subject and not names(step.subject, summary) else ""
                self.note(f"{step.name:<9} {subject}{summary}")

    def note(self, text: str) -> None:
        """A line above the table."""
        if self._live is not None:
            self._live.console.print(f"  {self._screen.clean(text)}", markup=False, highlight=False, soft_wrap=True)

    def _table(self) -> Table:
        from rich import box
        from rich.table import Table

        clean = self._screen.clean
        with self._lock:
            rows = {key: dict(row) for key, row in self._rows.items()}
            doing = [f"{step.name} {step.subject}".rstrip() + how for step, how in self._doing.items()]
        queued = [key for key, row in rows.items() if row.get("state") == TO_BUILD]
        for place, key in enumerate(queued):
            rows[key]["state"] = "building" if place < self._jobs else "waiting"
        minutes, seconds = divmod(int(time.monotonic() - self._begun), 60)
        caption = clean(" · ".join([*doing, f"{minutes}:{seconds:02d}"]))
        table = Table(box=box.SIMPLE_HEAD if self._screen.unicode else box.ASCII2, caption=caption)
        for title, side in (
            ("candidate", "left"), ("n", "right"), ("points lost", "right"), ("size", "right"), ("median", "right"),
            ("", "left"),
        ):  # fmt: skip
            table.add_column(title, justify="right" if side == "right" else "left", no_wrap=True)
        for (name, _), row in list(rows.items())[-ROWS:]:
            table.add_row(*(clean(cell) for cell in (name, *_cells(row))))
        return table


def _state(data: Mapping[str, Any]) -> str:
    if data.get("error"):
        return "failed: " + str(data["error"]).splitlines()[0][:60]
    return "within the budget" if data.get("passed") else "over the budget"


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    from edgeship.bench import units

    drop, latency = row.get("drop"), row.get("latency")
    return (
        f"{row['samples']:,}" if row.get("samples") else "",
        "" if drop is None else f"{drop:.1f}".replace("-", "−"),
        "" if row.get("bytes") is None else units.size(row["bytes"]),
        units.time(latency["median_us"]) if latency else "",
        str(row.get("state", "")),
    )
