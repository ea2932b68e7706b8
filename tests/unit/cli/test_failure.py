"""From an exception to words and an exit code."""

from __future__ import annotations

import errno
import json

import pytest

from edgeship.cli import State
from edgeship.cli.failure import report
from edgeship.errors import DeviceError, EdgeshipError, GateError, PartialFailure, UnreachableError
from tests.simulators.commandline import checked

Capture = pytest.CaptureFixture[str]


def test_a_device_error_says_device_stage_cause_last_lines_and_next_step(capsys: Capture) -> None:
    error = DeviceError(
        "the worker died", device="pi", stage="probe", log=[f"line {n}" for n in range(20)], code="worker",
        hint="edgeship logs pi",
    )  # fmt: skip
    assert report(error, State()) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["error: pi: the worker died", "  stage: probe"]
    assert lines[2:12] == [f"  | line {n}" for n in range(10, 20)]
    assert lines[12:] == ["  next: edgeship logs pi"]


def test_a_message_that_names_its_device_is_not_given_it_twice(capsys: Capture) -> None:
    report(UnreachableError("pi: does not answer", device="pi"), State())
    assert capsys.readouterr().err == "error: pi: does not answer\n"


def test_several_failures_are_listed_each_with_its_next_step(capsys: Capture) -> None:
    failures: dict[str, EdgeshipError] = {
        "a": UnreachableError("a: does not answer", device="a", hint="switch it on"),
        "b": GateError("too slow"),
    }
    error = PartialFailure("2 of 3 devices failed: a, b", failures, hint="switch it on")
    assert report(error, State()) == 3
    assert capsys.readouterr().err.splitlines() == [
        "error: 2 of 3 devices failed: a, b",
        "  a: does not answer",
        "    next: switch it on",
        "  b: too slow",
    ]
    report(error, State(json=True))
    data = checked("error", json.loads(capsys.readouterr().err))
    assert {name: failure["exit_code"] for name, failure in data["failures"].items()} == {"a": 5, "b": 6}


def test_what_a_device_wrote_cannot_steer_the_terminal(capsys: Capture) -> None:
    report(DeviceError("bad \x1b[2J", device="pi", log=["\x07"]), State())
    assert "\x1b" not in capsys.readouterr().err


def test_the_cause_is_shown_with_debug(capsys: Capture) -> None:
    try:
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise GateError("outer") from inner
    except GateError as error:
        report(error, State(debug=True))
    text = capsys.readouterr().err
    assert "KeyError: 'inner'" in text
    assert "error: outer" in text


@pytest.mark.parametrize(
    ("error", "message", "hint"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device", "free some room"),
        (OSError(errno.EACCES, "Permission denied", "/x/y"), "/x/y: Permission denied", "may you"),
        (
            OSError("80 requested and 12 written"),
            "No space left on device (80 requested and 12 written)",
            "free some room",
        ),
        (OSError(errno.ENXIO, "No such device", b"/x"), "/x: No such device", "--debug"),
    ],
)
def test_what_the_machine_refuses_is_no_defect(error: OSError, message: str, hint: str, capsys: Capture) -> None:
    assert report(error, State()) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"error: {message}"
    assert second.startswith("  next: ")
    assert hint in second
