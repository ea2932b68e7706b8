"""Commands that talk to agents, against a real one: the device sim."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeship import profile
from edgeship.cli import choose
from edgeship.deploy import lifecycle
from edgeship.deploy.device import Device
from edgeship.errors import DeviceError
from edgeship.reporter import Reporter
from tests.simulators.commandline import run, run_error, run_json


def test_without_an_agent_the_next_step_is_a_push(project: Path) -> None:
    error = run_error("logs", "sim", exit_code=1)
    assert (error["code"], error["hint"]) == ("no-agent", "edgeship push MODEL -l name=sim")
    data = run_json("agent.status", "agent", "status", exit_code=1)
    assert (data[0]["status"], data[0]["error"]) == ({}, "sim: no agent is installed")
    assert run_json("agent.uninstall", "agent", "uninstall", "--yes")[0]["status"] == {"state": "no agent was there"}


def test_an_agent_says_how_it_is_and_what_it_logged(enrolled: Device) -> None:
    (answer,) = run_json("agent.status", "agent", "status")
    assert answer["status"]["state"] == "no-model"
    assert "no-model" in run("agent", "status", "-l", "name=sim").stdout
    lines = run_json("logs", "logs", "sim", "-n", "5")["lines"]
    assert any("starts" in line for line in lines)
    assert "starts" in run("logs", "sim").stdout


def test_an_agent_is_restarted_stopped_and_removed(enrolled: Device) -> None:
    before = run_json("agent.status", "agent", "status")[0]["status"]["pid"]
    assert run_json("agent.restart", "agent", "restart", "--yes")[0]["status"]["pid"] != before
    assert run_json("agent.stop", "agent", "stop", "--dry-run")[0]["status"] == {"state": "would stop"}
    assert "stopped" in run("agent", "stop", "--all", "--yes").stdout
    assert Path(enrolled.root or "").is_dir()
    assert "uninstalled" in run("agent", "uninstall", "--yes").stdout
    assert not Path(enrolled.root or "").exists()
    with choose.opened() as (_, store):
        actions = [entry.action for entry in store.entries(subject="sim")]
    assert actions[:3] == ["agent.uninstall", "agent.stop", "agent.restart"]


def test_nothing_is_stopped_without_a_yes(enrolled: Device) -> None:
    error = run_error("agent", "stop", exit_code=2)
    assert error["message"] == "this needs an answer: stop the agent on sim?"


def test_a_folder_that_is_no_agents_is_not_removed(project: Path) -> None:
    root = project / ".edgeship" / "sim"
    root.mkdir(parents=True)
    (root / "precious").touch()
    assert run_json("agent.uninstall", "agent", "uninstall", "--yes")[0]["status"] == {"state": "no agent was there"}
    assert (root / "precious").exists()


def test_an_agent_that_does_not_come_up_again_is_said(enrolled: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "status", lambda *_a, **_k: {"pid": 1, "state": "starting"})
    slept: list[float] = []
    with pytest.raises(DeviceError, match="did not come up again within 30 s"):
        lifecycle.restart(enrolled, profile.load(enrolled.profile), reporter=Reporter(), sleep=slept.append)
    assert sum(slept) == pytest.approx(30, abs=0.5)


def test_the_command_that_removes_survives_proot() -> None:
    """`proot-distro login` wraps arguments in apostrophes, csh knows no quoted line break."""
    assert "'" not in lifecycle.REMOVER
    assert "\n" not in lifecycle.REMOVER
