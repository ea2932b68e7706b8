"""What goes to one device: pure, as data. `perform` carries it out; `--dry-run` prints it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgeship.deploy.facts import Facts
from edgeship.deploy.fit import Room, margin
from edgeship.deploy.packing import Packed
from edgeship.runtime.errors import ProtocolError
from edgeship.runtime.manifest import FileRef, RuntimeRef, VariantRef
from edgeship.runtime.wire import check_sha256, need

#: What the bytes of a push are for, in the order they are told.
KINDS = ("agent", "runtime library", "model", "golden", "metadata")


@dataclass(frozen=True)
class Wanted:
    """One file that the release needs on the device."""

    kind: str
    ref: FileRef


@dataclass(frozen=True)
class Have:
    """What is on the device already."""

    present: frozenset[str]
    partial: Mapping[str, tuple[str, int]]  # sha256 -> (encoding, bytes received)
    disk_free_bytes: int

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Have:
        """From an agent's answer. Raises ProtocolError."""
        present = need(data, "present", list)
        partial = {}
        for sha, entry in need(data, "partial", dict).items():
            if not isinstance(entry, dict):
                raise ProtocolError("'partial' must hold objects")
            partial[check_sha256(sha)] = (need(entry, "encoding", str), need(entry, "bytes", int))
        free = need(data, "disk_free_bytes", int)
        return cls(frozenset(check_sha256(sha) for sha in present), partial, max(0, free))


@dataclass(frozen=True)
class Send:
    """One file on its way: from `offset` of its encoded form on."""

    kind: str
    ref: FileRef
    packed: Packed
    offset: int = 0

    @property
    def left(self) -> int:
        """Bytes still to send."""
        return self.packed.encoded_bytes - self.offset


@dataclass(frozen=True)
class Plan:
    """Everything one device is sent for a release."""

    metadata: tuple[tuple[str, bytes], ...]
    files: tuple[Send, ...]
    room: Room

    @property
    def metadata_bytes(self) -> int:
        """Of signed metadata."""
        return sum(len(raw) for _, raw in self.metadata)

    @property
    def left(self) -> int:
        """Bytes to send."""
        return self.metadata_bytes + sum(send.left for send in self.files)


def wanted(manifest: FileRef, variant: VariantRef, library: RuntimeRef | None) -> tuple[Wanted, ...]:
    """The files that a variant needs on a device, small ones first."""
    out = [Wanted("metadata", manifest), Wanted("golden", variant.golden.file), Wanted("model", variant.file)]
    return (*out, Wanted("runtime library", library.file)) if library else tuple(out)


def missing(files: Sequence[Wanted], have: Have) -> tuple[Wanted, ...]:
    """Those that are not there; a file that serves twice is sent once."""
    seen: set[str] = set(have.present)
    out = []
    for file in files:
        if file.ref.sha256 not in seen:
            seen.add(file.ref.sha256)
            out.append(file)
    return tuple(out)


def plan(
    facts: Facts, have: Have, files: Sequence[Wanted], packed: Mapping[str, Packed],
    metadata: Sequence[tuple[str, bytes]],
) -> Plan:  # fmt: skip
    """Decide what is sent, and what room it takes.

    Args:
        facts: the device's.
        have: what it has.
        files: what the release needs there.
        packed: each missing file in the encoding it would travel in, by sha256.
        metadata: names and bytes of the signed metadata.
    """
    sends = []
    for file in missing(files, have):
        send = Send(file.kind, file.ref, packed[file.ref.sha256])
        encoding, received = have.partial.get(file.ref.sha256, ("", 0))
        if encoding == send.packed.encoding and 0 < received <= send.packed.encoded_bytes:
            send = replace(send, offset=received)
        sends.append(send)
    room = Room(
        files=sum(s.ref.bytes for s in sends),
        largest_encoded=max((s.left for s in sends if s.packed.encoding != "raw"), default=0),
        margin=margin(facts),
    )
    return Plan(tuple(metadata), tuple(sends), room)
