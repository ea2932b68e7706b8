"""Sensors: base units, and absent instead of 0 where one cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgeship.runtime.sensors import Sensors, disk_free, pss, temperature_file

STAT = "cpu  {busy} 0 0 {idle} 10 0 0 0 0 0\ncpu0 1 2 3 4\n"


def proc(folder: Path, **files: str) -> str:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(folder)


def test_this_machine_has_most_of_them() -> None:
    found = Sensors("/", None).read(os.getpid())
    assert {"load", "memory_available_bytes", "disk_free_bytes", "supervisor_pss_bytes", "worker_pss_bytes"} <= set(
        found
    )
    assert "temperature_celsius" not in found
    assert found["memory_available_bytes"] > 1e6


def test_values_and_units(tmp_path: Path) -> None:
    folder = proc(
        tmp_path / "proc", stat=STAT.format(busy=100, idle=90), loadavg="0.75 1 1 1/2 3\n",
        meminfo="MemTotal: 4000 kB\nMemAvailable:    2000 kB\n",
        self__smaps_rollup="x\nPss:    10 kB\nPss_Dirty: 5 kB\n",
    )  # fmt: skip
    proc(tmp_path / "thermal", thermal_zone0__temp="48500\n")
    sensors = Sensors(str(tmp_path), "sysfs:thermal_zone0", proc=folder, thermal=str(tmp_path / "thermal"))
    proc(tmp_path / "proc", stat=STAT.format(busy=130, idle=160))
    found = sensors.read()
    assert found.pop("disk_free_bytes") > 0
    assert found == {
        "cpu_ratio": 0.3, "load": 0.75, "memory_available_bytes": 2_048_000.0, "temperature_celsius": 48.5,
        "supervisor_pss_bytes": 10_240.0,
    }  # fmt: skip
    assert "cpu_ratio" not in sensors.read(), "no time passed"


@pytest.mark.parametrize("stat", ["", "intr 1", "cpu 1 2 x 4 5 6", "cpu 1"])
def test_what_cannot_be_read_is_absent(tmp_path: Path, stat: str) -> None:
    folder = proc(tmp_path / "proc", stat=stat, loadavg="", meminfo="MemAvailable: many kB\n")
    sensors = Sensors(str(tmp_path / "gone"), "sysfs:thermal_zone7", proc=folder, thermal=str(tmp_path))
    assert sensors.read(worker=1) == {}


@pytest.mark.parametrize(
    "source", [None, "", "vcgencmd:measure_temp", "sysfs:../../etc/passwd", "sysfs:thermal_zone0/x"]
)
def test_only_thermal_zones_are_read(source: str | None) -> None:
    assert temperature_file(source) is None


def test_helpers_say_none(tmp_path: Path) -> None:
    assert pss(1, str(tmp_path)) is None
    assert disk_free(str(tmp_path / "gone")) is None
