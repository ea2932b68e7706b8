"""A virtual device made of Debian's sshd inside bubblewrap: own processes, home, hostname, host key and boot id.

The first process of its process namespace is bubblewrap's reaper; killing that ends everything in it at once, as a
power cut does, while the files stay. It is not tied to the command that started it (no --die-with-parent).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path

from edgeship.errors import DeviceError
from edgeship.lab.virtual import Process, Virtual
from edgeship.release import durable

UID = 1000
SSHD, BWRAP = "sshd", "bwrap"
SYSTEM_PYTHON = "/usr/bin/python3"
_SBIN = "/usr/sbin:/usr/bin:/sbin:/bin"

_SSHD_CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey /etc/dev/host_key
AuthorizedKeysFile /etc/dev/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
UseDNS no
PrintMotd no
Subsystem sftp internal-sftp
"""

#: What starts when the device gets power: the boot hooks, then sshd, which stays. Reaping is bubblewrap's.
_BOOT = """\
#!/bin/sh
for hook in "$HOME"/.termux/boot/*; do
  if [ -f "$hook" ]; then /bin/sh "$hook" </dev/null & fi
done
exec {sshd} -D -e -f /etc/dev/sshd_config
"""


def missing() -> str | None:
    """Why this kind of device cannot be made here; None when it can."""
    absent = [name for name in (SSHD, BWRAP) if _find(name) is None]
    if absent:
        return f"{' and '.join(absent)} not installed (apt install openssh-server bubblewrap)"
    try:
        subprocess.run([_need(BWRAP), *_namespaces("probe"), "--ro-bind", "/", "/", "true"], check=True, timeout=20,
                       capture_output=True)  # fmt: skip
    except (subprocess.SubprocessError, OSError) as error:
        return f"bubblewrap cannot make namespaces here: {error}"
    return None


def prepare(folder: Path, virtual: Virtual, host_key: bytes, authorized: str) -> None:
    """Write everything a device consists of, but its power."""
    etc = folder / "etc"
    for path in (etc, folder / "home", folder / "var"):
        path.mkdir(parents=True, exist_ok=True)
    durable.write(etc / "host_key", host_key, mode=0o600)
    user = virtual.user
    files = {
        "authorized_keys": authorized,
        "sshd_config": _SSHD_CONFIG.format(port=virtual.port),
        "boot": _BOOT.format(sshd=_need(SSHD)),
        "passwd": f"root:x:0:0::/root:/bin/sh\n{user}:x:{UID}:{UID}::/home/{user}:/bin/sh\n"
        "sshd:x:104:65534::/run/sshd:/usr/sbin/nologin\n",
        "group": f"root:x:0:\n{user}:x:{UID}:\nnogroup:x:65534:\n",
    }
    for name, text in files.items():
        durable.write(etc / name, text.encode())


def start(folder: Path, virtual: Virtual) -> Virtual:
    """Give the device power; gives its record with its processes.

    Raises:
        DeviceError: bubblewrap did not start.
    """
    durable.write(folder / "etc" / "boot_id", f"{uuid.uuid4()}\n".encode())
    read, write = os.pipe()
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        argv = [_need(BWRAP), "--info-fd", "3", *_command(folder, virtual)]
        # Descriptors 0 to 3 are set last to first, so that none is overwritten before it is used.
        high = [os.dup(fd) for fd in (null, log, log, write)]
        try:
            actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(high)]
            pid = os.posix_spawn(argv[0], argv, {"PATH": _SBIN, "LANG": "C.UTF-8"}, file_actions=actions, setsid=True)
        finally:
            for fd in high:
                os.close(fd)
    finally:
        os.close(log)
        os.close(null)
        os.close(write)
    with os.fdopen(read, "rb") as file:
        info = file.read()
    outer = Process.of(pid)
    try:
        first = Process.of(int(json.loads(info)["child-pid"]))
    except (ValueError, KeyError, TypeError) as error:
        outer.kill()
        raise DeviceError(f"virtual device {virtual.name}: bubblewrap did not start", device=virtual.name, stage="lab",
                          hint=f"see {folder / 'log'}") from error  # fmt: skip
    return replace(virtual, first=first, outer=outer)


def python_command() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """How Python is started inside, and what must be bound in for it: nothing where the system's is new enough."""
    system = Path(SYSTEM_PYTHON)
    if system.exists():
        probe = [str(system), "-c", "import sys; sys.exit(sys.version_info < (3, 10))"]
        if subprocess.run(probe, check=False, timeout=20).returncode == 0:
            return ("python3",), ()
    own = str(Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}")
    return (own,), (sys.base_prefix,)


def _command(folder: Path, virtual: Virtual) -> list[str]:
    etc, home = folder / "etc", f"/home/{virtual.user}"
    _, bound = python_command()
    argv = [*_namespaces(virtual.name), "--clearenv"]
    for name, value in (("PATH", _SBIN), ("HOME", home), ("USER", virtual.user), ("LANG", "C.UTF-8")):
        argv += ["--setenv", name, value]
    argv += ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "lib", "lib64", "sbin"):
        argv += ["--symlink", f"usr/{name}", f"/{name}"]
    argv += ["--dir", "/etc", "--ro-bind", str(etc), "/etc/dev"]
    for name in ("passwd", "group"):
        argv += ["--ro-bind", str(etc / name), f"/etc/{name}"]
    for path in ("/etc/os-release", "/etc/ld.so.cache", "/etc/ssl", "/etc/alternatives", *bound):
        argv += ["--ro-bind-try", path, path]
    argv += ["--proc", "/proc", "--dev", "/dev"]
    argv += ["--ro-bind", str(etc / "boot_id"), "/proc/sys/kernel/random/boot_id"]
    argv += ["--tmpfs", "/tmp", "--tmpfs", "/run", "--bind", str(folder / "var"), "/var"]  # noqa: S108  # inside of it
    if virtual.disk_bytes is None:
        argv += ["--bind", str(folder / "home"), home]
    else:
        argv += ["--size", str(virtual.disk_bytes), "--tmpfs", home]
    return [*argv, "--chdir", home, "/bin/sh", "/etc/dev/boot"]


def _namespaces(name: str) -> list[str]:
    return [
        "--unshare-user", "--uid", str(UID), "--gid", str(UID), "--unshare-pid", "--unshare-uts", "--unshare-ipc",
        "--hostname", name,
    ]  # fmt: skip


def _find(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_SBIN}")


def _need(name: str) -> str:
    found = _find(name)
    if found is None:
        raise DeviceError(f"{name} is not installed", stage="lab", hint="apt install openssh-server bubblewrap")
    return found
