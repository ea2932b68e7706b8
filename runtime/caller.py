"""How `rpc` reaches the supervisor of its folder: over the control socket, starting it where it does not run."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from edgeship.runtime import disk as disks
from edgeship.runtime import logs
from edgeship.runtime.children import agent_argv, spawn
from edgeship.runtime.disk import Disk
from edgeship.runtime.errors import AgentError
from edgeship.runtime.layout import Layout
from edgeship.runtime.wire import json_frame, read_json

START_SECONDS = 30.0  # for a supervisor on a slow board

Json = Mapping[str, Any]


class Supervisor:
    """The supervisor of a folder, as `rpc` sees it."""

    def __init__(self, layout: Layout, disk: Disk, app: str) -> None:
        self._layout, self._disk, self._app = layout, disk, app
        self._stderr = layout.path("log", "supervisor.err")  # what Python says when it cannot start

    def connect(self) -> socket.socket | None:
        """A connection to it, None when it does not run."""
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(self._layout.control_socket())
        except OSError:
            connection.close()
            return None
        return connection

    def ensure(self) -> socket.socket:
        """A connection to it; it is started where it does not run. Raises AgentError when it does not come up."""
        connection = self.connect()
        if connection is not None:
            return connection
        self._disk.write(self._stderr, b"")
        argv = agent_argv(self._app, "supervise", "--root", self._layout.root)
        pid = spawn(argv, {2: self._stderr}, session=True)
        end = time.monotonic() + START_SECONDS
        failed = False
        while time.monotonic() < end and not failed:
            connection = self.connect()
            if connection is not None:
                return connection
            time.sleep(0.02)
            with contextlib.suppress(ChildProcessError):  # status 0: another one was faster, and will listen
                failed = os.waitpid(pid, os.WNOHANG)[1] != 0
        said = logs.printable((disks.read(self._stderr, 1 << 20) or b"").decode("utf-8", "replace")[-800:])
        raise AgentError(f"the agent's supervisor does not start: {said}")

    def stop(self) -> None:
        """End it, and wait until it is gone."""
        with contextlib.suppress(AgentError):
            self.ask({"op": "stop"}, lambda _: None, start=False)
        lock = self._disk.lock(self._layout.supervisor_lock, seconds=START_SECONDS)
        if lock is None:
            raise AgentError("the agent's supervisor does not stop")
        os.close(lock)

    def ask(self, request: Json, emit: Callable[[Json], None], *, start: bool = True) -> dict[str, Any]:
        """Its answer to a request; events on the way go to `emit`. Raises AgentError as it does."""
        connection = self.ensure() if start else self.connect()
        if connection is None:
            return {}
        with connection:
            try:
                connection.sendall(json_frame(request))
                while (answer := read_json(connection.recv)) is not None:
                    if "event" in answer:
                        emit(answer["event"])
                    elif answer.get("ok"):
                        result: dict[str, Any] = answer["result"]
                        return result
                    else:
                        failure = answer["error"]
                        raise AgentError(failure["message"], failure["code"])
            except OSError as error:
                raise AgentError(f"the agent's supervisor went away: {error.strerror}") from error
        raise AgentError("the agent's supervisor ended during the request; its log says why")
