"""Whether the variables of a SavedModel are whole: what `variables.index` says lies where, lies there.

TensorFlow finds that out when it loads the model, long after a user was told what the model is. The index is a table of
sorted keys as LevelDB writes it (its documentation: doc/table_format.md), with a BundleEntryProto of
tensor_bundle.proto for each variable. Its checksums are checked; those of the values are left to TensorFlow, which
reads them anyway.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeship.errors import InputError
from edgeship.targets.protobuf import DamagedError, Message

_FOOTER, _TRAILER = 48, 5  # bytes at the end of the file; of each block: how it is packed, and its checksum
_MAGIC = 0xDB4775248B80FB57
_PLAIN, _PACKED = 0, (1, 2)  # kinds of blocks; TensorFlow packs none
_MASK = 0xA282EAD8  # checksums are stored rotated, with this added
_POLYNOMIAL = 0x82F63B78  # CRC-32C, bits reversed
_OBJECTS = "_CHECKPOINTABLE_OBJECT_GRAPH"  # stands among the variables, and is none
_HINT = "copy the whole folder again, or export the model again"


class _PackedError(Exception):
    """A block is compressed: nothing can be said of it here."""


@dataclass(frozen=True)
class Entry:
    """Where the values of a variable are."""

    name: str
    shard: int
    offset: int
    size: int


def check(folder: Path) -> None:
    """Look at `variables.index` in a folder, and at the sizes of the files that it names.

    Raises:
        InputError: the index is damaged or empty, or a file ends before its last variable does.
    """
    path = folder / "variables.index"
    try:
        shards, entries = _read(path.read_bytes())
    except _PackedError:
        return
    except (DamagedError, IndexError, ValueError) as error:
        raise InputError(f"its variables/{path.name} is damaged: {error}", hint=_HINT) from error
    if not any(entry.name != _OBJECTS for entry in entries):
        raise InputError(f"its variables/{path.name} names no variables, and the graph has some", hint=_HINT)
    for shard in range(shards):
        file = folder / f"variables.data-{shard:05d}-of-{shards:05d}"
        if not file.is_file():
            raise InputError(f"variables/{file.name} is missing", hint=_HINT)
        there = file.stat().st_size
        last = max((e for e in entries if e.shard == shard), key=lambda e: e.offset + e.size, default=None)
        if last is not None and last.offset + last.size > there:
            raise InputError(
                f"its variables/{file.name} ends too early: {there} bytes, and {last.name} ends at "
                f"{last.offset + last.size}",
                hint=_HINT,
            )


def _read(raw: bytes) -> tuple[int, list[Entry]]:
    """(number of data files, variables). Raises DamagedError, IndexError, ValueError."""
    if len(raw) < _FOOTER or int.from_bytes(raw[-8:], "little") != _MAGIC:
        raise ValueError("it does not end as such a file does")
    more, at = _handle(raw, len(raw) - _FOOTER)
    _block(raw, *more)  # nothing stands in it
    place, _ = _handle(raw, at)
    shards, entries = 0, []
    for _, where in _items(_block(raw, *place)):
        block, _ = _handle(where, 0)
        for key, value in _items(_block(raw, *block)):
            found = Message(memoryview(value))
            if not key:
                shards = found.integer(1)
            else:
                name = key.decode("utf-8", "replace")
                entries.append(Entry(name, found.integer(3), found.integer(4), found.integer(5)))
    if not 0 < shards <= 100_000:
        raise ValueError(f"{shards} files of values")
    return shards, entries


def _block(raw: bytes, offset: int, size: int) -> bytes:
    end = offset + size + _TRAILER
    if end > len(raw):
        raise ValueError(f"a block ends at {end} of {len(raw)} bytes")
    if (kind := raw[offset + size]) in _PACKED:
        raise _PackedError
    if kind != _PLAIN:
        raise ValueError(f"a block is of the unknown kind {kind}")
    stored = int.from_bytes(raw[end - 4 : end], "little")
    value = (stored - _MASK) & 0xFFFFFFFF
    if ((value >> 17) | (value << 15)) & 0xFFFFFFFF != _checksum(raw[offset : offset + size + 1]):
        raise ValueError("a checksum is wrong")
    return raw[offset : offset + size]


def _items(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values; a key says how many bytes it shares with the one before."""
    end = len(block) - 4 * (1 + int.from_bytes(block[-4:], "little"))
    at, key = 0, b""
    while at < end:
        shared, at = _varint(block, at)
        own, at = _varint(block, at)
        length, at = _varint(block, at)
        if at + own + length > end:
            raise ValueError("an entry is longer than its block")
        key = key[:shared] + block[at : at + own]
        yield key, block[at + own : at + own + length]
        at += own + length


def _handle(raw: bytes, at: int) -> tuple[tuple[int, int], int]:
    """((offset, size) of a block, where what follows begins)."""
    offset, at = _varint(raw, at)
    size, at = _varint(raw, at)
    return (offset, size), at


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number is longer than 64 bits")


def _divided(byte: int) -> int:
    for _ in range(8):
        byte = (byte >> 1) ^ (_POLYNOMIAL if byte & 1 else 0)
    return byte


_TABLE = tuple(map(_divided, range(256)))


def _checksum(data: bytes) -> int:
    """CRC-32C."""
    value = 0xFFFFFFFF
    for byte in data:
        value = _TABLE[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF
