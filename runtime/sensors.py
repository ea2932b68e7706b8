"""What the device measures of itself, in base units. A sensor that cannot be read is absent, never 0.

| name | unit | from |
|---|---|---|
| `cpu_ratio` | share of all cores busy since the last reading, 0 to 1 | /proc/stat |
| `load` | processes running or waiting, mean of one minute | /proc/loadavg |
| `memory_available_bytes` | bytes | /proc/meminfo |
| `temperature_celsius` | °C | /sys/class/thermal, where the profile names a zone |
| `disk_free_bytes` | bytes free to us on the agent's file system | statvfs |
| `supervisor_pss_bytes`, `worker_pss_bytes` | proportional set size | /proc/PID/smaps_rollup |
"""

from __future__ import annotations

import os
import re

PROC = "/proc"
THERMAL = "/sys/class/thermal"


class Sensors:
    """Reads all there is. Keeps the last processor times, since a ratio needs two readings.

    Args:
        root: a folder on the file system whose free space matters.
        temperature: `sysfs:<zone>` of the profile, or None.
        proc, thermal: where the kernel shows its state.
    """

    def __init__(self, root: str, temperature: str | None, *, proc: str = PROC, thermal: str = THERMAL) -> None:
        self._root, self._proc = root, proc
        self._zone = temperature_file(temperature, thermal)
        self._times = _cpu_times(proc)

    def read(self, worker: int | None = None) -> dict[str, float]:
        """Every sensor that answers; `worker` is the worker's process id."""
        out = {
            "cpu_ratio": self._cpu_ratio(),
            "load": _first_number(_text(f"{self._proc}/loadavg")),
            "memory_available_bytes": _kilobytes(f"{self._proc}/meminfo", "MemAvailable:"),
            "temperature_celsius": self._temperature(),
            "disk_free_bytes": disk_free(self._root),
            "supervisor_pss_bytes": pss("self", self._proc),
            "worker_pss_bytes": None if worker is None else pss(worker, self._proc),
        }
        return {name: float(value) for name, value in out.items() if value is not None}

    def _cpu_ratio(self) -> float | None:
        before, now = self._times, _cpu_times(self._proc)
        if before is None or now is None:
            return None
        total = now[0] - before[0]
        if total <= 0:
            return None
        self._times = now
        return min(1.0, max(0.0, (now[1] - before[1]) / total))

    def _temperature(self) -> float | None:
        value = None if self._zone is None else _first_number(_text(self._zone))
        return None if value is None else value / 1000  # the kernel gives millidegrees


def temperature_file(source: str | None, thermal: str = THERMAL) -> str | None:
    """The file behind `sysfs:<zone>`; None for anything else, so that no setting can name another file."""
    found = re.fullmatch(r"sysfs:(thermal_zone\d{1,3})", source or "")
    return None if found is None else f"{thermal}/{found[1]}/temp"


def pss(pid: int | str, proc: str = PROC) -> int | None:
    """Proportional set size of a process in bytes; None where the kernel does not tell."""
    return _kilobytes(f"{proc}/{pid}/smaps_rollup", "Pss:")


def disk_free(path: str) -> int | None:
    """Bytes that we may still write on the file system of `path`."""
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def _text(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            return file.read(1 << 16).decode("ascii", "replace")
    except OSError:
        return None


def _first_number(text: str | None) -> float | None:
    try:
        return float((text or "").split()[0])
    except (IndexError, ValueError):
        return None


def _kilobytes(path: str, key: str) -> int | None:
    for line in (_text(path) or "").splitlines():
        if line.startswith(key):
            value = _first_number(line[len(key) :])
            return None if value is None else int(value) * 1024
    return None


def _cpu_times(proc: str) -> tuple[float, float] | None:
    """(all, busy) ticks since boot of all cores together."""
    parts = (_text(f"{proc}/stat") or "").partition("\n")[0].split()
    if len(parts) < 6 or parts[0] != "cpu":
        return None
    try:
        ticks = [float(part) for part in parts[1:9]]
    except ValueError:
        return None
    return sum(ticks), sum(ticks) - ticks[3] - ticks[4]  # idle and waiting for the disk are not busy
