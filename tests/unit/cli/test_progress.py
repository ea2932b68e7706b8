"""Reporters: lines for people, bars on a terminal, events for programs."""

from __future__ import annotations

import json

import pytest

from edgeship.cli.progress import JsonReporter, ProgressReporter, step_line
from edgeship.cli.terminal import Terminal
from edgeship.reporter import Step
from tests.simulators.commandline import checked
from tests.simulators.streams import TextStream

CONVERT = Step("convert", "tflite int8")
DEPLOY = Step("deploy", "sim")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock: the last element is now."""
    times = [100.0]
    monkeypatch.setattr("edgeship.cli.progress.time.monotonic", lambda: times[-1])
    return times


def test_a_line_has_columns() -> None:
    line = step_line(CONVERT, "keras → tflite int8 (200 calibration samples)", 9.1, {"detail": "1.6 MB → 0.4 MB"})
    assert line == "convert   keras → tflite int8 (200 calibration samples)               9.1 s    1.6 MB → 0.4 MB"


def test_the_subject_is_named_where_the_summary_does_not() -> None:
    assert step_line(DEPLOY, "healthy", 0.0, None) == "deploy    sim: healthy"
    assert step_line(DEPLOY, "sim: healthy", 0.0, None) == "deploy    sim: healthy"
    assert step_line(DEPLOY, "", 0.0, None) == "deploy    sim"
    assert step_line(Step("check"), "fine", 0.0, None) == "check     fine"
    on = "15 candidates on 512 of 3,000 samples, 13 go on"
    assert step_line(Step("round", "2 of 3"), on, 0.0, None) == f"round     2 of 3: {on}"


def test_data_may_say_the_time() -> None:
    assert step_line(DEPLOY, "healthy", 0.0, {"seconds": 1.6}).endswith("1.6 s")


def test_finished_steps_are_lines_on_a_file(clock: list[float]) -> None:
    stream = TextStream()
    with ProgressReporter(Terminal(stream)) as reporter:
        reporter.started(CONVERT)
        reporter.progress(CONVERT, 1, 2)
        clock.append(103.0)
        reporter.finished(CONVERT, "keras → tflite int8")
        reporter.note("library fetched")
    lines = stream.getvalue().splitlines()
    assert lines[0].split() == ["✓", "convert", "keras", "→", "tflite", "int8", "3.0", "s"]
    assert lines[1] == "  · library fetched"


def test_ascii_where_the_stream_has_no_more() -> None:
    stream = TextStream(encoding="ascii")
    ProgressReporter(Terminal(stream)).finished(CONVERT, "keras → onnx")
    assert stream.getvalue() == "  + convert   tflite int8: keras -> onnx\n"


def test_a_step_that_was_open_when_it_broke_is_marked() -> None:
    stream = TextStream()

    def break_off() -> None:
        with ProgressReporter(Terminal(stream)) as reporter:
            reporter.started(DEPLOY)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_off()
    assert stream.getvalue() == "  ✗ deploy    sim\n"


def test_a_terminal_shows_a_bar_that_never_goes_backwards() -> None:
    stream = TextStream(tty=True)
    with ProgressReporter(Terminal(stream)) as reporter:
        reporter.started(DEPLOY)
        reporter.started(CONVERT)
        reporter.progress(DEPLOY, 60, 100)
        reporter.progress(DEPLOY, 20, 100)
        bars = reporter._bars
        assert bars is not None
        assert [task.completed for task in bars.tasks] == [60, 0]
        reporter.progress(Step("other"), 1, 2)
        reporter.note("while\x1b[2J it runs")
        reporter.finished(CONVERT, "done")
        assert len(bars.tasks) == 1
        reporter.finished(DEPLOY, "done")
        assert reporter._bars is None
        reporter.finished(Step("bench"), "p50 0.41 ms")
    text = stream.getvalue()
    assert "while\N{REPLACEMENT CHARACTER}[2J it runs" in text
    assert "p50 0.41 ms" in text


def test_events_are_one_object_a_line(clock: list[float]) -> None:
    stream = TextStream()
    reporter = JsonReporter(stream)
    with reporter:
        reporter.started(DEPLOY)
        reporter.progress(DEPLOY, 1, 10)
        reporter.progress(DEPLOY, 2, 10)
        clock.append(101.5)
        reporter.progress(DEPLOY, 3, 10)
        reporter.finished(DEPLOY, "healthy", {"sent": {"model": 3}})
        reporter.note("careful")
    events = [checked("event", json.loads(line)) for line in stream.getvalue().splitlines()]
    assert [(e["event"], e.get("done"), e.get("seconds")) for e in events] == [
        ("started", None, None),
        ("progress", 1, None),
        ("progress", 3, None),
        ("finished", None, 1.5),
        ("note", None, None),
    ]


def test_events_say_which_step_failed() -> None:
    stream = TextStream()

    def break_off() -> None:
        with JsonReporter(stream) as reporter:
            reporter.started(DEPLOY)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_off()
    last = checked("event", json.loads(stream.getvalue().splitlines()[-1]))
    assert (last["event"], last["step"], last["subject"]) == ("failed", "deploy", "sim")


def test_who_no_longer_reads_stops_nothing() -> None:
    tried: list[str] = []

    class Gone(TextStream):
        def write(self, text: str) -> int:  # TextIO's signature
            tried.append(text)
            raise BrokenPipeError(32, "Broken pipe")

    for reporter in (ProgressReporter(Terminal(Gone())), JsonReporter(Gone())):
        tried.clear()
        with reporter:
            reporter.started(DEPLOY)
            reporter.progress(DEPLOY, 1, 2)
            reporter.note("half")
            reporter.finished(DEPLOY, "done")
        assert tried, "nobody was told anything, so nobody could be gone"
