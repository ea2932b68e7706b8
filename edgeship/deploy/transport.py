"""How a byte stream to a process on a device is opened.

Anything that can do this is a transport: SSH (`ssh.py`), a child process of this host (`local.py`). Streams raise
OSError when they break (TimeoutError when nothing comes); `client.AgentClient` maps that to the exception tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from edgeship.deploy.device import Device
from edgeship.errors import ConfigError
from edgeship.profile import Profile
from edgeship.reporter import Reporter
from edgeship.runtime.wire import ByteStream

STDERR_LINES = 40  # of a remote process, kept for the error that follows
STDERR_BYTES = 16 << 10

BROKEN = "broken"  # code of the error where an open connection broke
STILL_ON = "is it still switched on? What was sent so far is kept; push again"


@dataclass(frozen=True)
class Ended:
    """How a process on a device ended: its exit status (None: the connection broke first) and its last words."""

    status: int | None
    stderr: tuple[str, ...] = ()


@runtime_checkable
class Channel(ByteStream, Protocol):
    """A byte stream that can also say how its process ended."""

    def ended(self) -> Ended:
        """Wait shortly for the process to end and say how."""
        ...


class Transport(Protocol):
    """Opens processes on one device."""

    def open(self, argv: Sequence[str]) -> Channel:
        """Start `argv` there; its standard input and output are the stream.

        Raises:
            UnreachableError: the connection is gone, or the device opens no more channels.
        """
        ...

    def close(self) -> None:
        """End it; safe to call twice."""
        ...


def connect(device: Device, profile: Profile, *, reporter: Reporter) -> Transport:
    """Open a transport to a device, as its record says.

    Raises:
        AuthError: no key was accepted, or the host key is not the pinned one.
        UnreachableError: nothing answers there.
        ConfigError: the record or `~/.ssh/config` makes no sense.
    """
    if device.transport == "local":
        from edgeship.deploy.local import LocalTransport

        return LocalTransport(device)
    if device.transport == "ssh":
        from edgeship.deploy.ssh import SshTransport  # paramiko takes 0.3 s to import

        return SshTransport.connect(device, profile, reporter=reporter)
    raise ConfigError(f"{device.name}: unknown transport {device.transport!r}", hint="ssh or local")


def clean(text: str) -> str:
    """What a device said, without control and escape characters: it must not drive the user's terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def last_lines(raw: bytes) -> tuple[str, ...]:
    """The last lines of a process's standard error, fit to be shown."""
    text = raw[-STDERR_BYTES:].decode("utf-8", "replace")
    lines = [clean(line).rstrip() for line in text.splitlines()]
    return tuple(line[:500] for line in lines if line)[-STDERR_LINES:]
