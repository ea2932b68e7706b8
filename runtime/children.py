"""Starting child processes and talking to them, without the module subprocess (2 MB in the supervisor).

A child gets only the descriptors it is given, its own process group, and Python's `-I`. A worker's standard error is a
pipe: what it says goes to the log, and its end tells that the worker is gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from edgeship.runtime.errors import AgentError, ProtocolError
from edgeship.runtime.wire import json_frame, read_json

MAX_OUTPUT = 1 << 20
CONTROL_FD, SERVE_FD = 3, 4
_HIGH = 64  # descriptors are moved above this before they are given away, so that none is overwritten


def agent_argv(app: str, *words: str) -> list[str]:
    """The command line of another process of this agent."""
    return [sys.executable, "-I", app, *words]


def spawn(argv: Sequence[str], descriptors: Mapping[int, int | str], *, session: bool = False) -> int:
    """Start a process; returns its id.

    Args:
        argv: the command line, its first word an absolute path.
        descriptors: the child's descriptor -> ours, or a path that is opened (read for 0, else appended). Descriptors
            0 to 2 that are not named are /dev/null. Nothing else is inherited.
        session: make it the leader of a session of its own, so that a logout does not reach it.
    """
    named: dict[int, int | str] = {0: os.devnull, 1: os.devnull, 2: os.devnull, **descriptors}
    high: list[int] = []
    actions: list[tuple[Any, ...]] = []
    try:
        for theirs, ours in named.items():
            if isinstance(ours, int):
                high.append(fcntl.fcntl(ours, fcntl.F_DUPFD_CLOEXEC, _HIGH))
                actions.append((os.POSIX_SPAWN_DUP2, high[-1], theirs))
            else:
                flags = os.O_RDONLY if theirs == 0 else os.O_WRONLY | os.O_APPEND
                actions.append((os.POSIX_SPAWN_OPEN, theirs, ours, flags, 0o600))
        default = [signal.SIGPIPE, signal.SIGINT, signal.SIGHUP]
        extra: dict[str, Any] = {"setsid": True} if session else {"setpgroup": 0}
        environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}  # one heap: threads of glibc's else keep megabytes
        return os.posix_spawn(argv[0], list(argv), environment, file_actions=actions, setsigdef=default, **extra)
    except OSError as error:
        raise AgentError(f"cannot start {argv[0]}: {error.strerror}", "internal") from error
    finally:
        for fd in high:
            os.close(fd)


def kill(pid: int) -> None:
    """End a child at once."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def describe(code: int) -> str:
    """An exit code of `os.waitstatus_to_exitcode` in words."""
    if code >= 0:
        return f"ended with status {code}"
    with contextlib.suppress(ValueError):
        return f"died by {signal.Signals(-code).name}"
    return f"died by signal {-code}"


def run(argv: Sequence[str], data: bytes, seconds: float) -> tuple[int, bytes]:
    """Run a process to its end: (exit code, standard output).

    Args:
        argv: the command line.
        data: its standard input, at most what a pipe holds (64 KiB).
        seconds: how long it may take.

    Raises:
        AgentError: it did not end in time, or said too much; it is killed.
    """
    stdin, feed = os.pipe()
    drain, stdout = os.pipe()
    try:
        try:
            pid = spawn(argv, {0: stdin, 1: stdout})
        finally:
            os.close(stdin)
            os.close(stdout)
        os.write(feed, data)
    except BaseException:
        os.close(drain)
        raise
    finally:
        os.close(feed)
    out = bytearray()
    end = time.monotonic() + seconds
    poll = select.poll()
    poll.register(drain, select.POLLIN)
    try:
        while True:
            if not poll.poll(max(0.0, end - time.monotonic()) * 1000):
                raise AgentError(f"{argv[3]} did not end within {seconds:.0f} s")
            part = os.read(drain, 1 << 16)
            if not part:
                break
            out += part
            if len(out) > MAX_OUTPUT:
                raise AgentError(f"{argv[3]} said more than {MAX_OUTPUT} bytes")
    except BaseException:
        kill(pid)
        raise
    finally:
        os.close(drain)
        status = os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status), bytes(out)


class Worker:
    """One worker process: its control channel, its end of the serve channel, its standard error.

    Args:
        argv: command line without `--control` and `--serve`.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        self._control, control = socket.socketpair()
        self.serve, serve = socket.socketpair()
        self.stderr, stderr = os.pipe()
        os.set_blocking(self.stderr, False)
        try:
            words = (*argv, "--control", str(CONTROL_FD), "--serve", str(SERVE_FD))
            self.pid = spawn(words, {2: stderr, CONTROL_FD: control.fileno(), SERVE_FD: serve.fileno()})
        except AgentError:
            os.close(self.stderr)
            self._control.close()
            self.serve.close()
            raise
        finally:
            os.close(stderr)
            control.close()
            serve.close()
        self._lock = threading.Lock()
        self._reap_lock = threading.Lock()
        self._number = 0
        self._code: int | None = None

    def request(self, op: str, seconds: float, **fields: Any) -> dict[str, Any]:
        """Ask on the control channel and wait for the answer.

        Raises:
            AgentError: as the worker answered; "busy" when another request is under way; "worker" when it died or did
                not answer in time (it is killed then).
        """
        if not self._lock.acquire(blocking=False):
            raise AgentError("the worker is busy with another request", "busy")
        try:
            self._number += 1
            end = time.monotonic() + seconds

            def receive(n: int) -> bytes:
                self._control.settimeout(max(0.001, end - time.monotonic()))
                return self._control.recv(n)

            try:
                self._control.settimeout(seconds)
                self._control.sendall(json_frame({"id": self._number, "op": op, **fields}))
                answer = read_json(receive)
            except TimeoutError as error:
                self.kill()
                raise AgentError(f"the worker did not answer {op!r} within {seconds:.0f} s", "worker") from error
            except (OSError, ProtocolError) as error:
                raise AgentError(f"the worker {describe(self.wait(1.0))} during {op!r}", "worker") from error
            if answer is None:
                raise AgentError(f"the worker {describe(self.wait(1.0))} during {op!r}", "worker")
        finally:
            self._lock.release()
        if answer.get("ok"):
            result: dict[str, Any] = answer.get("result", {})
            return result
        failure = answer.get("error", {})
        raise AgentError(str(failure.get("message", "the worker said no"))[:500], _code(failure.get("code")))

    def kill(self) -> None:
        """End it at once; it is reaped by `wait`."""
        with self._reap_lock:
            if self._code is None:
                kill(self.pid)

    def wait(self, seconds: float = 5.0) -> int:
        """Its exit code; it is killed when it does not end in time."""
        end = time.monotonic() + seconds
        while True:
            with self._reap_lock:
                if self._code is None:
                    pid, status = os.waitpid(self.pid, os.WNOHANG)
                    self._code = os.waitstatus_to_exitcode(status) if pid else None
                if self._code is not None:
                    return self._code
                if time.monotonic() >= end:
                    kill(self.pid)
            time.sleep(0.005)

    def stop(self, seconds: float = 5.0) -> int:
        """Let it end: its control channel closes, which it takes as the end. Safe to call twice."""
        self.close_control()
        return self.wait(seconds)

    def close_control(self) -> None:
        """Tell it to end, without waiting."""
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)
        self._control.close()


def _code(code: Any) -> str:
    from edgeship.runtime.errors import CODES

    return code if isinstance(code, str) and code in CODES else "worker"
