"""Timing on a device: what becomes of a search whose device goes away. The rest is tested end to end."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from edgeship import profile
from edgeship.deploy import perform
from edgeship.deploy.contact import Agent, Settings
from edgeship.deploy.device import Device
from edgeship.errors import UnreachableError
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
    fleet = Fleet("p", cast("Any", None), Settings(60), pi, profile.load("raspberry-pi-5"))
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
    assert noted.notes == ["what was sent for trials is still there: pi: nothing listens there"]
    assert asked == ["pi"], "once is enough"


def test_what_was_sent_is_removed_and_nothing_is_said(
    stopwatch: tuple[OnDevice, Noted], monkeypatch: pytest.MonkeyPatch
) -> None:
    cleared: list[str] = []
    monkeypatch.setattr(perform, "clear", lambda device, *_: cleared.append(device.name))
    made, noted = stopwatch
    made.close()
    assert (cleared, noted.notes) == (["pi"], [])
