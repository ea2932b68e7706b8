"""This machine: what it is and the state it is in, as far as its kernel tells."""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path

from edgeship.bench.record import Conditions, Place


def place(root: Path = Path("/")) -> Place:
    """This machine, as far as the kernel tells; `root` is where /proc and /sys are."""
    cpu = _field(root / "proc/cpuinfo", "model name") or _field(root / "proc/cpuinfo", "Model") or None
    memory = _field(root / "proc/meminfo", "MemTotal")
    system = _field(root / "etc/os-release", "PRETTY_NAME", "=")
    governor = _line(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return Place(
        name="host", board=_line(root / "sys/devices/virtual/dmi/id/product_name") or None, arch=platform.machine(),
        cpu=cpu, cores=len(os.sched_getaffinity(0)), kernel=platform.release(), python=platform.python_version(),
        memory_bytes=int(memory.split()[0]) * 1024 if memory and memory.split()[0].isdigit() else None,
        system=system.strip('"') if system else None, governor=governor or None,
    )  # fmt: skip


def conditions(root: Path = Path("/")) -> Conditions:
    """The state of this machine now."""
    load = _line(root / "proc/loadavg").split()
    heat = _line(root / "sys/class/thermal/thermal_zone0/temp")
    clock = _line(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq")
    return Conditions(
        load1=_float(load[0]) if load else None,
        temperature_celsius=_scaled(heat, 1e-3),
        clock_hertz=_scaled(clock, 1e3),
    )


def _line(path: Path) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="utf-8").strip()
    return ""


def _field(path: Path, key: str, separator: str = ":") -> str:
    for line in _line(path).splitlines():
        name, found, value = line.partition(separator)
        if found and name.strip() == key:
            return value.strip()
    return ""


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _scaled(text: str, scale: float) -> float | None:
    value = _float(text)
    return None if value is None else value * scale
