"""The live table of a search: what is built and what waits, how far the round is."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from edgeship.cli.search_screen import LiveTable
from edgeship.cli.terminal import Terminal
from edgeship.optimize.search.candidate import Candidate
from edgeship.reporter import Step
from edgeship.targets.scheme import Scheme


class Screen(io.StringIO):
    """A terminal that remembers."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> LiveTable:
    monkeypatch.setenv("TERM", "xterm")
    return LiveTable(Terminal(Screen()), 2)


def drawn(table: LiveTable) -> list[str]:
    """The lines of the table as they are on the screen now."""
    console = Console(file=io.StringIO(), width=120, record=True)
    console.print(table._table())
    return [line.strip() for line in console.export_text().splitlines() if line.strip()]


def row(table: LiveTable, name: str) -> str:
    [line] = [line for line in drawn(table) if line.startswith(name)]
    return line


def test_only_as_many_as_there_are_processes_are_shown_as_being_built(table: LiveTable) -> None:
    for name in ("tflite int8", "tflite float16", "onnx int8"):
        table.started(Step("try", name))
    assert row(table, "tflite float16").endswith("building")
    assert row(table, "onnx int8").endswith("waiting")
    table.finished(Step("try", "tflite int8"), "", {"drop": -0.1, "passed": True, "bytes": 113_000, "samples": 128})
    assert row(table, "onnx int8").endswith("building")
    assert row(table, "tflite int8").split()[2:5] == ["128", "−0.1", "113"]
    assert row(table, "tflite int8").endswith("within the budget")


def test_candidates_of_one_name_have_a_row_each(table: LiveTable) -> None:
    """Sets of as many layers in float are called alike."""
    name = "tflite int8, 2 layers float32"
    for keep in (("a", "b"), ("a", "c")):
        table.started(Candidate("tflite", Scheme("int8", keep=keep)).step("try"))
    first = Candidate("tflite", Scheme("int8", keep=("a", "b"))).step("try")
    table.finished(first, "", {"drop": 3.0, "passed": False})
    lines = [line for line in drawn(table) if line.startswith(name)]
    assert [line.split()[-1] for line in lines] == ["building", "budget"]
    table.started(Candidate("tflite", Scheme("int8", keep=("a", "b")), "asked again").step("time"))
    assert len([line for line in drawn(table) if line.startswith(name)]) == 2


def test_the_round_and_how_far_it_is_stand_below(table: LiveTable) -> None:
    step = Step("round", "1 of 2")
    table.started(step)
    table.progress(step, 3, 10)
    assert drawn(table)[-1] == "round 1 of 2, 3 of 10 · 0:00"
    table.finished(step, "10 candidates on 128 of 1,000 samples, 7 go on")
    assert drawn(table)[-1] == "0:00"


def test_what_is_over_the_budget_failed_or_is_timed_says_so(table: LiveTable) -> None:
    table.started(Step("try", "tflite int8"))
    table.finished(Step("try", "tflite int8"), "", {"passed": False, "drop": 9.0})
    table.started(Step("try", "onnx int8"))
    table.finished(Step("try", "onnx int8"), "", {"error": "no such operator\nmore"})
    table.started(Step("time", "tflite float32"))
    assert row(table, "tflite int8").endswith("over the budget")
    assert row(table, "onnx int8").endswith("failed: no such operator")
    assert row(table, "tflite float32").endswith("timing")


def test_a_line_above_the_table_names_the_step_and_what_it_is_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen()
    with LiveTable(Terminal(screen), 1) as table:
        table.started(Step("round", "1 of 2"))
        table.finished(Step("round", "1 of 2"), "10 candidates on 128 of 1,000 samples, 7 go on")
    assert "round     1 of 2: 10 candidates on 128 of 1,000 samples, 7 go on" in screen.getvalue()
