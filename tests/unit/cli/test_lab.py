"""The lab's commands with a real virtual device behind an asyncssh server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeship.cli.lab import FAULTS
from edgeship.lab import faults
from tests.simulators.commandline import run, run_error, run_json


@pytest.fixture
def room(project: Path) -> Iterator[Path]:
    """A project whose virtual devices end with the test."""
    yield project
    run("lab", "down")


def test_a_virtual_device_goes_up_fails_and_goes_down(room: Path) -> None:
    (made,) = run_json("lab.up", "lab", "up", "pi=raspberry-pi-5", "--server", "asyncssh")
    assert (made["name"], made["profile"], made["power"], made["label"]) == ("pi", "raspberry-pi-5", True, "digits")
    shown = run_json("device.show", "device", "show", "pi")
    assert shown["overrides"] == ["port", "user", "root", "serve_port", "python", "arch", "init"]
    assert [d["name"] for d in run_json("device.list", "device", "list", "-l", "lab=digits")] == ["pi"]

    assert run_json("lab.fault", "lab", "fault", "pi", "power-cut")["power"] is False
    assert run_json("lab.list", "lab", "list")[0]["power"] is False
    assert run_error("logs", "pi", exit_code=5)["device"] == "pi"
    assert " on " in run("lab", "fault", "pi", "power-on").stdout
    assert run_error("logs", "pi", exit_code=1)["code"] == "no-agent"

    assert run_json("lab.down", "lab", "down", "pi") == [{"name": "pi"}]
    assert [d["name"] for d in run_json("device.list", "device", "list")] == ["sim"]
    assert "next: edgeship lab up" in run("lab", "list").stderr
    assert "there was none" in run("lab", "down").stderr


def test_what_makes_no_sense_is_refused(project: Path) -> None:
    assert "'pi' is not NAME=PROFILE" in run_error("lab", "up", "pi", exit_code=2)["message"]
    assert "unknown profile" in run_error("lab", "up", "pi=nothing", exit_code=2)["message"]
    assert "no virtual device" in run_error("lab", "fault", "pi", "reboot", exit_code=2)["message"]


def test_the_faults_that_the_help_names_are_those_of_the_lab() -> None:
    assert tuple(faults.FAULTS) == FAULTS
