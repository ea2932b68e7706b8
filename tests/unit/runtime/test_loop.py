"""The loop that owns a state: what is due is done, what others ask is done there, a defect ends nothing at once."""

from __future__ import annotations

import os
import selectors
import socket
import threading
from collections.abc import Iterator

import pytest

from edgeship.runtime.loop import MAX_DEFECTS, Loop


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def loop(said: list[str]) -> Iterator[Loop]:
    made = Loop(said.append)
    yield made
    made.selector.close()
    made._wake_read.close()
    made._wake_write.close()


def test_it_answers_sockets_does_what_is_due_and_ends(loop: Loop) -> None:
    ours, theirs = socket.socketpair()
    heard: list[bytes] = []
    with ours, theirs:
        loop.selector.register(ours, selectors.EVENT_READ, lambda _mask: heard.append(ours.recv(10)))
        theirs.send(b"hello")
        ticks: list[float] = []

        def tick(now: float) -> None:
            ticks.append(now)
            if heard:
                loop.end()

        loop.run(tick, lambda _now: 5.0)
    assert heard == [b"hello"]
    assert len(ticks) == 1, "it waited for the socket, not for the time"


def test_defects_in_a_step_are_survived_but_not_for_ever(loop: Loop, said: list[str]) -> None:
    def defect(_argument: object) -> None:
        raise ZeroDivisionError("oh")

    for _ in range(MAX_DEFECTS - 1):
        loop.guard(defect, None)
    with pytest.raises(ZeroDivisionError):
        loop.guard(defect, None)
    assert said == ["a defect of the agent: ZeroDivisionError: oh"] * MAX_DEFECTS


def test_calls_from_threads_are_run_by_the_loop(loop: Loop) -> None:
    results: list[object] = []

    def ask() -> None:
        results.append(loop.call(threading.get_ident))
        try:
            loop.call(lambda: os.stat("/no/such/file"))
        except FileNotFoundError as error:
            results.append(error)
        loop.call(loop.end)

    thread = threading.Thread(target=ask)
    thread.start()
    loop.run(lambda _now: None, lambda _now: 5.0)
    thread.join()
    assert results[0] == threading.get_ident()
    assert isinstance(results[1], FileNotFoundError)
    assert loop.call(lambda: 7) == 7, "in its own thread at once"
