"""Timing on a device: what becomes of a search whose device goes away. The rest is tested end to end."""

from __future__ import annotations

import fcntl
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from edgeship import profile
from edgeship.deploy import perform
from edgeship.deploy.contact import Agent, Settings
from edgeship.deploy.device import Device
from edgeship.errors import DeviceError, UnreachableError
from edgeship.optimize.search import on_device
from edgeship.optimize.search.on_device import Fleet, OnDevice
from edgeship.reporter import Reporter


@dataclass
class Noted(Reporter):
    """Remembers notes."""

    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def stopwatch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[OnDevice, Noted]:
    """One that has sent a trial."""
    monkeypatch.setattr(Agent, "own", staticmethod(lambda: Agent(b"", "", "")))
    pi = Device("pi", "raspberry-pi-5", "ssh", "pi.local")
    monkeypatch.setattr(on_device, "_PAUSE", 0.0)
    releases = SimpleNamespace(folder=tmp_path)
    fleet = Fleet("p", cast("Any", releases), Settings(60), pi, profile.load("raspberry-pi-5"))
    noted = Noted()
    made = OnDevice(fleet, cast("Any", None), cast("Any", None), tmp_path, noted)
    made._used = True
    return made, noted


def test_a_device_that_went_away_does_not_take_the_result_of_the_search_with_it(
    stopwatch: tuple[OnDevice, Noted], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def gone(device: Device, *_: object) -> None:
        asked.append(device.name)
        raise UnreachableError("pi: nothing listens there", device="pi")

    monkeypatch.setattr(perform, "clear", gone)
    made, noted = stopwatch
    made.close()
    made.close()
    assert noted.notes == ["what was sent for trials may still be there: pi: nothing listens there"]
    assert asked == ["pi"], "once is enough"


def test_what_was_sent_is_removed_and_nothing_is_said(
    stopwatch: tuple[OnDevice, Noted], monkeypatch: pytest.MonkeyPatch
) -> None:
    cleared: list[str] = []
    monkeypatch.setattr(perform, "clear", lambda device, *_: cleared.append(device.name))
    made, noted = stopwatch
    made.close()
    assert (cleared, noted.notes) == (["pi"], [])


def busy() -> DeviceError:
    return DeviceError("pi: another install is under way on this device", device="pi", code="busy")


def untrusted() -> DeviceError:
    return DeviceError("pi: another manifest is signed than the one asked for", device="pi", code="untrusted")


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the device answers to trials, one after the other; an error is raised."""
    queue: list[Any] = []

    def trial(*_: object, **__: object) -> Any:
        answer = queue.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    monkeypatch.setattr(perform, "trial", trial)
    return queue


def signed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    made: list[str] = []
    monkeypatch.setattr(on_device, "publish", lambda *_, **__: made.append("release"))
    return made


def test_a_push_that_works_on_the_device_is_waited_for_and_said_once(
    stopwatch: tuple[OnDevice, Noted], answers: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    releases = signed(monkeypatch)
    answers += [busy(), busy(), "timed"]
    made, noted = stopwatch
    assert cast("Any", made._tried(cast("Any", "draft"))) == "timed"
    assert noted.notes == ["pi: another install is under way on this device; waiting for that to end"]
    assert len(releases) == 1, "nothing is signed anew for waiting"
    assert made.reached


def test_a_device_that_stays_busy_is_not_waited_for_for_ever(
    stopwatch: tuple[OnDevice, Noted], answers: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    signed(monkeypatch)
    monkeypatch.setattr(on_device, "_BUSY", 0.0)
    answers += [busy(), "never asked"]
    with pytest.raises(DeviceError, match="another install"):
        stopwatch[0]._tried(cast("Any", "draft"))
    assert answers == ["never asked"]
    assert not stopwatch[0].reached


def test_what_was_signed_away_meanwhile_is_signed_again_and_not_without_end(
    stopwatch: tuple[OnDevice, Noted], answers: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    releases = signed(monkeypatch)
    answers += [untrusted(), "timed"]
    assert cast("Any", stopwatch[0]._tried(cast("Any", "draft"))) == "timed"
    assert len(releases) == 2
    answers += [untrusted() for _ in range(9)]
    with pytest.raises(DeviceError, match="another manifest"):
        stopwatch[0]._tried(cast("Any", "draft"))
    assert len(answers) == 6


def test_another_refusal_is_not_tried_again(
    stopwatch: tuple[OnDevice, Noted], answers: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    signed(monkeypatch)
    answers += [DeviceError("pi: the worker ended", device="pi", code="worker"), "never asked"]
    with pytest.raises(DeviceError, match="the worker ended"):
        stopwatch[0]._tried(cast("Any", "draft"))
    assert answers == ["never asked"]


def test_searches_of_one_project_take_turns_from_signing_to_timing(
    stopwatch: tuple[OnDevice, Noted], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each trial replaces the one before it in the signed metadata: two at once would refuse each other's."""
    held: list[bool] = []

    def is_held(*_: object, **__: object) -> str:
        with (tmp_path / "trial.lock").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held.append(False)
            except BlockingIOError:
                held.append(True)
        return "done"

    monkeypatch.setattr(on_device, "publish", is_held)
    monkeypatch.setattr(perform, "trial", is_held)
    stopwatch[0]._tried(cast("Any", "draft"))
    is_held()
    assert held == [True, True, False]


def test_a_busy_device_is_cleared_when_it_is_free(
    stopwatch: tuple[OnDevice, Noted], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = [busy(), None]

    def clear(*_: object) -> None:
        if (error := waits.pop(0)) is not None:
            raise error

    monkeypatch.setattr(perform, "clear", clear)
    stopwatch[0].close()
    assert waits == []
    assert stopwatch[1].notes == ["pi: another install is under way on this device; waiting for that to end"]
