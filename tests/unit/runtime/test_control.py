"""The control socket: answers, events, bounded connections, and no request that ends the supervisor."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from edgeship.runtime.control import MAX_CONNECTIONS, ControlServer
from edgeship.runtime.errors import AgentError
from edgeship.runtime.wire import json_frame, read_json


class Controlled:
    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "s")
        self.broken: list[str] = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(64)
        operations = {"echo": self.echo, "refuse": self.refuse, "defect": self.defect}
        self.server = ControlServer(self.listener, operations, self.broken.append)

    def echo(self, request: Mapping[str, Any], emit: Callable[[Mapping[str, Any]], None]) -> dict[str, Any]:
        emit({"stage": "one"})
        return {"text": request["text"]}

    def refuse(self, _request: Mapping[str, Any], _emit: object) -> dict[str, Any]:
        raise AgentError("no", "busy")

    def defect(self, _request: Mapping[str, Any], _emit: object) -> dict[str, Any]:
        raise ZeroDivisionError("oh")

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(30)
        connection.connect(self.path)
        self.server.accept(1)
        return connection


@pytest.fixture
def controlled(tmp_path: Path) -> Iterator[Controlled]:
    controlled = Controlled(tmp_path)
    yield controlled
    controlled.listener.close()


def test_events_come_before_the_answer(controlled: Controlled) -> None:
    with controlled.connect() as connection:
        for text in ("a", "b"):
            connection.sendall(json_frame({"id": 7, "op": "echo", "text": text}))
            assert read_json(connection.recv) == {"id": 7, "event": {"stage": "one"}}
            assert read_json(connection.recv) == {"id": 7, "ok": True, "result": {"text": text}}


def test_refusals_defects_and_unknown_operations_are_answers(controlled: Controlled) -> None:
    with controlled.connect() as connection:
        for op, code in (("refuse", "busy"), ("defect", "internal"), ("nothing", "bad-request")):
            connection.sendall(json_frame({"id": 1, "op": op}))
            answer = read_json(connection.recv)
            assert answer is not None
            assert answer["error"]["code"] == code
    assert controlled.broken == ["operation 'defect': ZeroDivisionError: oh"]


def test_nonsense_ends_the_connection_only(controlled: Controlled) -> None:
    with controlled.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(100) == b""
    with controlled.connect() as connection:
        connection.sendall(json_frame({"id": 1, "op": "refuse"}))
        assert read_json(connection.recv)


def test_connections_are_bounded_and_come_free_again(controlled: Controlled) -> None:
    held = [controlled.connect() for _ in range(MAX_CONNECTIONS)]
    with controlled.connect() as refused:
        assert refused.recv(100) == b""
    for connection in held:
        connection.close()
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with controlled.connect() as connection:
            try:
                connection.sendall(json_frame({"id": 1, "op": "refuse"}))
                if read_json(connection.recv):
                    break
            except OSError:
                pass
        time.sleep(0.01)
    assert time.monotonic() < end
