"""Telemetry as rows, and as CSV that no spreadsheet runs."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeship.deploy.device import Device
from edgeship.errors import UsageError
from edgeship.fleet import export
from edgeship.fleet.ingest import ingest
from edgeship.fleet.query import Span
from edgeship.fleet.store import FleetStore
from edgeship.fleet.timeline import Contact
from tests.simulators.telemetry import window

START = 1_800_000_000.0
OF = Span(START, START + 3600)
EVIL = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", " =1", "a\nb"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FleetStore]:
    with FleetStore.open(tmp_path / "f.db") as made:
        for name in ("a", "b"):
            made.save_device(Device(name, "p"))
            windows = [window(n, spool=f"spool-{name}", counter=1 + (n > 5)) for n in range(1, 11)]
            ingest(made, name, windows, Contact(START + 3600, START + 3600))
        yield made


@pytest.mark.parametrize(
    ("by", "step", "groups"),
    [
        ("device", None, ["a", "b"]), ("fleet", None, ["fleet"]), ("release", None, ["digits #2", "digits #1"]),
        ("fleet", 300, ["fleet", "fleet"]), ("device", 300, ["a", "a", "b", "b"]),
    ],
)  # fmt: skip
def test_groups_and_steps(store: FleetStore, by: str, step: int | None, groups: list[str]) -> None:
    rows = export.rows(store, ["a", "b"], OF, metrics=["requests"], by=by, step=step)
    assert [row.group for row in rows] == groups
    assert sum(int(row.values["requests"] or 0) for row in rows) == 200


def test_nothing_measured_gives_no_rows(store: FleetStore) -> None:
    before = Span(START - 9000, START - 4000)
    for by in export.GROUPS:
        assert export.rows(store, ["a"], before, metrics=["p95"], by=by, step=None) == []


def test_every_metric_has_a_column(store: FleetStore) -> None:
    (row,) = export.rows(store, ["a"], OF, metrics=list(export.METRICS), by="device", step=None)
    assert set(row.values) == {column for column, _ in export.METRICS.values()}


@pytest.mark.parametrize(
    ("metrics", "by", "step", "hint"),
    [(["p96"], "device", None, "p9"), (["zzz"], "device", None, "requests"), (["p95"], "site", None, "fleet"),
     (["p95"], "release", 60, "step")],
)  # fmt: skip
def test_nonsense_is_refused(store: FleetStore, metrics: list[str], by: str, step: int | None, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        export.rows(store, ["a"], OF, metrics=metrics, by=by, step=step)
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize("text", EVIL)
def test_no_text_is_a_formula(text: str) -> None:
    assert not export.safe(text).lstrip("\t\r\n ").startswith(("=", "+", "-", "@"))
    assert "\n" not in export.safe(text)
    assert export.safe("digits #1") == "digits #1"


def test_csv_comes_back_as_it_was() -> None:
    results = [
        export.Result(EVIL[0], START, START + 60, {"requests": 3, "p95_seconds": None, EVIL[3]: 0.25}),
        export.Result('b,"c', START, START + 60, {"requests": -1}),
    ]
    head, first, second = csv.reader(io.StringIO(export.to_csv(results, "device")))
    assert head == ["device", "start", "end", "requests", "p95_seconds", "'@SUM(A1)"]
    assert first == ["'=1+1", "2027-01-15T08:00:00Z", "2027-01-15T08:01:00Z", "3", "", "0.25"]
    assert (second[0], second[3], second[5]) == ('b,"c', "-1", "")
