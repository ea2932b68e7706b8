"""A virtual device where sshd or bubblewrap is missing: an asyncssh server that runs commands on this host.

It has a home and a host key of its own, but this host's processes, hostname, /tmp and clock. `python -m
edgeship.lab.fallback FOLDER` is the server; it adopts what its commands leave behind, so that a power cut finds it.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib.util
import os
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeship.errors import DeviceError
from edgeship.lab import virtual
from edgeship.lab.virtual import Process, Virtual
from edgeship.release import durable

if TYPE_CHECKING:
    import asyncssh

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_CHUNK = 1 << 16


def missing() -> str | None:
    """Why this kind of device cannot be made here; None when it can."""
    return None if importlib.util.find_spec("asyncssh") else "asyncssh is not installed"


def python_command() -> tuple[str, ...]:
    """How Python is started: this interpreter."""
    return (sys.executable,)


def prepare(folder: Path, device: Virtual, host_key: bytes, authorized: str) -> None:
    """Write everything a device consists of, but its power. Raises DeviceError when a small disk is asked for."""
    if device.disk_bytes is not None:
        raise DeviceError(f"virtual device {device.name}: a disk of its own needs sshd and bubblewrap", stage="lab",
                          hint="apt install openssh-server bubblewrap")  # fmt: skip
    (folder / "home").mkdir(parents=True, exist_ok=True)
    durable.write(folder / "etc" / "host_key", host_key, mode=0o600)
    durable.write(folder / "etc" / "authorized_keys", authorized.encode())


def start(folder: Path, device: Virtual) -> Virtual:
    """Give the device power; gives its record with its process."""
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        argv = [sys.executable, "-m", "edgeship.lab.fallback", str(folder)]
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), (os.POSIX_SPAWN_DUP2, log, 1),
            (os.POSIX_SPAWN_DUP2, log, 2),
        ]  # fmt: skip
        pid = os.posix_spawn(argv[0], argv, dict(os.environ), file_actions=actions, setsid=True)
    finally:
        os.close(log)
    return replace(device, first=Process.of(pid))


def main(folder: Path) -> None:
    """Be the server of the device in `folder`, until killed."""
    # Processes that a command leaves behind come to this one, and end with it.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    asyncio.run(_serve(folder, virtual.load(folder)))


async def _serve(folder: Path, device: Virtual) -> None:
    import asyncssh

    home = folder / "home"
    environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": str(home), "USER": device.user,
                   "LANG": "C.UTF-8"}  # fmt: skip
    for hook in sorted((home / ".termux" / "boot").glob("*")):
        await _spawn(["/bin/sh", str(hook)], home, environment, asyncio.subprocess.DEVNULL)

    async def handle(process: asyncssh.SSHServerProcess[bytes]) -> None:
        child = await _spawn(["/bin/sh", "-c", process.command or "exec /bin/sh"], home, environment,
                             asyncio.subprocess.PIPE)  # fmt: skip
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        incoming = asyncio.ensure_future(_into(process.stdin, child.stdin))
        await asyncio.gather(_out(child.stdout, process.stdout), _out(child.stderr, process.stderr))
        status = await child.wait()
        incoming.cancel()
        process.exit(status if status >= 0 else 128 - status)

    async with await asyncssh.listen(
        "127.0.0.1", device.port, server_host_keys=[str(folder / "etc" / "host_key")], process_factory=handle,
        authorized_client_keys=str(folder / "etc" / "authorized_keys"), encoding=None, allow_scp=False,
    ) as server:  # fmt: skip
        await server.wait_closed()


async def _spawn(argv: list[str], home: Path, environment: dict[str, str], pipe: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *argv, stdin=pipe, stdout=pipe, stderr=pipe, cwd=home, env=environment, start_new_session=True
    )


async def _into(source: asyncssh.SSHReader[bytes], target: asyncio.StreamWriter) -> None:
    import asyncssh

    with suppress(OSError, asyncssh.Error):
        while data := await source.read(_CHUNK):
            target.write(data)
            await target.drain()
    with suppress(OSError):
        target.close()


async def _out(source: asyncio.StreamReader, target: asyncssh.SSHWriter[bytes]) -> None:
    import asyncssh

    with suppress(OSError, asyncssh.Error):
        while data := await source.read(_CHUNK):
            target.write(data)
            await target.drain()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
