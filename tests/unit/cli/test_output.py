"""Results: tables for people, one object for programs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest

from edgeship.cli import State
from edgeship.cli.output import Lines, Output, Pairs, Table, human_bytes, human_seconds, jsonable
from edgeship.cli.progress import JsonReporter, ProgressReporter
from edgeship.errors import EdgeshipError, UsageError

Capture = pytest.CaptureFixture[str]


def test_a_table_is_aligned_and_numbers_stand_right(capsys: Capture) -> None:
    table = Table(("name", "count", "ok"), [("a", 5, True), ("long-name", 12345, False), ("b", None, None)])
    Output(State()).emit("x", [], table)
    assert capsys.readouterr().out.splitlines() == [
        "NAME       COUNT  OK",
        "a              5  yes",
        "long-name  12345  no",
        "b              -  -",
    ]


def test_a_wide_table_is_not_cut_for_a_file(capsys: Capture) -> None:
    Output(State()).emit("x", [], Table(("a", "b"), [("x" * 300, "y\nz")]))
    assert capsys.readouterr().out.splitlines()[1] == f"{'x' * 300}  y z"


def test_a_table_on_a_terminal_is_coloured_and_folded(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "30")
    Output(State()).emit("x", [], Table(("a", "b"), [("x" * 50, "[red]not markup[/red]")]))
    out = capsys.readouterr().out
    assert "\x1b[1m" in out
    assert out.replace("\n", "").count("x") == 50
    assert "markup" in out


def test_an_empty_table_says_what_to_do_on_standard_error(capsys: Capture) -> None:
    Output(State()).emit("x", [], Table(("a",), [], empty="nothing; next: edgeship push"))
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "nothing; next: edgeship push\n")
    Output(State()).emit("x", [], Table(("a",), []))
    assert capsys.readouterr().err == ""


def test_pairs_lines_and_several_blocks(capsys: Capture) -> None:
    Output(State()).emit("x", {}, [Pairs([("name", "pi"), ("tags", ["a", "b"]), ("none", [])]), Lines(["one", "two"])])
    assert capsys.readouterr().out.splitlines() == ["name  pi", "tags  a", "      b", "none  -", "", "one", "two"]


def test_json_is_one_object_with_its_schema(capsys: Capture) -> None:
    Output(State(json=True)).emit("device.list", [{"name": "pi"}], Table(("name",), [("pi",)]))
    assert json.loads(capsys.readouterr().out) == {"schema": "edgeship.device.list/v1", "data": [{"name": "pi"}]}


def test_numbers_that_json_lacks_are_not_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        Output(State(json=True)).emit("x", float("nan"), Lines([]))


def test_messages_go_to_standard_error_and_not_into_json(capsys: Capture) -> None:
    Output(State()).say("next: edgeship serve")
    Output(State()).say("careful", colour="yellow")
    Output(State(json=True)).say("next: edgeship serve")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "next: edgeship serve\ncareful\n")


def test_the_reporter_fits_the_mode() -> None:
    assert isinstance(Output(State()).reporter().shown, ProgressReporter)
    assert isinstance(Output(State(json=True)).reporter().shown, JsonReporter)


@pytest.mark.parametrize("state", [State(), State(json=True)])
def test_nobody_is_asked_where_nobody_is(state: State) -> None:
    with pytest.raises(UsageError, match="needs an answer: really") as caught:
        Output(state).confirm("really?", yes=False)
    assert caught.value.hint == "give --yes"
    with pytest.raises(UsageError, match="needs an answer"):
        Output(state).ask("which?", option="--name")
    Output(state).confirm("really?", yes=True)


def test_somebody_is_asked_on_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []
    answers: list[object] = [True, False, "digits"]

    def answer(question: str, **how: Any) -> object:
        asked.append((question, how))
        return answers.pop(0)

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(click, "confirm", answer)
    monkeypatch.setattr(click, "prompt", answer)
    out = Output(State())
    out.confirm("really?", yes=False)
    with pytest.raises(EdgeshipError, match="cancelled"):
        out.confirm("really?", yes=False)
    assert out.ask("name", option="--yes") == "digits"
    assert all(how["err"] for _, how in asked)


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 B"), (999, "999 B"), (1600, "1.6 kB"), (1_600_000, "1.6 MB"), (2.5e12, "2500.0 GB")]
)
def test_bytes_for_people(count: float, words: str) -> None:
    assert human_bytes(count) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.012, "12 ms"),
        (9.14, "9.1 s"),
        (125, "2 min 5 s"),
        (11_100, "3 h 5 min"),
        (360_000, "4 d 4 h"),
        (60, "1 min 0 s"),
    ],
)
def test_durations_for_people(seconds: float, words: str) -> None:
    assert human_seconds(seconds) == words


def test_records_become_json() -> None:
    @dataclass
    class Record:
        path: Path
        pairs: tuple[int, ...]
        inner: dict[str, object]

    record = Record(Path("/a"), (1, 2), {"x": None, "y": {3}})
    assert jsonable(record) == {"path": "/a", "pairs": [1, 2], "inner": {"x": None, "y": [3]}}
