"""One thread that owns a state: it waits for sockets, does what is due, and runs what other threads ask of it.

Whatever blocks runs in a thread of its own and hands its result over through `call`.
"""

from __future__ import annotations

import contextlib
import selectors
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

MAX_DEFECTS = 100  # steps of the loop that may fail before the process gives up

T = TypeVar("T")


class Loop:
    """The loop of the thread that makes it.

    Args:
        broken: told of a defect (any exception) in a step.
    """

    def __init__(self, broken: Callable[[str], None]) -> None:
        self.selector = selectors.DefaultSelector()  # the data of every registration takes the event mask
        self._broken = broken
        self._jobs: deque[Callable[[], None]] = deque()
        self._thread = threading.get_ident()
        self._running = True
        self._defects = 0
        self._wake_read, self._wake_write = socket.socketpair()
        for end in (self._wake_read, self._wake_write):
            end.setblocking(False)
        self.selector.register(self._wake_read, selectors.EVENT_READ, self._woken)

    def catch_signals(self) -> None:
        """SIGTERM and SIGINT end it, SIGHUP is ignored; any signal wakes it."""
        signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.end())
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def forget_signals(self) -> None:
        """No signal wakes it any more; those that end it find it ended."""
        signal.set_wakeup_fd(-1)

    def run(self, tick: Callable[[float], object], wait: Callable[[float], float]) -> None:
        """Until `end`: wait for at most `wait(now)` seconds, answer sockets, then `tick(now)`; now is monotonic."""
        while self._running:
            for key, mask in self.selector.select(wait(time.monotonic())):
                self.guard(key.data, mask)
            self.guard(tick, time.monotonic())

    def end(self) -> None:
        """The step that runs is the last one."""
        self._running = False

    def guard(self, function: Callable[[Any], object], argument: Any) -> None:
        """One step. A defect in it is told and survived, unless defects do not end."""
        try:
            function(argument)
        except Exception as error:
            self._defects += 1
            self._broken(f"a defect of the agent: {type(error).__name__}: {error}")
            if self._defects >= MAX_DEFECTS:
                raise

    def call(self, function: Callable[[], T]) -> T:
        """Run a function in the loop's thread and wait for what it returns or raises."""
        if threading.get_ident() == self._thread:
            return function()
        done = threading.Event()
        result: list[T] = []
        failure: list[BaseException] = []

        def job() -> None:
            try:
                result.append(function())
            except BaseException as error:  # noqa: BLE001  it belongs to the thread that asked
                failure.append(error)
            finally:
                done.set()

        self._jobs.append(job)
        with contextlib.suppress(BlockingIOError):  # a full buffer wakes the loop as well
            self._wake_write.send(b"\0")
        done.wait()
        if failure:
            raise failure[0]
        return result[0]

    def _woken(self, _mask: int) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_read.recv(4096)
        while self._jobs:
            self._jobs.popleft()()
