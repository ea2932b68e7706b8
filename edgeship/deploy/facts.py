"""What a device says of itself. It may lie: every field is bounded, and nothing but the fit check depends on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeship.deploy.transport import clean
from edgeship.runtime.errors import ProtocolError
from edgeship.runtime.wire import need


@dataclass(frozen=True)
class Facts:
    """Facts of one device, as its agent reads them."""

    arch: str
    python: str
    libc: tuple[str, str]  # ("glibc", "2.36")
    ctypes: bool
    lzma: bool
    libstdcxx: bool
    disk_free_bytes: int
    disk_total_bytes: int = 0
    inodes_free: int | None = None  # None where the file system has no such limit
    cores: int = 0
    memory_bytes: int = 0
    kernel: str = ""
    os: str = ""
    init: str = ""
    board: str = ""
    hostname: str = ""
    boot_id: str = ""

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Facts:
        """From an agent's answer. Raises ProtocolError."""
        libc = need(data, "libc", list)
        if len(libc) != 2 or not all(isinstance(part, str) for part in libc):
            raise ProtocolError(f"'libc' must be a name and a version, got {libc!r:.80}")
        return cls(
            arch=_text(data, "arch"), python=_text(data, "python"), libc=(clean(libc[0])[:32], clean(libc[1])[:32]),
            ctypes=need(data, "ctypes", bool), lzma=need(data, "lzma", bool), libstdcxx=need(data, "libstdcxx", bool),
            disk_free_bytes=_size(data, "disk_free_bytes"), disk_total_bytes=_size(data, "disk_total_bytes"),
            inodes_free=None if data.get("inodes_free") is None else _size(data, "inodes_free"),
            cores=_size(data, "cores"), memory_bytes=_size(data, "memory_bytes"),
            **{key: clean(str(data.get(key) or ""))[:200]
               for key in ("kernel", "os", "init", "board", "hostname", "boot_id")},
        )  # fmt: skip


def _text(data: Mapping[str, Any], key: str) -> str:
    return clean(need(data, key, str))[:200]


def _size(data: Mapping[str, Any], key: str) -> int:
    value = data.get(key) or 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise ProtocolError(f"{key!r} must be a size, got {value!r:.40}")
    return value
