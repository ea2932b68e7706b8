"""Files as they travel: xz, made once and cached by hash; raw where that does not pay or the device cannot unpack.

The dictionary is that of preset 6, 8 MiB: what a small board can spare to unpack; larger ones gain under a percent on
weights and libraries. A library for x86 goes through xz's filter for its jumps. Measured, CPU seconds and MB:

    libLiteRt 8.0 MB          preset 6: 5.0 s, 2.31    with filter, BT4, nice 32: 4.3 s, 2.21
    libonnxruntime 29.4 MB    preset 6: 22.8 s, 8.25   with filter, HC4, fast: 8.8 s, 8.18
"""

from __future__ import annotations

import lzma
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from edgeship.release.durable import exclusive

PRESET = 6
LARGE = 16 << 20  # bytes; above it the fast mode
WORTH = 0.97  # of the raw size; above it the device is spared the unpacking
SMALL = 512  # bytes; below it a header is most of it
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Packed:
    """A file in the encoding that it travels in."""

    path: Path
    encoding: str  # raw | xz
    encoded_bytes: int


class Packer:
    """Compresses each file once, whichever thread or process asks first.

    Args:
        folder: for a project's own files.
        shared: for files that many projects send, the runtime libraries; None: the user's cache folder.
    """

    def __init__(self, folder: Path, shared: Path | None = None) -> None:
        self._folder = folder
        self._shared = shared or Path(platformdirs.user_cache_dir("edgeship")) / "packed"

    def pack(self, path: Path, sha256: str, *, unpacks: bool, shared: bool = False) -> Packed:
        """The file as it is sent to a device that can (`unpacks`) or cannot read xz."""
        raw = Packed(path, "raw", path.stat().st_size)
        if not unpacks or raw.encoded_bytes < SMALL:
            return raw
        folder = self._shared if shared else self._folder
        packed = folder / f"{sha256}.xz"
        with exclusive(folder / "locks" / sha256):
            if not packed.is_file():
                self._compress(path, packed, filters(path))
        size = packed.stat().st_size
        return Packed(packed, "xz", size) if size < raw.encoded_bytes * WORTH else raw

    def ready(self, sha256: str) -> bool:
        """Whether a shared file was compressed before."""
        return (self._shared / f"{sha256}.xz").is_file()

    def _compress(self, path: Path, packed: Path, chain: Sequence[Mapping[str, Any]]) -> None:
        """A lost cache costs seconds, so nothing is flushed; the rename keeps a half file from being taken."""
        packed.parent.mkdir(parents=True, exist_ok=True)
        temporary = packed.with_name(f".{packed.name}.{os.getpid()}.{threading.get_ident()}")
        compressor = lzma.LZMACompressor(check=lzma.CHECK_CRC32, filters=chain)
        try:
            with path.open("rb") as source, temporary.open("wb") as target:
                while chunk := source.read(_CHUNK):
                    target.write(compressor.compress(chunk))
                target.write(compressor.flush())
            os.replace(temporary, packed)
        finally:
            temporary.unlink(missing_ok=True)


def filters(path: Path) -> list[dict[str, Any]]:
    """Filters of xz for a file. The one for ARM64 is left out: it needs liblzma 5.4, Ubuntu 22.04 has 5.2."""
    with path.open("rb") as file:
        head = file.read(20)
    lzma2: dict[str, Any] = {"id": lzma.FILTER_LZMA2, "preset": PRESET}
    if path.stat().st_size > LARGE:
        lzma2 |= {"mode": lzma.MODE_FAST, "mf": lzma.MF_HC4, "nice_len": 64}
    else:
        lzma2 |= {"nice_len": 32, "depth": 16}
    x86 = head[:4] == b"\x7fELF" and head[18:20] == (62).to_bytes(2, "little")  # e_machine EM_X86_64 of the ELF header
    return [{"id": lzma.FILTER_X86}, lzma2] if x86 else [lzma2]
