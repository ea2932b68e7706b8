"""Windows are counted right, written durably, numbered without gaps, and never lost in silence."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgeship.runtime.disk import Disk
from edgeship.runtime.errors import DiskError
from edgeship.runtime.telemetry import MAX_CLASSES, MAX_EVENTS, MAX_UNWRITTEN, Spool, Telemetry
from edgeship.runtime.window import Window, bucket_of
from edgeship.runtime.wire import MAX_WINDOW


@dataclass
class Answer:
    status: int
    seconds: float = 0.002
    compute_us: float | None = 500.0


class SwitchableDisk(Disk):
    def __init__(self) -> None:
        self.failing = False

    def step(self, action: str, path: str) -> None:
        if self.failing:
            raise OSError(28, "No space left on device")


def body(seq: int, size: int = 10) -> bytes:
    return json.dumps({"seq": seq, "fill": "x" * size}).encode()


def fill(spool: Spool, count: int, size: int = 10) -> int:
    return sum(spool.append(body(spool.next, size)) for _ in range(count))


def sequence(spool: Spool, after: int = 0) -> list[int]:
    return [window["seq"] for window in spool.read(after, 100_000)[0]]


# ── spool ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_spool_is_numbered_from_one_and_found_again(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path), Disk())
    assert (spool.first, spool.next) == (1, 1)
    fill(spool, 5)
    again = Spool(str(tmp_path), Disk())
    assert (again.id, again.next) == (spool.id, 6)
    assert sequence(again) == [1, 2, 3, 4, 5]
    assert sequence(again, 3) == [4, 5]


def test_reading_is_bounded_and_says_when_there_is_more(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path), Disk())
    fill(spool, 20, 60_000)
    windows, more = spool.read(0, 3)
    assert (len(windows), more) == (3, True)
    windows, more = spool.read(0, 1000)
    assert more
    assert 0 < len(windows) < 20
    assert spool.read(18, 1000)[1] is False


@pytest.mark.parametrize("torn", [b"", b"8f", b"00000000 6 {}\n", b'deadbeef 6 {"seq":6}', b"\xff\xfe\n"])
def test_a_torn_tail_is_cut_off(tmp_path: Path, torn: bytes) -> None:
    spool = Spool(str(tmp_path), Disk())
    fill(spool, 5)
    segment = next(tmp_path.glob("*.seg"))
    whole = segment.read_bytes()
    segment.write_bytes(whole + torn)
    again = Spool(str(tmp_path), Disk())
    assert again.next == 6
    assert segment.read_bytes() == whole
    fill(again, 1)
    assert sequence(again) == [1, 2, 3, 4, 5, 6]


def test_every_cut_of_the_file_leaves_a_prefix(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path), Disk())
    fill(spool, 3)
    segment = next(tmp_path.glob("*.seg"))
    whole = segment.read_bytes()
    for length in range(len(whole)):
        segment.write_bytes(whole[:length])
        again = Spool(str(tmp_path), Disk())
        assert sequence(again) == list(range(1, again.next))


def test_a_damaged_record_in_the_middle_is_a_gap(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path), Disk())
    fill(spool, 5)
    segment = next(tmp_path.glob("*.seg"))
    lines = segment.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"x", b"y", 1)
    segment.write_bytes(b"".join(lines))
    again = Spool(str(tmp_path), Disk())
    assert sequence(again) == [1, 2, 4, 5]
    assert again.next == 6


def test_acknowledged_windows_are_forgotten_and_the_count_stays(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path), Disk(), segment=200)
    fill(spool, 20)
    spool.ack(15)
    spool.ack(3)  # an old one arrives late
    assert spool.first == 16
    assert sequence(spool)[0] <= 16
    spool.ack(10_000)
    assert (spool.first, spool.next) == (21, 21)
    assert len(list(tmp_path.glob("*.seg"))) == 1
    again = Spool(str(tmp_path), Disk(), segment=200)
    assert (again.acked, again.first, again.next) == (20, 21, 21)


def test_a_full_spool_drops_its_oldest_and_counts_them(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path), Disk(), limit=1000, segment=200)
    lost = fill(spool, 100)
    assert sum(path.stat().st_size for path in tmp_path.glob("*.seg")) <= 1200
    kept = sequence(spool)
    assert kept == list(range(kept[0], 101))
    assert lost == kept[0] - 1 == spool.first - 1


def test_what_was_acknowledged_is_not_lost_when_it_goes(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path), Disk(), limit=1000, segment=200)
    for _ in range(100):
        assert fill(spool, 1) == 0
        spool.ack(spool.next - 1)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"id": "x"}'])
def test_a_spool_without_its_id_begins_anew_under_another(tmp_path: Path, damage: bytes) -> None:
    spool = Spool(str(tmp_path), Disk())
    fill(spool, 3)
    (tmp_path / "state.json").write_bytes(damage)
    (tmp_path / "stranger.seg").write_bytes(b"")
    again = Spool(str(tmp_path), Disk())
    assert again.id != spool.id
    assert again.next == 1


# ── the open window ──────────────────────────────────────────────────────────────────────────────────────────────────


def telemetry(tmp_path: Path, disk: Disk | None = None, seconds: float = 60.0) -> Telemetry:
    return Telemetry(Spool(str(tmp_path), disk or Disk()), "boot-1", seconds)


def windows(found: Telemetry) -> list[Window]:
    return [Window.parse(window) for window in found.spool.read(0, 1000)[0]]


def test_inferences_are_counted_health_checks_are_not(tmp_path: Path) -> None:
    found = telemetry(tmp_path)
    found.count(Answer(200), "cat", 0.99)
    found.count(Answer(200), "cat", 1.0)
    found.count(Answer(200), "dog", 0.0)
    found.count(Answer(200, compute_us=None), None, None)
    found.count(Answer(404), None, None)
    found.count(Answer(503), None, None)
    found.close({"load": 0.5})
    (window,) = windows(found)
    assert (window.ok, window.refused, window.failed) == (3, 1, 1)
    assert window.latency == {bucket_of(2000): 3}
    assert window.compute == {bucket_of(500): 3}
    assert window.classes == {"cat": 2, "dog": 1}
    assert (window.confidence[0], window.confidence[19], sum(window.confidence)) == (1, 2, 3)
    assert window.sensors == {"load": 0.5}
    assert window.mono_end >= window.mono_start


def test_a_window_tells_of_one_release(tmp_path: Path) -> None:
    found = telemetry(tmp_path)
    found.serve("digits", 1, "int8", {})
    found.count(Answer(200), None, None)
    found.serve("digits", 1, "int8", {})
    found.serve("digits", 2, "int8", {})
    found.count(Answer(200), None, None)
    found.close({})
    assert [(w.counter, w.ok) for w in windows(found)] == [(None, 0), (1, 1), (2, 1)]


def test_numbers_of_classes_and_events_are_bounded(tmp_path: Path) -> None:
    found = telemetry(tmp_path)
    for index in range(MAX_CLASSES + 500):
        found.count(Answer(200), f"class-{index}-{'x' * 100}", 0.5)
    for _ in range(2):
        found.count(Answer(200), "class-0-" + "x" * 56, 0.5)
    for index in range(MAX_EVENTS + 10):
        found.event("note", f"event {index} " + "y" * 1000)
    found.close({})
    (window,) = windows(found)
    assert sum(window.classes.values()) == window.ok == MAX_CLASSES + 502
    assert len(json.dumps(window.encode())) <= MAX_WINDOW * 1.1


def test_a_full_disk_keeps_windows_for_later(tmp_path: Path) -> None:
    disk = SwitchableDisk()
    found = telemetry(tmp_path, disk)
    disk.failing = True
    for _ in range(3):
        found.count(Answer(200), None, None)
        found.close({})
    assert windows(found) == []
    disk.failing = False
    found.close({})
    written = windows(found)
    assert [w.seq for w in written] == [1, 2, 3, 4]
    assert sum(w.ok for w in written) == 3
    assert "disk" in {event["kind"] for w in written for event in w.events}


def test_too_many_unwritten_windows_become_a_gap_that_is_told(tmp_path: Path) -> None:
    disk = SwitchableDisk()
    found = telemetry(tmp_path, disk)
    disk.failing = True
    for _ in range(MAX_UNWRITTEN + 5):
        found.close({})
    disk.failing = False
    found.close({})
    found.close({})
    kinds = [event["kind"] for w in windows(found) for event in w.events]
    assert "gap" in kinds
    assert len(windows(found)) == MAX_UNWRITTEN + 1


def test_remaining_counts_down(tmp_path: Path) -> None:
    assert 0 < telemetry(tmp_path, seconds=60.0).remaining <= 60
    found = telemetry(tmp_path)
    found.seconds = -1.0
    assert found.remaining < 0


def test_append_is_refused_whole(tmp_path: Path) -> None:
    disk: Any = SwitchableDisk()
    spool = Spool(str(tmp_path), disk)
    disk.failing = True
    with pytest.raises(DiskError) as refused:
        spool.append(body(1))
    assert refused.value.code == "disk-full"
    assert spool.next == 1
    disk.failing = False
    fill(spool, 1)
    assert sequence(spool) == [1]
