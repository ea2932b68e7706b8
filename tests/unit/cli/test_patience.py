"""A word where nothing was said for long: once a minute at first, then ever more seldom, and never where work moves."""

from __future__ import annotations

import contextlib
import sys
import threading
from pathlib import Path
from types import FrameType

import pytest

from edgeship.cli import patience
from edgeship.cli.patience import Patient
from edgeship.cli.progress import ProgressReporter
from edgeship.cli.terminal import Terminal
from edgeship.reporter import Step
from tests.simulators.clock import Clock
from tests.simulators.streams import TextStream

METRIC = Step("metric", "mine:score")


@pytest.fixture
def clock() -> Clock:
    return Clock(100.0)


@pytest.fixture
def stream() -> TextStream:
    return TextStream()


@pytest.fixture
def patient(clock: Clock, stream: TextStream) -> Patient:
    return Patient(ProgressReporter(Terminal(stream)), clock)


def test_after_a_minute_it_says_what_is_waited_for_and_how_to_end_it(patient: Patient, clock: Clock) -> None:
    patient.started(METRIC)
    clock.now += 59
    assert patient.overdue() is None
    clock.now += 1
    said = patient.overdue()
    assert said is not None
    assert said.startswith("no news for 1 minute, still under way: metric mine:score. Ctrl-C ends it. ")
    assert "EDGESHIP_STEP_LIMIT=10m" in said


def test_the_next_words_come_ever_later(patient: Patient, clock: Clock) -> None:
    patient.started(METRIC)
    said = []
    for minute in range(1, 10):
        clock.now += 60
        if patient.overdue() is not None:
            said.append(minute)
    assert said == [1, 2, 4, 8]


@pytest.mark.parametrize("news", ["progress", "finished", "started", "note"])
def test_news_start_the_wait_anew(patient: Patient, clock: Clock, news: str) -> None:
    other = Step("try", "onnx int8")
    patient.started(METRIC)
    patient.started(other)
    clock.now += 59
    {
        "progress": lambda: patient.progress(METRIC, 1, 2), "finished": lambda: patient.finished(other, "done"),
        "started": lambda: patient.started(Step("round")), "note": lambda: patient.note("fetched"),
    }[news]()  # fmt: skip
    clock.now += 59
    assert patient.overdue() is None
    clock.now += 1
    assert patient.overdue() is not None


def test_where_nothing_is_under_way_nothing_is_said(patient: Patient, clock: Clock) -> None:
    patient.started(METRIC)
    patient.finished(METRIC, "done")
    clock.now += 1000
    assert patient.overdue() is None


def test_of_many_steps_two_are_named(patient: Patient, clock: Clock) -> None:
    for name in ("int8", "int8 mse", "int8 entropy", "float32"):
        patient.started(Step("try", f"onnx {name}"))
    clock.now += 150
    said = patient.overdue()
    assert said is not None
    assert "no news for 2 minutes, still under way: try onnx int8, try onnx int8 mse and 2 more. " in said


def test_the_word_is_a_note_of_the_reporter_that_it_speaks_for(
    patient: Patient, clock: Clock, stream: TextStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "_LOOK", 0.01)
    told = threading.Event()
    note = patient.shown.note

    def heard(text: str) -> None:
        note(text)
        told.set()

    monkeypatch.setattr(patient.shown, "note", heard)
    with patient as reporter:
        reporter.started(METRIC)
        clock.now += 61
        assert told.wait(20)
        reporter.finished(METRIC, "well")
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("  · no news for 1 minute, still under way: metric mine:score. ")
    assert lines[1].startswith("  ✓ metric    mine:score: well")


def test_a_block_that_ends_by_an_exception_is_told_to_the_other(patient: Patient, stream: TextStream) -> None:
    patient.__enter__()
    patient.started(METRIC)
    patient.__exit__(ValueError, ValueError("no"), None)
    assert stream.getvalue().startswith("  ✗ metric    mine:score")


def test_what_threads_tell_after_the_block_was_left_is_not_shown(patient: Patient, stream: TextStream) -> None:
    def interrupted() -> None:
        with patient:
            patient.started(METRIC)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    said = stream.getvalue()

    patient.started(Step("deploy", "pi"))
    patient.progress(METRIC, 1, 2)
    patient.finished(METRIC, "0.97")
    patient.note("fetched")
    assert "metric" in said
    assert stream.getvalue() == said


def test_wherever_ctrl_c_comes_while_something_is_told_others_can_tell_on(clock: Clock) -> None:
    """A lock that stays held would hang the command at its end."""
    seen, last, ours = 0, 0, (str(Path(patience.__file__).parent), contextlib.__file__)

    def press(frame: FrameType, event: str, _more: object) -> None:
        """Where Python looks for signals: as a function begins, and as a call of one is over."""
        nonlocal seen
        if event != "c_call" and frame.f_code.co_filename.startswith(ours):
            seen += 1
            if seen == last:
                sys.setprofile(None)
                raise KeyboardInterrupt

    interrupted = True
    while interrupted:
        stream = TextStream()
        patient = Patient(ProgressReporter(Terminal(stream)), clock)
        seen, last = 0, last + 1
        sys.setprofile(press)
        try:
            patient.finished(METRIC, "0.97")
            interrupted = False
        except KeyboardInterrupt:
            pass
        finally:
            sys.setprofile(None)
        other = threading.Thread(target=patient.note, args=("fetched",), daemon=True)
        other.start()
        other.join(60)
        assert "fetched" in stream.getvalue(), f"interrupted at look {last}"
    assert last > 20
