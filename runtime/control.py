"""The supervisor's control socket: the same frames as on the wire, one thread a connection, a few at most."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

from edgeship.runtime.errors import AgentError, ProtocolError
from edgeship.runtime.wire import json_frame, read_json

MAX_CONNECTIONS = 8
IDLE_SECONDS = 600.0

#: Takes a request and a function that sends an event; returns the result.
Operation = Callable[[Mapping[str, Any], Callable[[Mapping[str, Any]], None]], dict[str, Any]]


class ControlServer:
    """Answers requests of `rpc` processes.

    Args:
        listener: bound and listening, not blocking.
        operations: name -> what to do, run in the connection's own thread.
        broken: told of a defect (anything but an AgentError) in an operation.
    """

    def __init__(
        self, listener: socket.socket, operations: Mapping[str, Operation], broken: Callable[[str], None]
    ) -> None:
        self._listener, self._operations, self._broken = listener, operations, broken
        self._free = threading.Semaphore(MAX_CONNECTIONS)

    def accept(self, _mask: int) -> None:
        """Called by the loop when a connection waits."""
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            if not self._free.acquire(blocking=False):
                connection.close()
                return
            connection.settimeout(IDLE_SECONDS)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                while (request := read_json(connection.recv)) is not None:
                    connection.sendall(json_frame(self._answer(connection, request)))
        except (OSError, ProtocolError):
            pass  # the other side went away or spoke nonsense: its connection ends, nothing else
        finally:
            self._free.release()

    def _answer(self, connection: socket.socket, request: Mapping[str, Any]) -> dict[str, Any]:
        number = request.get("id")

        def emit(event: Mapping[str, Any]) -> None:
            with contextlib.suppress(OSError):  # who asked may be gone; what was asked goes on
                connection.sendall(json_frame({"id": number, "event": event}))

        try:
            operation = self._operations.get(str(request.get("op")))
            if operation is None:
                raise AgentError(f"unknown operation {request.get('op')!r:.80}", "bad-request")
            return {"id": number, "ok": True, "result": operation(request, emit)}
        except AgentError as error:
            return {"id": number, "ok": False, "error": {"code": error.code, "message": str(error)}}
        except Exception as error:  # noqa: BLE001  one request's defect must not end the supervisor
            self._broken(f"operation {request.get('op')!r:.80}: {type(error).__name__}: {error}")
            text = f"a defect of the agent: {type(error).__name__}: {error}"
            return {"id": number, "ok": False, "error": {"code": "internal", "message": text}}
