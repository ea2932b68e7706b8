"""Reading telemetry: time, merging, gaps."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeship.deploy.device import Device
from edgeship.errors import UsageError
from edgeship.fleet import query
from edgeship.fleet.ingest import ingest
from edgeship.fleet.query import Span
from edgeship.fleet.store import FleetStore
from edgeship.fleet.timeline import Contact
from edgeship.runtime.window import bucket_of
from tests.simulators.telemetry import window

START = 1_800_000_000.0  # a whole hour
NOW = START + 4 * 3600
AT = Contact(NOW, NOW)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FleetStore]:
    with FleetStore.open(tmp_path / "fleet.db") as made:
        for name in ("a", "b"):
            made.save_device(Device(name, "p"))
        ingest(made, "a", [window(n, latency={bucket_of(1000): 10}) for n in range(1, 200)], AT)
        ingest(made, "b", [window(n, spool="spool-b", latency={bucket_of(9000): 10}) for n in range(1, 100)], AT)
        yield made


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("15 min", 900), ("1.5h", 5400), ("7d", 604_800), ("1w", 604_800)]
)
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert query.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "h", "-1h", "0s", "1e9h", "99999999h", "1 fortnight"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        query.duration(text)


def test_moments() -> None:
    assert query.moment("2h", NOW) == NOW - 7200
    assert query.moment("2027-01-15T08:00:00", NOW) == query.moment("2027-01-15T09:00:00+01:00", NOW) == START
    assert query.span("1h", None, NOW) == Span(NOW - 3600, NOW)
    assert query.span("2h", "1h", NOW).seconds == 3600
    for since, until in [("1h", "2h"), ("yesterday", None), ("2027-99-99", None), ("0001-01-01", "nonsense")]:
        with pytest.raises(UsageError):
            query.span(since, until, NOW)


def test_the_step_gives_a_bounded_number_of_points() -> None:
    for seconds in (60, 900, 3600, 86_400, 30 * 86_400):
        step = query.step_for(Span(0, seconds))
        assert seconds / step <= 240
    assert query.step_for(Span(0, 86_400 * 3650)) == 86_400


def test_totals_of_whole_hours_and_edges_are_what_was_sent(store: FleetStore) -> None:
    totals = query.totals(store, ["a", "b"], Span(START + 600, START + 10_800))
    assert (totals["a"].windows, totals["b"].windows) == (170, 89)
    assert query.totals(store, ["b"], Span(START + 600, START + 660))["b"].windows == 1
    assert query.totals(store, ["a"], Span(START - 9000, START - 3600)) == {}
    lean = query.totals(store, ["a"], Span(START, NOW), detail=False)["a"]
    assert (lean.windows, lean.latency.total, lean.compute.total) == (199, 1990, 0)


def test_percentiles_are_of_the_merged_histogram(store: FleetStore) -> None:
    (point,) = query.series(store, ["a", "b"], Span(START, START + 3600), 3600)
    assert point.summary.latency.quantile(0.5) == pytest.approx(0.001, rel=0.02)
    assert point.summary.latency.quantile(0.95) == pytest.approx(0.009, rel=0.02)
    (alone,) = query.series(store, ["a"], Span(START, START + 3600), 3600)
    assert alone.summary.latency.quantile(0.95) == pytest.approx(0.001, rel=0.02)


@pytest.mark.parametrize(("step", "points"), [(60, 60), (300, 12), (3600, 1), (None, 60)])
def test_a_series_has_the_step_asked_for(store: FleetStore, step: int | None, points: int) -> None:
    assert len(query.series(store, ["a"], Span(START, START + 3600), step)) == points


def test_a_step_below_a_minute_reads_the_windows(store: FleetStore) -> None:
    with_seconds = [window(n, spool="spool-s", seconds=2.0, start=START) for n in range(1, 61)]
    store.save_device(Device("c", "p"))
    ingest(store, "c", with_seconds, AT)
    points = query.series(store, ["c"], Span(START, START + 120), 10)
    assert [p.summary.windows for p in points] == [5] * 12
    assert query.series_by_device(store, ["c"], Span(START, START + 120), 10).keys() == {"c"}


def test_a_step_below_a_minute_becomes_a_minute_where_windows_are_many(
    store: FleetStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "_RAW", 0)
    assert [p.step for p in query.series(store, ["a"], Span(START, START + 90), 15)] == [60, 60]


def test_releases_are_kept_apart(store: FleetStore) -> None:
    ingest(store, "a", [window(n, counter=2) for n in range(200, 210)], AT)
    found = query.by_release(store, ["a"], Span(START, NOW))
    assert [(key, s.windows) for key, s in found.items()] == [(("digits", 2), 10), (("digits", 1), 199)]


def test_gaps_are_gaps(store: FleetStore) -> None:
    store.save_device(Device("c", "p"))
    ingest(store, "c", [window(n, spool="spool-c") for n in [*range(1, 31), *range(61, 121)]], AT)
    of = Span(START, START + 7200)
    points = query.series(store, ["c"], of, 60)
    assert query.breaks(points, of) == [Span(START + 1800, START + 3600)]
    assert query.breaks(query.series(store, ["a", "c"], of, 60), of) == []  # the other one was there
    assert query.breaks([], of) == [of]
    tail = Span(START, START + 10_800)
    assert query.breaks(query.series(store, ["c"], tail, 60), tail)[-1] == Span(START + 7200, START + 10_800)


def test_windows_that_do_not_fit_the_minute_leave_no_false_gap(tmp_path: Path) -> None:
    with FleetStore.open(tmp_path / "f.db") as store:
        store.save_device(Device("a", "p"))
        ingest(store, "a", [window(n, seconds=61.7, start=START + 13) for n in range(1, 59)], AT)
        of = Span(START + 13, START + 13 + 58 * 61.7)
        assert query.breaks(query.series(store, ["a"], of, 60), of) == []


def test_newest_and_nothing(store: FleetStore) -> None:
    found = query.newest(store)
    assert (found["a"].end, found["a"].seconds) == (START + 199 * 60, 60)
    assert query.series(store, [], Span(START, NOW)) == []


def test_more_devices_than_one_query_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "_IN", 3)
    with FleetStore.open(tmp_path / "f.db") as store:
        names = [f"d{n}" for n in range(10)]
        for name in names:
            store.save_device(Device(name, "p"))
            ingest(store, name, [window(1, events=({"kind": "boot", "text": name},))], AT)
        some = names[:8]
        assert len(query.totals(store, some, Span(START, NOW))) == 8
        assert len(query.happened(store, some, Span(START, NOW), limit=5)) == 5
        assert {e.device for e in query.happened(store, some, Span(START, NOW))} == set(some)
