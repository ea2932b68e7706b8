"""Taking a file from the host: what a `put` may announce, and how what arrived becomes a file of ours.

What was received lies in `partial/` as it was encoded. It gets its name only when it is, decoded, exactly what was
announced; decoding never writes more than that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from edgeship.runtime import disk as disks
from edgeship.runtime import trust
from edgeship.runtime.disk import Disk
from edgeship.runtime.errors import AgentError, ProtocolError
from edgeship.runtime.wire import MAX_BLOB, MAX_METADATA, check_sha256, need

MAX_AGENT = 16 << 20

Json = Mapping[str, Any]


class Put:
    """A `put` request, checked before any byte of its data is read. Raises ProtocolError."""

    def __init__(self, request: Json) -> None:
        self.kind = need(request, "kind", str)
        limits = {"blob": MAX_BLOB, "metadata": MAX_METADATA, "agent": MAX_AGENT}
        if self.kind not in limits:
            raise ProtocolError(f"cannot take files of kind {self.kind!r:.80}")
        self.name = trust.check_metadata_name(request.get("name")) if self.kind == "metadata" else ""
        self.sha256 = check_sha256(request.get("sha256"))
        self.encoding = need(request, "encoding", str)
        self.bytes = need(request, "bytes", int)
        self.offset = need(request, "offset", int)
        self.encoded_bytes = need(request, "encoded_bytes", int)
        if self.encoding not in ("raw", "xz"):
            raise ProtocolError(f"unknown encoding {self.encoding!r:.80}")
        most = limits[self.kind]
        encoded_most = self.bytes if self.encoding == "raw" else self.bytes + self.bytes // 8 + 4096
        if not 0 <= self.bytes <= most or not 0 <= self.offset <= self.encoded_bytes <= encoded_most:
            raise ProtocolError(f"a file of {self.bytes} bytes ({self.encoded_bytes} encoded) is out of range")

    def check(self, found: tuple[str, int] | None) -> None:
        """Whether (sha256, bytes) is what was announced. Raises AgentError ("untrusted")."""
        if found != (self.sha256, self.bytes):
            raise AgentError(f"what arrived is not {self.sha256[:12]}: it was changed on the way", "untrusted")


def unpacked(path: str, most: int) -> Iterator[bytes]:
    """The content of an xz file, at most `most` bytes of it and one. Raises AgentError."""
    try:
        import lzma
    except ImportError as error:
        raise AgentError("this device cannot decompress xz", "unfit") from error
    decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=128 << 20)
    left = most + 1
    try:
        for packed in disks.chunks(path):
            data = packed
            while left > 0 and not decoder.eof:
                out = decoder.decompress(data, min(left, disks.CHUNK))
                data = b""
                left -= len(out)
                if out:
                    yield out
                if decoder.needs_input:
                    break
    except lzma.LZMAError as error:
        raise AgentError(f"what arrived is not xz: {error}", "untrusted") from error


def accept(disk: Disk, put: Put, received: str, path: str, *, mode: int = 0o600) -> None:
    """Move a received file to its name, if it is what it was announced to be."""
    try:
        if put.encoding == "raw":
            put.check(disks.hash_file(received))
            disk.adopt(received, path, mode=mode)
            return
        with disk.staged(path, mode=mode) as write:
            digest, size = hashlib.sha256(), 0
            for data in unpacked(received, put.bytes):
                digest.update(data)
                size += len(data)
                write(data)
            put.check((digest.hexdigest(), size))
    except AgentError as error:
        if error.code in ("untrusted", "disk-full"):
            disk.remove(received)
        raise
    disk.remove(received)
