"""The rules of journal and slots, read as a specification, and the shell that keeps them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from edgeship.runtime import slots as rules
from edgeship.runtime.disk import Disk
from edgeship.runtime.errors import AgentError, DiskError, ProtocolError, TrustError
from edgeship.runtime.layout import Layout, slot_name
from edgeship.runtime.slots import Journal, Slot, Slots, sweep

A, B, C = ("a" * 64, "b" * 64, "c" * 64)


def installed(*releases: tuple[int, str]) -> Journal:
    """The journal after these installs went well."""
    journal = Journal()
    for counter, sha256 in releases:
        journal = rules.commit(rules.begin(journal, counter, sha256, "boot"))
    return journal


def slot(counter: int, sha256: str, model: str = "1" * 64) -> Slot:
    variant = {"file": f"sha256:{model}", "golden": {"file": "sha256:" + "2" * 64}, "precision": "int8"}
    return Slot(counter, sha256, "digits", variant, "3" * 64)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout.of(str(tmp_path / "root"))
    for folder in layout.folders:
        Disk().mkdir(folder)
    return layout


# ── rules ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_good_previous_and_floor_follow_the_installs() -> None:
    journal = installed((1, A), (2, B), (5, C))
    assert (journal.good, journal.previous) == (slot_name(5, C), slot_name(2, B))
    assert (journal.floor, journal.floor_sha256, journal.pending) == (5, C, "")
    assert journal.keep == {slot_name(5, C), slot_name(2, B)}


def test_an_older_or_reused_counter_is_replayed() -> None:
    journal = installed((1, A), (5, B))
    for counter, sha256 in [(4, C), (1, A), (5, C)]:
        with pytest.raises(TrustError) as refused:
            rules.admit(journal, counter, sha256, "boot")
        assert refused.value.code == "replayed"


def test_the_same_release_again_is_nothing_to_do() -> None:
    assert rules.admit(installed((5, B)), 5, B, "boot") is False
    assert rules.admit(installed((5, B)), 6, C, "boot") is True


def test_a_failing_release_is_tried_three_times_a_boot() -> None:
    journal = installed((1, A))
    for _ in range(rules.MAX_TRIES):
        assert rules.admit(journal, 2, B, "boot")
        journal = rules.revert(rules.begin(journal, 2, B, "boot"), "it is bad")
    with pytest.raises(AgentError, match="failed 3 times since this boot: it is bad") as refused:
        rules.admit(journal, 2, B, "boot")
    assert refused.value.code == "rolled-back"
    assert rules.admit(journal, 2, B, "the next boot")
    assert rules.admit(journal, 3, C, "boot")
    assert rules.begin(journal, 2, B, "the next boot").tries == 1


def test_a_revert_never_touches_the_good_slot() -> None:
    before = installed((1, A))
    after = rules.revert(rules.begin(before, 2, B, "boot"), "no")
    assert (after.good, after.floor, after.pending, after.outcome) == (before.good, before.floor, "", "no")


def test_falling_back_keeps_the_floor() -> None:
    journal = rules.fall_back(installed((1, A), (2, B)), "it crashes")
    assert (journal.good, journal.previous, journal.floor) == (slot_name(1, A), "", 2)
    assert rules.admit(journal, 2, B, "boot") is True  # the same release may be tried again
    again = rules.commit(rules.begin(journal, 2, B, "boot"))
    assert (again.good, again.previous) == (slot_name(2, B), slot_name(1, A))


def test_installing_the_good_slot_anew_keeps_previous() -> None:
    journal = installed((1, A), (2, B))
    again = rules.commit(rules.begin(journal, 2, B, "boot"))
    assert (again.good, again.previous) == (journal.good, journal.previous)


def test_a_start_that_finds_pending_gives_it_up() -> None:
    clean = installed((1, A))
    assert rules.recover(clean) == clean
    recovered = rules.recover(rules.begin(clean, 2, B, "boot"))
    assert (recovered.good, recovered.pending) == (clean.good, "")
    assert "power" in recovered.outcome


def test_journal_and_slot_survive_encoding_and_refuse_nonsense() -> None:
    journal = rules.begin(installed((1, A)), 2, B, "boot")
    assert Journal.parse(journal.encode()) == journal
    assert Slot.parse(slot(1, A).encode()) == slot(1, A)
    for bad in ({}, {"schema": "x"}, {**journal.encode(), "floor": "1"}, {**journal.encode(), "good": 7}):
        with pytest.raises(ProtocolError):
            Journal.parse(bad)
    for bad in ({}, {**slot(1, A).encode(), "sha256": "../x"}, {**slot(1, A).encode(), "variant": []}):
        with pytest.raises(ProtocolError):
            Slot.parse(bad)


# ── the shell ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_saved_is_found_again(layout: Layout) -> None:
    slots = Slots(layout, Disk())
    assert slots.journal == Journal()
    assert slots.good is None
    slots.prepare(slot(1, A), b"{}")
    slots.save(installed((1, A)))
    slots.point(slots.journal.good)
    found = Slots(layout, Disk())
    assert found.journal == slots.journal
    assert found.good == slot(1, A)
    assert os.readlink(layout.current) == f"slots/{slot(1, A).name}"


def test_a_start_repairs_link_and_journal(layout: Layout) -> None:
    slots = Slots(layout, Disk())
    for release in (slot(1, A), slot(2, B)):
        slots.prepare(release, b"{}")
    slots.save(rules.begin(installed((1, A)), 2, B, "boot"))
    slots.point(slot(2, B).name)  # as far as an install came
    found = Slots(layout, Disk())
    assert found.start() is True
    assert os.readlink(layout.current) == f"slots/{slot(1, A).name}"
    again = Slots(layout, Disk())
    assert again.start() is False
    assert again.good == slot(1, A)


def test_a_lost_journal_is_made_from_the_link(layout: Layout) -> None:
    slots = Slots(layout, Disk())
    slots.prepare(slot(3, A), b"{}")
    slots.point(slot(3, A).name)
    for damage in (b"", b"{", b"\xff", b'{"schema":"edgeship.journal/v1"}'):
        Path(layout.journal).write_bytes(damage)
        found = Slots(layout, Disk()).journal
        assert (found.good, found.floor, found.floor_sha256) == (slot(3, A).name, 3, A)
    Path(layout.slot(slot(3, A).name, "slot.json")).write_bytes(b"{")
    assert Slots(layout, Disk()).journal == Journal()


def test_a_damaged_slot_gives_way_to_the_one_before(layout: Layout) -> None:
    slots = Slots(layout, Disk())
    for release in (slot(1, A), slot(2, B)):
        slots.prepare(release, b"{}")
    slots.save(installed((1, A), (2, B)))
    Path(layout.slot(slot(2, B).name, "slot.json")).unlink()
    slots.start()
    assert slots.good == slot(1, A)
    assert slots.journal.floor == 2


def test_a_start_without_any_slot_points_to_nothing(layout: Layout) -> None:
    Path(layout.current).symlink_to("slots/gone")
    slots = Slots(layout, Disk())
    slots.start()
    assert not os.path.lexists(layout.current)


def test_a_start_on_a_failing_disk_still_knows_what_to_serve(layout: Layout) -> None:
    class ReadOnly(Disk):
        def step(self, action: str, path: str) -> None:
            raise OSError(30, "Read-only file system")

    slots = Slots(layout, Disk())
    slots.prepare(slot(1, A), b"{}")
    slots.save(rules.begin(installed((1, A)), 2, B, "boot"))
    found = Slots(layout, ReadOnly())
    assert found.start() is True
    assert found.good == slot(1, A)
    with pytest.raises(DiskError):
        found.save(found.journal)


def test_a_sweep_keeps_what_is_needed_and_nothing_else(layout: Layout) -> None:
    disk = Disk()
    slots = Slots(layout, disk)
    old, current, gone = slot(1, A, "4" * 64), slot(2, B, "5" * 64), slot(3, C, "6" * 64)
    for release in (old, current, gone):
        slots.prepare(release, b"{}")
    slots.save(installed((1, A), (2, B)))
    everything = old.blobs | current.blobs | gone.blobs | {"7" * 64, ".new-x"}
    for name in everything:
        Path(layout.blob(name)).write_bytes(b"")
    for name in ("old.pyz", "new.pyz"):
        Path(layout.path("agent", name)).write_bytes(b"")
    Path(layout.agent_current).symlink_to("new.pyz")
    Path(layout.partial("8" * 64, "xz")).write_bytes(b"")
    Path(layout.path("incoming", "timestamp.json")).write_bytes(b"")

    sweep(layout, disk, slots.journal, staging=False)
    assert sorted(os.listdir(layout.path("slots"))) == sorted([old.name, current.name])
    assert len(os.listdir(layout.path("blobs"))) == len(everything)
    assert os.listdir(layout.path("incoming"))

    sweep(layout, disk, slots.journal)
    assert set(os.listdir(layout.path("blobs"))) == old.blobs | current.blobs
    assert sorted(os.listdir(layout.path("agent"))) == ["current", "new.pyz"]
    assert not os.listdir(layout.path("incoming"))
    assert not os.listdir(layout.path("partial"))


def test_a_slot_knows_its_files() -> None:
    assert slot(1, A).blobs == {A, "1" * 64, "2" * 64, "3" * 64}
    assert replace(slot(1, A), counter=7).name == "7-" + A[:12]
