"""The rules of slots and their journal, and a thin shell that keeps them on the disk.

The journal says which slot is good (served), which was good before it, which is pending, and the highest counter that
was ever good. The functions are pure: a journal and an event give the next journal or a refusal. States of a slot:

    begin ──> pending ── commit ──> good ── a newer commit ──> previous ── a newer commit ──> forgotten
                 └────── revert ──> reverted (forgotten)          └── fall_back (the good one keeps crashing) ──> good

Rules kept here: the counter never goes back; a counter is never used for another content; at most `MAX_TRIES` tries of
one release in one boot; whoever starts and finds "pending" serves the good slot.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgeship.runtime import disk as disks
from edgeship.runtime.errors import AgentError, ProtocolError, TrustError
from edgeship.runtime.layout import Layout, slot_name
from edgeship.runtime.wire import check_name, check_sha256, need, parse_object

JOURNAL_SCHEMA = "edgeship.journal/v1"
SLOT_SCHEMA = "edgeship.slot/v1"
MAX_TRIES = 3


@dataclass(frozen=True)
class Slot:
    """One installed release: all that is needed to start its worker."""

    counter: int
    sha256: str  # of the manifest
    model: str
    variant: Mapping[str, Any]  # VariantRef.encode()
    library: str  # sha256 of the runtime library

    @property
    def name(self) -> str:
        """Its directory."""
        return slot_name(self.counter, self.sha256)

    @property
    def blobs(self) -> frozenset[str]:
        """sha256 of every file it needs, its manifest too."""
        digests = (self.variant["file"], self.variant["golden"]["file"])
        return frozenset({self.sha256, self.library, *(d.removeprefix("sha256:") for d in digests)})

    def encode(self) -> dict[str, Any]:
        """To what `json.dumps` takes."""
        return {
            "schema": SLOT_SCHEMA, "counter": self.counter, "sha256": self.sha256, "model": self.model,
            "variant": dict(self.variant), "library": self.library,
        }  # fmt: skip

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Slot:
        """From decoded JSON. Raises ProtocolError."""
        if data.get("schema") != SLOT_SCHEMA:
            raise ProtocolError(f"not a slot of schema {SLOT_SCHEMA}: {data.get('schema')!r:.80}")
        return cls(
            need(data, "counter", int), check_sha256(data.get("sha256")), check_name(data.get("model"), "model"),
            need(data, "variant", dict), check_sha256(data.get("library"), "library"),
        )  # fmt: skip


@dataclass(frozen=True)
class Journal:
    """What the device knows of its slots. Slots are told by name; "" is none."""

    good: str = ""
    previous: str = ""
    pending: str = ""
    pending_counter: int = 0
    pending_sha256: str = ""
    floor: int = 0  # highest counter that was good
    floor_sha256: str = ""  # and its manifest
    tried_sha256: str = ""  # the release that was tried last and did not become good
    tries: int = 0
    boot: str = ""  # in which boot that was
    outcome: str = ""  # what became of the last install, for people

    def encode(self) -> dict[str, Any]:
        """To what `json.dumps` takes."""
        return {"schema": JOURNAL_SCHEMA, **self.__dict__}

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Journal:
        """From decoded JSON. Raises ProtocolError."""
        if data.get("schema") != JOURNAL_SCHEMA:
            raise ProtocolError(f"not a journal of schema {JOURNAL_SCHEMA}: {data.get('schema')!r:.80}")
        numbers = {"pending_counter", "floor", "tries"}
        names = cls.__dataclass_fields__
        return cls(**{key: need(data, key, int if key in numbers else str) for key in names})

    @property
    def keep(self) -> frozenset[str]:
        """Names of the slots that must stay."""
        return frozenset({self.good, self.previous, self.pending} - {""})


def admit(journal: Journal, counter: int, sha256: str, boot: str) -> bool:
    """Whether a verified release must be installed: False when it is the good one already.

    Raises:
        TrustError: "replayed": its counter is below the floor, or was used for another content.
        AgentError: "rolled-back": it was tried `MAX_TRIES` times in this boot and never became good.
    """
    if counter < journal.floor:
        raise TrustError(f"release {counter} is older than release {journal.floor}, which was good here", "replayed")
    if counter == journal.floor and sha256 != journal.floor_sha256:
        raise TrustError(f"release counter {counter} was used before, for another content", "replayed")
    if journal.good == slot_name(counter, sha256):
        return False
    if journal.tried_sha256 == sha256 and journal.boot == boot and journal.tries >= MAX_TRIES:
        raise AgentError(
            f"release {counter} failed {journal.tries} times since this boot: {journal.outcome}", "rolled-back"
        )
    return True


def begin(journal: Journal, counter: int, sha256: str, boot: str) -> Journal:
    """A try of a release starts."""
    again = journal.tried_sha256 == sha256 and journal.boot == boot
    return replace(
        journal, pending=slot_name(counter, sha256), pending_counter=counter, pending_sha256=sha256,
        tried_sha256=sha256, tries=journal.tries + 1 if again else 1, boot=boot,
    )  # fmt: skip


def commit(journal: Journal) -> Journal:
    """The pending slot passed its probe and serves: it is good, and the floor rises."""
    previous = journal.previous if journal.pending == journal.good else journal.good
    return replace(
        journal, good=journal.pending, previous="" if previous == journal.pending else previous,
        floor=journal.pending_counter, floor_sha256=journal.pending_sha256,
        pending="", pending_counter=0, pending_sha256="", tried_sha256="", tries=0, outcome="",
    )  # fmt: skip


def revert(journal: Journal, reason: str) -> Journal:
    """The pending slot is given up; the good one was never touched."""
    return replace(journal, pending="", pending_counter=0, pending_sha256="", outcome=reason[:500])


def fall_back(journal: Journal, reason: str) -> Journal:
    """The good slot does not stay up: the one that was good before it serves again. The floor stays."""
    return replace(journal, good=journal.previous, previous="", outcome=reason[:500])


def recover(journal: Journal) -> Journal:
    """What a start makes of the journal it finds."""
    if not journal.pending:
        return journal
    return revert(journal, f"power or the agent was lost while {journal.pending} was tried")


# ── the shell ────────────────────────────────────────────────────────────────────────────────────────────────────────


def load_slot(layout: Layout, name: str) -> Slot | None:
    """A slot by name, None where it is absent or damaged."""
    try:
        raw = disks.read(layout.slot(name, "slot.json")) if name else None
        return None if raw is None else Slot.parse(parse_object(raw))
    except AgentError:
        return None


class Slots:
    """Slots and journal on the disk. One process at a time writes: the supervisor."""

    def __init__(self, layout: Layout, disk: disks.Disk) -> None:
        self._layout, self._disk = layout, disk
        self.journal = self._load()

    def _load(self) -> Journal:
        """The journal; where it is unreadable, what the `current` link says is taken as good."""
        try:
            raw = disks.read(self._layout.journal)
            if raw is not None:
                return Journal.parse(parse_object(raw))
        except AgentError:
            pass
        name = os.path.basename(os.path.realpath(self._layout.current))
        slot = self.slot(name) if os.path.islink(self._layout.current) else None
        if slot is None:
            return Journal()
        return Journal(good=slot.name, floor=slot.counter, floor_sha256=slot.sha256, outcome="the journal was lost")

    def slot(self, name: str) -> Slot | None:
        """A slot by name, None where it is absent or damaged."""
        return load_slot(self._layout, name)

    @property
    def good(self) -> Slot | None:
        """The slot to serve."""
        return self.slot(self.journal.good)

    def save(self, journal: Journal) -> None:
        """Make a journal durable; only then is it ours."""
        self._disk.write(self._layout.journal, json.dumps(journal.encode()).encode())
        self.journal = journal

    def prepare(self, slot: Slot, manifest: bytes) -> None:
        """Write a slot's directory; it means nothing before the journal names it."""
        self._disk.mkdir(self._layout.slot(slot.name))
        self._disk.write(self._layout.slot(slot.name, "manifest.json"), manifest)
        self._disk.write(self._layout.slot(slot.name, "slot.json"), json.dumps(slot.encode()).encode())

    def point(self, name: str) -> None:
        """Make `current` point to a slot, or to none."""
        target = os.path.join("slots", name)
        if not name:
            self._disk.remove(self._layout.current)
        elif not os.path.islink(self._layout.current) or os.readlink(self._layout.current) != target:
            self._disk.link(target, self._layout.current)

    def start(self) -> bool:
        """What a start does first: give up what was pending, repair the link. True when something was pending.

        A disk that refuses the writes does not keep the good slot from being served: the same is tried at the next
        start.
        """
        found = self.journal
        settled = recover(found)
        if self.slot(settled.good) is None and self.slot(settled.previous) is not None:
            settled = fall_back(settled, f"slot {settled.good} was damaged")
        try:
            self.point(settled.good)
            if settled != found:
                self.save(settled)
        except AgentError:
            self.journal = settled
        return bool(found.pending)


def sweep(layout: Layout, disk: disks.Disk, journal: Journal, *, staging: bool = True) -> None:
    """Remove slots and files that nothing needs: all but current, previous and pending.

    The caller holds the staging lock. `staging` false keeps what a host has sent and not asked to install yet.
    """
    needed: set[str] = set()
    for name in journal.keep:
        slot = load_slot(layout, name)
        needed |= slot.blobs if slot is not None else set()
    kept: dict[str, Collection[str]] = {"slots": journal.keep}
    if staging:
        kept |= {"blobs": needed, "partial": (), "incoming": ()}
    running = {os.path.basename(os.path.realpath(layout.agent_current)), "current"}
    for folder, names in {**kept, "agent": running}.items():
        for name in sorted(os.listdir(layout.path(folder))):
            if name not in names:
                disk.remove(layout.path(folder, name))
