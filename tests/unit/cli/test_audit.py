"""The audit trail on the command line: what was done, and whether the trail is whole."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from edgeship.cli import choose
from edgeship.fleet import audit
from tests.simulators.commandline import run, run_error, run_json


@pytest.fixture
def trail(project: Path) -> Path:
    """The database of a project in which two things were done after its set-up."""
    with choose.opened() as (opened, store):
        store.audit("release.publish", "digits", {"counter": 1, "skipped": True, "approved_by": "kim"})
        store.audit("deploy.good", "sim", {"model": "digits", "counter": 1, "error": None})
        return Path(opened.fleet.store.removeprefix("sqlite:///"))


def test_the_newest_comes_first_and_a_skipped_check_is_told(trail: Path) -> None:
    entries = run_json("audit.list", "audit", "list")
    assert [e["action"] for e in entries][:2] == ["deploy.good", "release.publish"]
    assert [e["id"] for e in entries] == sorted((e["id"] for e in entries), reverse=True)
    assert [e["subject"] for e in run_json("audit.list", "audit", "list", "--subject", "sim", "--limit", "1")] == [
        "sim"
    ]
    shown = run("audit", "list").stdout
    assert "approved_by=kim, counter=1, skipped=True" in shown
    assert "error" not in shown


def test_a_whole_trail_gives_the_hash_to_note_and_takes_it_back(trail: Path) -> None:
    found = run_json("audit.verify", "audit", "verify")
    assert (found["whole"], found["broken"], found["reason"]) == (True, None, None)
    assert found["newest"] == run_json("audit.list", "audit", "list")[0]["hash"]
    with choose.opened() as (_, store):
        store.audit("deploy.failed", "sim", {})
    again = run_json("audit.verify", "audit", "verify", "--noted", found["newest"])
    assert (again["whole"], again["entries"]) == (True, found["entries"] + 1)
    other = run_json("audit.verify", "audit", "verify", "--noted", audit.digest(
        dict.fromkeys(("id", "at", "actor", "action", "subject", "detail", "previous"), "")
    ), exit_code=1)  # fmt: skip
    assert "no entry has the hash that was noted" in other["reason"]
    assert "is no hash of an entry" in run_error("audit", "verify", "--noted", "abc", exit_code=2)["message"]


def test_what_was_changed_around_the_database_is_found(trail: Path) -> None:
    raw = sqlite3.connect(trail)
    raw.executescript("DROP TRIGGER audit_no_update; UPDATE audit SET detail = '{}' WHERE action = 'release.publish'")
    raw.close()
    found = run_json("audit.verify", "audit", "verify", exit_code=1)
    assert (found["whole"], found["reason"]) == (False, f"entry {found['broken']} was changed")
    assert found["entries"] == found["broken"] - 1
    result = run("audit", "verify", exit_code=1)
    assert "NOT WHOLE: entry" in result.stdout
    assert "compare the fleet's database with a copy of before" in result.stderr
