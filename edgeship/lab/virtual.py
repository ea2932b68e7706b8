"""The record of one virtual device on this host, and the processes that are its own.

A process is known by its number and its start time: a number alone may belong to somebody else by now.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgeship.deploy.device import Device
from edgeship.errors import DeviceError, StoreError
from edgeship.release import durable

SCHEMA = "edgeship.lab.device/v1"
END_TIMEOUT = 10.0
START_TIMEOUT = 20.0
_LOWEST_PORT = 20_000  # below it are those of well-known servers


@dataclass(frozen=True)
class Process:
    """A process of this host."""

    pid: int
    started: int  # clock ticks after the host's boot, from /proc/PID/stat

    @classmethod
    def of(cls, pid: int) -> Process:
        """The process that has this number now; started 0 when there is none."""
        return cls(pid, _stat(pid)[1])

    @property
    def alive(self) -> bool:
        """Whether exactly this process still runs."""
        state, started = _stat(self.pid)
        return started == self.started and started > 0 and state not in "ZX"

    def kill(self) -> None:
        """End it without a word, as a power cut does, and wait until it is gone."""
        if self.alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        deadline = time.monotonic() + END_TIMEOUT
        while True:
            with suppress(ChildProcessError):
                os.waitpid(self.pid, os.WNOHANG)  # where this process started it
            if not self.alive:
                return
            if time.monotonic() > deadline:
                raise DeviceError(f"process {self.pid} does not end", hint=f"kill -9 {self.pid}")
            time.sleep(0.01)

    def kill_tree(self) -> None:
        """End it and everything that descends from it. It must be a subreaper, so that nothing has left the tree."""
        if self.alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGSTOP)  # no new children
            while below := [p for p in _descendants(self.pid) if p.alive]:
                for process in below:
                    with suppress(ProcessLookupError):
                        os.kill(process.pid, signal.SIGKILL)
                time.sleep(0.01)
        self.kill()


@dataclass(frozen=True)
class Virtual:
    """One virtual device: what it is, where it listens, and by which processes while it has power."""

    name: str
    profile: str
    label: str
    user: str
    port: int
    serve_port: int
    server: str  # sshd | asyncssh
    host_key: str
    arch: str
    python: tuple[str, ...] = ("python3",)
    disk_bytes: int | None = None  # a home of this size in memory, which a power cut empties
    first: Process | None = None  # what a power cut kills
    outer: Process | None = None  # what ends by itself then

    @property
    def running(self) -> bool:
        """Whether it has power."""
        return self.first is not None and self.first.alive

    def off(self) -> Virtual:
        """Cut the power; gives the record without processes."""
        if self.first is not None:
            self.first.kill() if self.server == "sshd" else self.first.kill_tree()
        if self.outer is not None:
            self.outer.kill()
        return replace(self, first=None, outer=None)

    def device(self, identity: Path) -> Device:
        """As the inventory knows it. `init` termux: the boot hook is what starts its agent."""
        return Device(
            name=self.name, profile=self.profile, transport="ssh", host="127.0.0.1", port=self.port, user=self.user,
            identity=str(identity), host_key=self.host_key, root="~/.local/share/edgeship", serve_port=self.serve_port,
            python=self.python, arch=self.arch, init="termux", labels={"lab": self.label},
        )  # fmt: skip


def save(folder: Path, virtual: Virtual) -> None:
    """Write the record durably into the device's folder."""
    durable.write(folder / "device.json", json.dumps({"schema": SCHEMA, **asdict(virtual)}, indent=2).encode())


def load(folder: Path) -> Virtual:
    """Read a device's record. Raises StoreError."""
    try:
        data: dict[str, Any] = json.loads((folder / "device.json").read_bytes())
        if data.pop("schema", None) != SCHEMA:
            raise ValueError(f"not of schema {SCHEMA}")
        data["python"] = tuple(data["python"])
        for key in ("first", "outer"):
            data[key] = Process(**data[key]) if data[key] else None
        return Virtual(**data)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StoreError(f"the record of the virtual device in {folder} cannot be read: {error}",
                         hint=f"rm -r {folder}; edgeship lab up") from error  # fmt: skip


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nothing listens on now, all different.

    They are none that the system gives to whoever asks for any: a device keeps its ports while it has no power.
    """
    own = list(range(_LOWEST_PORT, _given_ports()))
    random.SystemRandom().shuffle(own)
    sockets: list[socket.socket] = []
    try:
        while len(sockets) < count:
            sock, port = socket.socket(), own.pop() if own else 0
            try:
                sock.bind(("127.0.0.1", port))
                sockets.append(sock)
            except OSError:  # taken: the next one
                sock.close()
                if not port:
                    raise
        return [sock.getsockname()[1] for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()


def _given_ports() -> int:
    """The lowest port that the system gives away by itself; not below `_LOWEST_PORT`."""
    try:
        words = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()
        return max(_LOWEST_PORT, int(words[0]))
    except (OSError, ValueError, IndexError):
        return _LOWEST_PORT


def wait_for_ssh(virtual: Virtual, log: Path) -> None:
    """Wait until the device's SSH server greets. Raises DeviceError with the end of its log."""
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and virtual.running:
        with suppress(OSError), socket.create_connection(("127.0.0.1", virtual.port), timeout=2) as sock:
            if sock.recv(4) == b"SSH-":
                return
        time.sleep(0.02)
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-10:] if log.exists() else []
    why = lines[-1] if lines else "no reason given"
    raise DeviceError(f"virtual device {virtual.name} does not start: {why}", device=virtual.name, stage="lab",
                      log=lines, hint=f"the whole log: {log}")  # fmt: skip


def _descendants(pid: int) -> list[Process]:
    parents = {int(path.name): _fields(int(path.name)) for path in Path("/proc").iterdir() if path.name.isdigit()}
    out, todo = [], [pid]
    while todo:
        parent = todo.pop()
        children = [child for child, fields in parents.items() if fields and int(fields[1]) == parent]
        out += [Process.of(child) for child in children]
        todo += children
    return out


def _stat(pid: int) -> tuple[str, int]:
    """State letter and start time of a process; ("X", 0) when there is none."""
    fields = _fields(pid)
    return (fields[0], int(fields[19])) if fields else ("X", 0)


def _fields(pid: int) -> list[str]:
    """What /proc says of a process behind its name: state, parent, …; start time is the 20th."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
