"""A device that is a child process of this host: the same agent, the same protocol, no network."""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from edgeship.deploy.device import Device
from edgeship.deploy.transport import STDERR_BYTES, Ended, last_lines
from edgeship.errors import DeviceError

READ_TIMEOUT = 300.0  # seconds without a byte
END_TIMEOUT = 5.0


class LocalStream:
    """Standard input and output of a child process."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # closed by close()
        try:
            # A session of its own: Ctrl-C in the terminal must not reach the agent in the middle of a write.
            self._process = subprocess.Popen(
                list(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, bufsize=0,
                start_new_session=True, cwd="/",
            )  # fmt: skip
        except BaseException:
            self._stderr.close()
            raise
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout

    def read(self, n: int) -> bytes:
        """Up to n bytes; b"" at the end."""
        if not select.select([self._out], [], [], READ_TIMEOUT)[0]:
            raise TimeoutError(f"the agent said nothing for {READ_TIMEOUT:.0f} s")
        return os.read(self._out.fileno(), n)

    def write(self, data: bytes) -> None:
        """All of `data`."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._in.fileno(), view) :]

    def ended(self) -> Ended:
        """Exit status and last words."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_TIMEOUT)
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - STDERR_BYTES))
        return Ended(self._process.poll(), last_lines(self._stderr.read()))

    def close(self) -> None:
        """Close the pipes; the agent's `rpc` process ends with them, its supervisor stays."""
        if self._stderr.closed:
            return
        with suppress(OSError):
            self._in.close()
        self._out.close()
        try:
            self._process.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stderr.close()


class LocalTransport:
    """Starts the agent as a child process."""

    def __init__(self, device: Device) -> None:
        self._name = device.name
        self._streams: list[LocalStream] = []

    def open(self, argv: Sequence[str]) -> LocalStream:
        """Start `argv` on this host.

        Raises:
            DeviceError: there is no such program.
        """
        try:
            stream = LocalStream(argv)
        except OSError as error:
            raise DeviceError(
                f"{self._name}: cannot start {argv[0]}: {error.strerror or error}", device=self._name, stage="connect",
                hint=f"edgeship device show {self._name}: its python must be a program of this host",
            ) from error  # fmt: skip
        self._streams.append(stream)
        return stream

    def close(self) -> None:
        """Close every stream."""
        for stream in self._streams:
            stream.close()


def sim(folder: Path, profile: str, name: str = "sim") -> Device:
    """The record of the local child that `init` adds: its folder is `.edgeship/sim` of the project in `folder`."""
    root = folder.resolve() / ".edgeship" / name
    return Device(name=name, profile=profile, transport="local", root=str(root), serve_port=0, labels={"kind": "sim"})
