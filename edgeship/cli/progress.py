"""Reporters of the command line: lines and bars for people, JSON events for programs, both on standard error."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

from edgeship.cli.terminal import Painted, Terminal
from edgeship.reporter import Reporter, Step

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

NAME_WIDTH = 9  # of "telemetry"
SUMMARY_WIDTH = 56
SHOW_SECONDS = 0.1  # a step shorter than this shows no time
PROGRESS_EVERY = 1.0  # seconds between two JSON events of progress of one step


def step_line(step: Step, summary: str, seconds: float, data: Mapping[str, Any] | None) -> str:
    """One line of a finished step, without its mark: name, what was done, time, and `data["detail"]` where given."""
    text = summary
    if step.subject and not names(step.subject, summary):
        text = f"{step.subject}: {summary}" if summary else step.subject
    seconds = float((data or {}).get("seconds") or seconds)
    took = f"{seconds:.1f} s" if seconds >= SHOW_SECONDS else ""
    detail = str((data or {}).get("detail") or "")
    return f"{step.name:<{NAME_WIDTH}} {text:<{SUMMARY_WIDTH}} {took:>8}    {detail}".rstrip()


def names(subject: str, summary: str) -> bool:
    """Whether a summary names its subject already: as words of its own, so that `512 of 3,000` is no `2 of 3`."""
    return re.search(rf"(?<![\w.,]){re.escape(subject)}(?!\w|[.,]\d)", summary) is not None


class ProgressReporter(Reporter):
    """One line a finished step; on a terminal, a bar for each step under way.

    As a context manager: leaving it by an exception marks the steps that are still open as failed.
    """

    def __init__(self, screen: Terminal) -> None:
        self._screen = screen
        self._lock = threading.RLock()
        self._open: dict[Step, float] = {}
        self._bars: Progress | None = None
        self._tasks: dict[Step, TaskID] = {}

    def __enter__(self) -> Self:
        """The reporter."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the bars; steps still open failed."""
        with self._lock:
            steps = list(self._open)
            self._open.clear()
            self._stop_bars()
            if kind is not None:
                for step in steps:
                    self._write(Painted("✗", "red"), step_line(step, "", 0.0, None))

    def started(self, step: Step) -> None:
        """A step begins: a bar on a terminal."""
        with self._lock:
            self._open[step] = time.monotonic()
            if self._screen.interactive:
                self._task(step)

    def progress(self, step: Step, done: int, total: int) -> None:
        """Move the bar, never backwards."""
        with self._lock:
            if self._screen.interactive and step in self._open:
                bars, task = self._task(step)
                before = next(t.completed for t in bars.tasks if t.id == task)
                bars.update(task, completed=max(done, before), total=total or None)

    def finished(self, step: Step, summary: str, data: Mapping[str, Any] | None = None) -> None:
        """The line of a step; `data["passed"]` false: it came to its end and said no."""
        with self._lock:
            now = time.monotonic()
            seconds = now - self._open.pop(step, now)
            task = self._tasks.pop(step, None)
            if self._bars is not None and task is not None:
                self._bars.remove_task(task)
            if not self._tasks:
                self._stop_bars()
            mark = Painted("✗", "red") if (data or {}).get("passed") is False else Painted("✓", "green")
            self._write(mark, step_line(step, summary, seconds, data))

    def note(self, text: str) -> None:
        """A line of its own."""
        with self._lock:
            self._write(Painted("·", "yellow"), text)

    def _write(self, mark: Painted, text: str) -> None:
        if self._bars is not None:
            from rich.text import Text

            line = Text.assemble("  ", (mark.text, mark.colour), " ", self._screen.clean(text))
            self._bars.console.print(line, soft_wrap=True, highlight=False)
        else:
            with contextlib.suppress(BrokenPipeError):  # who no longer reads does not stop what is under way
                self._screen.write("  ", mark, f" {text}\n")

    def _task(self, step: Step) -> tuple[Progress, TaskID]:
        if self._bars is None:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                Progress,
                SpinnerColumn,
                TaskProgressColumn,
                TextColumn,
                TimeElapsedColumn,
            )

            console = Console(file=self._screen.stream, force_terminal=True, no_color=not self._screen.colour)
            self._bars = Progress(
                SpinnerColumn("line"), TextColumn("{task.description}", markup=False), BarColumn(bar_width=24),
                TaskProgressColumn(), TimeElapsedColumn(), console=console, transient=True,
            )  # fmt: skip
            self._bars.start()
        if step not in self._tasks:
            label = self._screen.clean(f"{step.name:<{NAME_WIDTH}} {step.subject}".rstrip())
            self._tasks[step] = self._bars.add_task(label, total=None)
        return self._bars, self._tasks[step]

    def _stop_bars(self) -> None:
        if self._bars is not None:
            self._bars.stop()
        self._bars = None
        self._tasks.clear()


class JsonReporter(Reporter):
    """One JSON object a line, schema `edgeship.event/v1`; progress at most once a second and step."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._open: dict[Step, float] = {}
        self._last: dict[Step, float] = {}

    def __enter__(self) -> Self:
        """The reporter."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Steps still open failed."""
        if kind is not None:
            for step in list(self._open):
                self._write("failed", step)

    def started(self, step: Step) -> None:
        """Event "started"."""
        with self._lock:
            self._open[step] = time.monotonic()
        self._write("started", step)

    def progress(self, step: Step, done: int, total: int) -> None:
        """Event "progress"."""
        now = time.monotonic()
        with self._lock:
            if now - self._last.get(step, -PROGRESS_EVERY) < PROGRESS_EVERY:
                return
            self._last[step] = now
        self._write("progress", step, done=done, total=total)

    def finished(self, step: Step, summary: str, data: Mapping[str, Any] | None = None) -> None:
        """Event "finished"."""
        now = time.monotonic()
        with self._lock:
            waited = now - self._open.pop(step, now)
        seconds = float((data or {}).get("seconds") or waited)  # as on a terminal: what the step itself took
        self._write("finished", step, seconds=round(seconds, 3), summary=summary, details=dict(data or {}))

    def note(self, text: str) -> None:
        """Event "note"."""
        self._write("note", None, text=text)

    def _write(self, event: str, step: Step | None, **fields: object) -> None:
        data = {
            "event": event,
            "step": step.name if step else None,
            "subject": step.subject if step else None,
            **fields,
        }
        line = json.dumps({"schema": "edgeship.event/v1", "data": data}, default=str)
        with self._lock, contextlib.suppress(BrokenPipeError):  # who no longer reads does not stop what is under way
            self._stream.write(line + "\n")
            self._stream.flush()
