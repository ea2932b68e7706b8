"""Files as they travel: xz, made once and cached by hash; raw where that does not pay or the device cannot unpack.

The preset is 6: its dictionary of 8 MiB is what a small board can spare to unpack; higher ones gain under a percent on
weights and libraries and ask the board for more memory.
"""

from __future__ import annotations

import lzma
import os
import threading
from dataclasses import dataclass
from pathlib import Path

import platformdirs

PRESET = 6
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
    """Compresses each file once, whichever thread asks first.

    Args:
        folder: for a project's own files.
        shared: for files that many projects send, the runtime libraries; None: the user's cache folder.
    """

    def __init__(self, folder: Path, shared: Path | None = None) -> None:
        self._folder = folder
        self._shared = shared or Path(platformdirs.user_cache_dir("edgeship")) / "packed"
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def pack(self, path: Path, sha256: str, *, unpacks: bool, shared: bool = False) -> Packed:
        """The file as it is sent to a device that can (`unpacks`) or cannot read xz."""
        raw = Packed(path, "raw", path.stat().st_size)
        if not unpacks or raw.encoded_bytes < SMALL:
            return raw
        with self._guard:
            lock = self._locks.setdefault(sha256, threading.Lock())
        with lock:
            packed = (self._shared if shared else self._folder) / f"{sha256}.xz"
            if not packed.is_file():
                self._compress(path, packed)
        size = packed.stat().st_size
        return Packed(packed, "xz", size) if size < raw.encoded_bytes * WORTH else raw

    def _compress(self, path: Path, packed: Path) -> None:
        """A lost cache costs seconds, so nothing is flushed; the rename keeps a half file from being taken."""
        packed.parent.mkdir(parents=True, exist_ok=True)
        temporary = packed.with_name(f".{packed.name}.{os.getpid()}.{threading.get_ident()}")
        compressor = lzma.LZMACompressor(check=lzma.CHECK_CRC32, preset=PRESET)
        try:
            with path.open("rb") as source, temporary.open("wb") as target:
                while chunk := source.read(_CHUNK):
                    target.write(compressor.compress(chunk))
                target.write(compressor.flush())
            os.replace(temporary, packed)
        finally:
            temporary.unlink(missing_ok=True)
