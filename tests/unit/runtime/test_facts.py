"""Facts of a device: what is true here, and the cases that boards bring."""

from __future__ import annotations

import builtins
import os
import platform
from pathlib import Path
from typing import Any

import pytest

from edgeship.runtime import facts


def test_this_machine(tmp_path: Path) -> None:
    found = facts.gather(str(tmp_path))
    assert found["arch"] == found["machine"] == platform.machine()
    assert found["libc"][0] == "glibc"
    assert found["ctypes"] is True
    assert found["cores"] >= 1
    assert 0 < found["disk_free_bytes"] <= found["disk_total_bytes"]
    assert found["memory_bytes"] > 1 << 20
    assert len(found["boot_id"]) == 36


def test_a_virtual_device_is_what_it_is_said_to_be(tmp_path: Path) -> None:
    found = facts.gather(str(tmp_path), arch="aarch64")
    assert (found["arch"], found["machine"]) == ("aarch64", platform.machine())


@pytest.mark.parametrize(
    ("machine", "pointer", "arch"),
    [
        ("aarch64", 8, "aarch64"),
        ("arm64", 8, "aarch64"),
        ("aarch64", 4, "armv7l"),  # 32-bit Raspberry Pi OS on a 64-bit kernel
        ("armv7l", 4, "armv7l"),
        ("AMD64", 8, "x86_64"),
        ("x86_64", 4, "i686"),
        ("riscv64", 8, "riscv64"),
    ],
)
def test_arch_is_that_of_python_not_of_the_kernel(machine: str, pointer: int, arch: str) -> None:
    assert facts.arch_of(machine, pointer) == arch


def test_what_is_hidden_has_a_fallback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "_read", lambda _path: "")
    monkeypatch.setattr(os, "confstr", lambda _name: None)
    monkeypatch.setattr(os.path, "isdir", lambda path: path == "/data/data/com.termux")
    found = facts.gather(str(tmp_path))
    assert found["boot_id"].startswith(f"process-{os.getpid()}-")
    assert found["init"] == "termux"
    assert found["board"] == ""
    assert found["os"] == "linux"
    monkeypatch.setattr(os.path, "isdir", lambda path: path == "/run/systemd/system")
    assert facts.gather(str(tmp_path))["init"] == "systemd"


def test_missing_parts_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name in ("ctypes", "lzma"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    found = facts.gather(str(tmp_path))
    assert (found["ctypes"], found["lzma"], found["libstdcxx"]) == (False, False, False)


def test_memory_of_a_container_is_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "_read", lambda path: "123456789\n" if path.endswith("memory.max") else "max\n")
    assert facts.gather(str(tmp_path))["memory_bytes"] == 123456789
