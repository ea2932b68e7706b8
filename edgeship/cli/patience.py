"""Says that work is still under way where nothing else was said for long, and how to end it.

A step that never ends is stopped at its limit (`edgeship.child`), which may be half an hour away. Until then a person
has to know what is being waited for. What moves, by a step or by its progress, is not waited for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

from edgeship import wording
from edgeship.reporter import Reporter, Step

QUIET = 60.0  # seconds without news before the first word; the next come after twice as long each
_LOOK = 1.0  # seconds between two looks at the clock
_NAMED = 2  # steps that are named, of many
_SILENT = Reporter()


class Patient(Reporter):
    """Another reporter, with a note of its own where that one has had nothing to show for long.

    A context manager, as the other is.
    """

    def __init__(self, shown: Any, clock: Callable[[], float] = time.monotonic) -> None:
        """`shown`: a reporter and its context manager."""
        self.shown: Reporter = shown
        self._manager: AbstractContextManager[Reporter] = shown
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[Step, None] = {}
        self._heard, self._next = clock(), QUIET
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        """The reporter."""
        self._manager.__enter__()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is said any more: what threads still tell after Ctrl-C does not come after the error."""
        with self._lock:
            self._ended.set()
        self._thread.join()
        self._manager.__exit__(kind, error, trace)

    def started(self, step: Step) -> None:
        """A step begins."""
        with self._lock:
            self._open[step] = None
            self._news().started(step)

    def progress(self, step: Step, done: int, total: int) -> None:
        """How far a step is."""
        with self._lock:
            self._news().progress(step, done, total)

    def finished(self, step: Step, summary: str, data: Mapping[str, Any] | None = None) -> None:
        """A step ended."""
        with self._lock:
            self._open.pop(step, None)
            self._news().finished(step, summary, data)

    def note(self, text: str) -> None:
        """A line of its own."""
        with self._lock:
            self._news().note(text)

    def overdue(self) -> str | None:
        """What to say now; None where nothing is under way, or something was said not long ago."""
        from edgeship.child import STEP_LIMIT

        with self._lock:
            quiet = self._clock() - self._heard
            if quiet < self._next or not self._open:
                return None
            self._next = 2 * quiet
            names = [f"{step.name} {step.subject}".rstrip() for step in self._open]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        return (
            f"no news for {_long(quiet)}, still under way: {', '.join(names[:_NAMED])}{more}. Ctrl-C ends it. What "
            f"never ends on this host is stopped at its limit; {STEP_LIMIT}=10m in the environment sets another"
        )

    def _news(self) -> Reporter:
        """The other reporter, or one that says nothing once this one was left; to be called and used under the lock.

        No context manager made of a generator: Ctrl-C between its yield and the block would leave the lock held.
        """
        self._heard, self._next = self._clock(), QUIET
        return _SILENT if self._ended.is_set() else self.shown

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK):
            if (text := self.overdue()) is not None:
                with self._lock:
                    self.shown.note(text)  # not `_news`: this is none


def _long(seconds: float) -> str:
    return wording.counted(round(seconds / 60), "minute")
