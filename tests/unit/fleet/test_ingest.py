"""Telemetry is in the store exactly once, in order, with its gaps."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from edgeship.deploy.device import Device
from edgeship.errors import StoreError, UsageError
from edgeship.fleet import query, rollup
from edgeship.fleet.ingest import MAX_BATCH, cursor, ingest, parse_batch
from edgeship.fleet.schema import rollups
from edgeship.fleet.store import FleetStore
from edgeship.fleet.summary import COLUMNS, Summary
from edgeship.fleet.timeline import Contact
from edgeship.runtime.errors import ProtocolError
from edgeship.runtime.window import Window
from tests.simulators.telemetry import window

START = 1_800_000_000.0
LATER = Contact(START + 86_400, START + 86_400)
ALL = query.Span(START - 86_400, START + 86_400)


def opened(folder: Path) -> FleetStore:
    store = FleetStore.open(folder / "fleet.db")
    for name in ("pi", "jetson"):
        store.save_device(Device(name, "p"))
    return store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FleetStore]:
    with opened(tmp_path) as made:
        yield made


def rolled(store: FleetStore) -> list[tuple[Any, ...]]:
    """All roll-ups, comparable."""
    with store.reading() as connection:
        rows = connection.execute(select(rollups).order_by(*rollups.primary_key.columns)).all()
    out = []
    for row in rows:
        summary = Summary()
        summary.merge_columns([getattr(row, name) for name in COLUMNS])
        sensors = {n: (r.count, round(r.total, 6), r.low, r.high, r.last) for n, r in summary.sensors.items()}
        key = (row.resolution, row.start, row.device_id, row.model, row.counter, row.windows, row.ok, row.failed)
        out.append(
            (*key, summary.latency.counts(), summary.classes, summary.confidence, sensors, round(row.seconds, 6))
        )
    return out


def test_windows_are_stored_once(store: FleetStore) -> None:
    batch = [window(n) for n in range(1, 6)]
    assert ingest(store, "pi", batch, LATER).stored == 5
    again = ingest(store, "pi", batch, LATER)
    assert (again.stored, again.duplicates) == (0, 5)
    assert query.totals(store, ["pi"], ALL)["pi"].ok == 50


def test_a_batch_that_holds_a_window_twice_stores_it_once(store: FleetStore) -> None:
    done = ingest(store, "pi", [window(1), window(1, ok=999)], LATER)
    assert (done.stored, done.duplicates) == (1, 1)
    assert query.totals(store, ["pi"], ALL)["pi"].ok == 10


def test_a_replay_with_another_content_changes_nothing(store: FleetStore) -> None:
    ingest(store, "pi", [window(1)], LATER)
    assert ingest(store, "pi", [window(1, ok=1_000_000)], LATER).duplicates == 1
    assert query.totals(store, ["pi"], ALL)["pi"].ok == 10


def test_the_same_spool_of_another_device_is_another_spool(store: FleetStore) -> None:
    ingest(store, "pi", [window(1)], LATER)
    assert ingest(store, "jetson", [window(1, ok=3)], LATER).stored == 1
    totals = query.totals(store, ["pi", "jetson"], ALL)
    assert (totals["pi"].ok, totals["jetson"].ok) == (10, 3)


def test_a_device_that_is_not_enrolled_is_refused(store: FleetStore) -> None:
    with pytest.raises(UsageError, match="forged"):
        ingest(store, "forged", [window(1)])


def test_a_new_spool_begins_again_and_becomes_the_cursor(store: FleetStore) -> None:
    assert cursor(store, "pi") is None
    ingest(store, "pi", [window(n) for n in range(1, 4)], LATER)
    reset = [window(n, spool="spool-b", boot="boot-b", start=START + 600) for n in (1, 2)]
    assert ingest(store, "pi", reset, LATER).stored == 2
    at = cursor(store, "pi")
    assert at is not None
    assert (at.spool, at.seq) == ("spool-b", 2)
    assert query.totals(store, ["pi"], ALL)["pi"].windows == 5


def test_gaps_are_recorded_and_close_when_the_windows_come(store: FleetStore) -> None:
    done = ingest(store, "pi", [window(1), window(2), window(7)], LATER)
    assert [(g.first_seq, g.last_seq, g.missing) for g in done.gaps] == [(3, 6, 4)]
    gap = query.missing(store, "pi", ALL)[0]
    assert (gap.start, gap.end) == (START + 120, START + 360)
    ingest(store, "pi", [window(4)], LATER)
    assert [(g.first_seq, g.last_seq) for g in query.missing(store, "pi", ALL)] == [(3, 3), (5, 6)]
    ingest(store, "pi", [window(3), window(5), window(6)], LATER)
    assert query.missing(store, "pi", ALL) == []


def test_what_a_device_forgot_before_the_first_contact_is_a_gap(store: FleetStore) -> None:
    assert [g.missing for g in ingest(store, "pi", [window(501)], LATER).gaps] == [500]
    ingest(store, "pi", [window(500)], LATER)
    assert [(g.first_seq, g.last_seq) for g in query.missing(store, "pi", ALL)] == [(1, 499)]


def test_late_windows_change_their_own_minute_only(store: FleetStore) -> None:
    ingest(store, "pi", [window(1), window(3)], LATER)
    before = {row[:5]: row for row in rolled(store)}
    ingest(store, "pi", [window(2)], LATER)
    after = {row[:5]: row for row in rolled(store)}
    changed = {key for key in after if before.get(key) != after[key]}
    assert len([key for key in changed if key[0] == 60]) == 1
    assert len([key for key in changed if key[0] == 3600]) == 1


def test_events_are_kept_beside(store: FleetStore) -> None:
    told = ({"kind": "worker-exit", "text": "signal 9"}, {"kind": "boot", "text": ""})
    ingest(store, "pi", [window(1, events=told)], LATER)
    found = [(e.device, e.kind, e.text) for e in query.happened(store, ["pi"], ALL)]
    assert found == [("pi", "boot", ""), ("pi", "worker-exit", "signal 9")]
    assert query.totals(store, ["pi"], ALL)["pi"].restarts == 1


def test_a_failure_in_the_middle_stores_nothing(store: FleetStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object) -> None:
        raise StoreError("disk")

    monkeypatch.setattr(rollup, "add", broken)
    with pytest.raises(StoreError):
        ingest(store, "pi", [window(1)], LATER)
    monkeypatch.undo()
    assert cursor(store, "pi") is None
    assert ingest(store, "pi", [window(1)], LATER).stored == 1


def test_many_pulls_of_the_same_device_at_once_store_each_window_once(store: FleetStore) -> None:
    def work(_n: int) -> int:
        return sum(ingest(store, "pi", [window(n)], LATER).stored for n in random.Random(_n).sample(range(1, 31), 30))

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(work, range(4))) == 30
    assert query.totals(store, ["pi"], ALL)["pi"].windows == 30
    assert query.missing(store, "pi", ALL) == []


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(1, 24), max_size=8), max_size=6), st.randoms(use_true_random=False))
def test_in_whatever_order_and_portions_they_come_the_result_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, portions: list[list[int]], shuffle: random.Random
) -> None:
    made = {n: window(n, classes={str(n % 3): n}, confidence=(n,) * 20, sensors={"temperature_celsius": float(n)})
            for n in range(1, 25)}  # fmt: skip
    with opened(tmp_path_factory.mktemp("a")) as store:
        for portion in portions:
            ingest(store, "pi", [made[n] for n in portion], LATER)
        rest = list(made.values())
        shuffle.shuffle(rest)
        ingest(store, "pi", rest, LATER)
        assert query.missing(store, "pi", ALL) == []
        assert query.totals(store, ["pi"], ALL)["pi"].windows == 24
        one_by_one = rolled(store)
        assert rollup.rebuild(store, "pi") == 24
        assert rolled(store) == one_by_one


def test_what_was_pruned_is_never_taken_in_again(store: FleetStore) -> None:
    batch = [window(n) for n in range(1, 101)]
    ingest(store, "pi", batch, LATER)
    hours = [row for row in rolled(store) if row[0] == 3600]
    would = rollup.prunable(store, windows_before=START + 3000, minutes_before=START + 3000)
    assert rollup.prune(store, windows_before=START + 3000, minutes_before=START + 3000) == would
    assert (would.windows, would.gaps) == (49, 0)
    assert rollup.prunable(store, windows_before=START + 3000, minutes_before=START + 3000) == rollup.Pruned(0, 0, 0)
    assert ingest(store, "pi", batch, LATER).stored == 0
    assert [row for row in rolled(store) if row[0] == 3600] == hours
    rollup.prune(store, windows_before=START + 86_400, minutes_before=START + 86_400)
    done = ingest(store, "pi", [*batch, window(101), window(103)], LATER)
    assert (done.stored, [(g.first_seq, g.last_seq) for g in done.gaps]) == (2, [(102, 102)])
    assert query.newest(store)["pi"].end == START + 103 * 60


def test_rebuilding_nothing_is_fine(store: FleetStore) -> None:
    assert rollup.rebuild(store, "pi") == 0


# ── what a device may say ────────────────────────────────────────────────────────────────────────────────────────────


def answer(windows: list[Window], **fields: Any) -> dict[str, Any]:
    return {"spool": "spool-a", "windows": [w.encode() for w in windows], "next": 9, "more": False} | fields


def test_an_honest_answer_parses() -> None:
    batch = parse_batch(answer([window(1), window(2)], more=True))
    assert (batch.spool, len(batch.windows), batch.more) == ("spool-a", 2, True)


def _broken_window(**fields: Any) -> dict[str, Any]:
    return answer([]) | {"windows": [window(1).encode() | fields]}


@pytest.mark.parametrize(
    "lie",
    [
        {},
        answer([window(1)], spool="another"),
        answer([window(1)], spool="../../etc"),
        answer([window(2), window(1)]),
        answer([window(1), window(1)]),
        answer([window(n) for n in range(1, MAX_BATCH + 2)]),
        answer([]) | {"windows": "x" * (10 << 20)},
        answer([]) | {"windows": ["x"]},
        _broken_window(seq=0),
        _broken_window(wall_end=float("nan")),
        _broken_window(model="<script>alert(1)</script>"),
        _broken_window(boot="'; DROP TABLE windows; --"),
        _broken_window(latency={"99999": 1}),
        _broken_window(requests={"ok": -1, "failed": 0, "refused": 0}),
        _broken_window(requests={"ok": 1 << 60, "failed": 0, "refused": 0}),
        _broken_window(sensors={"<img src=x>": 1.0}),
        _broken_window(classes={f"{n:064}": 1 for n in range(1050)}),  # over 64 kB
        _broken_window(events=[{"kind": "boot", "text": "x" * (10 << 20)}]),
    ],
)
def test_lies_are_refused(lie: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        parse_batch(lie)


def test_script_and_sql_in_free_text_are_data(store: FleetStore) -> None:
    evil = "'; DROP TABLE windows; --<script>alert(1)</script>"
    ingest(store, "pi", [window(1, classes={evil: 4}, events=({"kind": "boot", "text": evil},))], LATER)
    assert query.totals(store, ["pi"], ALL)["pi"].classes == {evil: 4}
    assert query.happened(store, ["pi"], ALL)[0].text == evil


def test_huge_counts_do_not_overflow_the_fleet(store: FleetStore) -> None:
    most = (1 << 53) - 1
    lies = [
        window(n, ok=most, failed=most, refused=most, latency={9999: most, 0: most}, classes={"a": most},
               confidence=(most,) * 20)
        for n in range(1, 40)
    ]  # fmt: skip
    for name in ("pi", "jetson"):
        ingest(store, name, lies, LATER)
    (point,) = query.series(store, ["pi", "jetson"], query.Span(START, START + 3000), 3600)
    assert point.summary.ok <= 1 << 41
    assert point.summary.latency.quantile(0.99) is not None


def test_invented_classes_and_sensors_stay_bounded(store: FleetStore) -> None:
    lies = [
        window(n, classes={f"c{n}-{i}": 1 for i in range(1000)}, sensors={f"s{n}-{i}": 1.0 for i in range(60)})
        for n in range(1, 6)
    ]
    ingest(store, "pi", lies, LATER)
    total = query.totals(store, ["pi"], ALL)["pi"]
    assert len(total.classes) <= 2001
    assert sum(total.classes.values()) == 5000
    assert len(total.sensors) == 128


@pytest.mark.parametrize("years", [-55, 10, 300])
def test_a_wrong_clock_lands_on_the_hosts_axis(store: FleetStore, years: int) -> None:
    ahead = years * 365.25 * 86_400
    now = START + 600
    batch = [window(n, start=START + ahead) for n in range(1, 11)]
    ingest(store, "pi", batch, Contact(now, now + ahead))
    assert query.newest(store)["pi"].end == pytest.approx(now)
    assert query.totals(store, ["pi"], query.Span(START, now))["pi"].windows == 10
