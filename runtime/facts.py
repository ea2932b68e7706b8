"""What a device is: architecture, system, room. The host's fit check reads it before any byte is sent."""

from __future__ import annotations

import contextlib
import os
import struct
import sys
import time
from typing import Any

_ARCH = {"arm64": "aarch64", "amd64": "x86_64"}
_NARROW = {"aarch64": "armv7l", "x86_64": "i686"}  # a 64-bit kernel under a 32-bit system


def arch_of(machine: str, pointer_bytes: int) -> str:
    """The architecture that a library must be made for: what Python runs as, not what the kernel is."""
    arch = _ARCH.get(machine.lower(), machine)
    return _NARROW.get(arch, arch) if pointer_bytes == 4 else arch


def own_arch(override: str | None) -> str:
    """This device's architecture, or what a virtual device is said to be."""
    return override or arch_of(os.uname().machine, struct.calcsize("P"))


def gather(root: str, *, arch: str | None = None) -> dict[str, Any]:
    """All facts, as `rpc` answers them. `root` must exist; `arch` overrides for virtual devices."""
    import platform

    system = os.uname()
    disk = os.statvfs(root)
    return {
        "arch": own_arch(arch), "machine": system.machine, "kernel": system.release, "os": _os_name(),
        "libc": list(_libc()), "python": platform.python_version(), "ctypes": _can_import("ctypes"),
        "lzma": _can_import("lzma"), "libstdcxx": _loads("libstdc++.so.6"), "cores": os.cpu_count() or 1,
        "memory_bytes": _memory(), "disk_free_bytes": disk.f_bavail * disk.f_frsize,
        "disk_total_bytes": disk.f_blocks * disk.f_frsize, "inodes_free": disk.f_favail,
        "init": _init(), "hostname": system.nodename, "boot_id": boot_id(), "board": _board(), "clock": time.time(),
        "executable": sys.executable,
    }  # fmt: skip


def boot_id() -> str:
    """The kernel's boot id; where it is hidden, one that lasts as long as this process."""
    text = _read("/proc/sys/kernel/random/boot_id")
    return text.strip() if text else f"process-{os.getpid()}-{int(time.clock_gettime(time.CLOCK_BOOTTIME))}"


def _read(path: str) -> str:
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read(4096).decode("utf-8", "replace")
    return ""


def _os_name() -> str:
    for line in _read("/etc/os-release").splitlines():
        key, _, value = line.partition("=")
        if key == "PRETTY_NAME":
            return value.strip().strip("\"'")
    return sys.platform


def _libc() -> tuple[str, str]:
    import platform

    with contextlib.suppress(ValueError, OSError):
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        if version:
            return name, version
    return platform.libc_ver()


def _can_import(name: str) -> bool:
    try:
        __import__(name)
    except ImportError:
        return False
    return True


def _loads(library: str) -> bool:
    try:
        import ctypes

        ctypes.CDLL(library)
    except (ImportError, OSError):
        return False
    return True


def _memory() -> int:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        limit = _read(path).strip()
        if limit.isdigit():
            total = min(total, int(limit))
    return total


def _init() -> str:
    if os.path.isdir("/run/systemd/system"):
        return "systemd"
    return "termux" if "TERMUX_VERSION" in os.environ or os.path.isdir("/data/data/com.termux") else "none"


def _board() -> str:
    for path in ("/proc/device-tree/model", "/sys/devices/virtual/dmi/id/product_name"):
        text = _read(path).strip("\0\n ")
        if text:
            return text
    return ""
