"""Commands that talk to agents, against a real one: the device sim with a tiny model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeship import config, profile
from edgeship.cli import choose
from edgeship.deploy import lifecycle
from edgeship.deploy.contact import Settings, contact
from edgeship.deploy.device import Device
from edgeship.deploy.perform import deploy
from edgeship.errors import DeviceError
from edgeship.release.build import PublishedRelease
from edgeship.release.repository import Repository
from edgeship.reporter import Reporter
from tests.simulators import models, releases
from tests.simulators.commandline import run, run_error, run_json


def sim() -> Device:
    with choose.opened() as (_, store):
        return choose.device(store, "sim")


@pytest.fixture
def enrolled(project: Path) -> Iterator[Device]:
    """The device sim with a running agent that serves nothing yet; it is gone afterwards."""
    device = sim()
    root = choose.repository(config.load()).root_bytes()
    board = profile.load(device.profile)
    contact(device, board, root_json=root, settings=Settings(), reporter=Reporter()).close()
    yield device
    lifecycle.uninstall(device, board, reporter=Reporter())


def publish(repository: Repository, folder: Path, *, bad: bool = False) -> PublishedRelease:
    """The next release of digits: a tiny classifier, or one that answers wrongly."""
    folder.mkdir(parents=True)
    tiny = models.tiny_tflite(folder / "tiny.tflite", bad=bad)
    variant = models.variant_ref(tiny, folder / "golden", profiles=("generic-x86-64", "generic-arm64"))
    files = [
        releases.File(tiny.path, variant.file),
        releases.File(folder / "golden", variant.golden.file),
        releases.file(folder, b"{}"),
        releases.File(models.library("tflite"), variant.runtimes[0].file),
    ]

    def manifest(counter: int) -> releases.Manifest:
        return releases.Manifest("digits", counter, "2026-11-22T09:30:00Z", (variant,))

    return PublishedRelease(*repository.publish("digits", manifest, files))


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
    root = Path(sim().root or "")
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


# ── rollback ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def updated(enrolled: Device, tmp_path: Path) -> Repository:
    """Two releases with different files; the device serves the second."""
    repository = choose.repository(config.load())
    publish(repository, tmp_path / "one")
    tiny = models.tiny_tflite(tmp_path / "float.tflite", "float32")
    variant = models.variant_ref(tiny, tmp_path / "golden2", profiles=("generic-x86-64", "generic-arm64"))
    files = [
        releases.File(tiny.path, variant.file),
        releases.File(tmp_path / "golden2", variant.golden.file),
        releases.file(tmp_path, b"{}"),
        releases.File(models.library("tflite"), variant.runtimes[0].file),
    ]
    second = PublishedRelease(
        *repository.publish(
            "digits", lambda n: releases.Manifest("digits", n, "2026-11-22T09:31:00Z", (variant,)), files
        )
    )
    deploy(enrolled, profile.load(enrolled.profile), second, repository, Settings(), Reporter())
    return repository


def test_a_rollback_is_a_new_release_with_the_old_files(updated: Repository) -> None:
    plan = run_json("rollback", "rollback", "--dry-run")
    assert (plan["from"], plan["to"], plan["counter"], plan["dry_run"]) == (2, 1, None, True)
    assert updated.models()["digits"].counter == 2
    data = run_json("rollback", "rollback", "--yes")
    assert (data["from"], data["to"], data["counter"]) == (2, 1, 3)
    assert data["devices"] == [{"device": "sim", "state": "serves release 3 (files of 1)", "error": None}]
    status = run_json("agent.status", "agent", "status")[0]["status"]
    assert (status["state"], status["counter"], status["precision"]) == ("serving", 3, "int8")
    assert updated.manifest("digits", 3)[0].variants == updated.manifest("digits", 1)[0].variants
    with choose.opened() as (_, store):
        (entry,) = [e for e in store.entries(subject="sim") if e.action == "rollback"]
    assert (entry.detail["counter"], entry.detail["to"]) == (3, 1)
    text = run("agent", "status").stdout
    assert "digits 3  tflite int8" in text


def test_a_rollback_to_a_bad_release_is_refused_by_the_probe(updated: Repository, tmp_path: Path) -> None:
    publish(updated, tmp_path / "bad", bad=True)
    publish(updated, tmp_path / "good")
    data = run_json("rollback", "rollback", "--to", "3", "--yes", exit_code=7)
    assert data["devices"][0]["state"] == "FAILED"
    status = run_json("agent.status", "agent", "status")[0]["status"]
    assert (status["state"], status["counter"]) == ("serving", 2)
    with choose.opened() as (_, store):
        assert "refused" in [e.action for e in store.entries(subject="sim")]


def test_there_must_be_something_to_go_back_to(project: Path, tmp_path: Path) -> None:
    assert "which model" in run_error("rollback", exit_code=2)["message"]
    repository = choose.repository(config.load())
    publish(repository, tmp_path / "one")
    assert "no earlier release" in run_error("rollback", exit_code=1)["message"]
    assert "is the current one" in run_error("rollback", "--to", "1", exit_code=2)["message"]
    assert "no release 9" in run_error("rollback", "--to", "9", exit_code=1)["message"]
    assert "model 'faces'" in run_error("rollback", "--model", "faces", exit_code=1)["message"]
