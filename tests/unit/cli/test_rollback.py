"""`edgeship rollback`, and the plan behind it, against a real agent with a tiny model."""

from __future__ import annotations

from pathlib import Path

from edgeship import config
from edgeship.cli import choose
from edgeship.release.repository import Repository
from tests.simulators.commandline import run, run_error, run_json
from tests.simulators.served import publish


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
        (entry,) = [e for e in store.entries(subject="sim") if e.action == "deploy.good"]
    assert entry.detail["counter"] == 3
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
        assert "deploy.failed" in [e.action for e in store.entries(subject="sim")]


def test_there_must_be_something_to_go_back_to(project: Path, tmp_path: Path) -> None:
    assert "which model" in run_error("rollback", exit_code=2)["message"]
    repository = choose.repository(config.load())
    publish(repository, tmp_path / "one")
    assert "no earlier release" in run_error("rollback", exit_code=1)["message"]
    assert "is the current one" in run_error("rollback", "--to", "1", exit_code=2)["message"]
    assert "no release 9" in run_error("rollback", "--to", "9", exit_code=1)["message"]
    assert "model 'faces'" in run_error("rollback", "--model", "faces", exit_code=1)["message"]
