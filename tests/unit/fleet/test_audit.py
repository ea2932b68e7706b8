"""The audit trail only grows, and shows what was changed around the database."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeship.errors import StoreError
from edgeship.fleet import audit
from edgeship.fleet.store import FleetStore

UNDO = "DROP TRIGGER audit_no_update; DROP TRIGGER audit_no_delete;"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FleetStore]:
    with FleetStore.open(tmp_path / "f.db") as opened:
        for number in range(1, 6):
            opened.audit("deploy.good", "pi", {"model": "digits", "counter": number})
        yield opened


def tamper(tmp_path: Path, statements: str) -> None:
    raw = sqlite3.connect(tmp_path / "f.db")
    raw.executescript(statements)
    raw.close()


def test_a_whole_trail_verifies(store: FleetStore) -> None:
    verdict = store.verify_audit()
    assert (verdict.whole, verdict.entries, verdict.head) == (True, 5, store.entries(limit=1)[0].hash)


def test_an_empty_trail_verifies(tmp_path: Path) -> None:
    with FleetStore.open(tmp_path / "empty.db") as store:
        assert store.verify_audit() == audit.Verdict(0, audit.GENESIS)


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'x'", "DELETE FROM audit WHERE id = 5"])
def test_the_database_refuses_to_change_or_drop_entries(store: FleetStore, statement: str) -> None:
    with pytest.raises(StoreError, match="only grows"), store.writing() as connection:
        connection.exec_driver_sql(statement)
    assert store.verify_audit().whole


@pytest.mark.parametrize(
    ("statement", "broken", "reason"),
    [
        ("UPDATE audit SET detail = '{}' WHERE id = 3", 3, "changed"),
        ("UPDATE audit SET at = at + 1 WHERE id = 1", 1, "changed"),
        ("UPDATE audit SET actor = 'somebody' WHERE id = 5", 5, "changed"),
        ("DELETE FROM audit WHERE id = 3", 3, "missing"),
        ("DELETE FROM audit WHERE id = 1", 1, "missing"),
        ("DELETE FROM audit WHERE id > 3", 4, "newest"),
        ("UPDATE audit SET previous = hash WHERE id = 4", 4, "does not follow"),
    ],
)
def test_tampering_is_found(store: FleetStore, tmp_path: Path, statement: str, broken: int, reason: str) -> None:
    tamper(tmp_path, UNDO + statement)
    verdict = store.verify_audit()
    assert (verdict.whole, verdict.broken) == (False, broken)
    assert reason in verdict.reason


def test_a_rehashed_entry_breaks_the_one_behind_it(store: FleetStore, tmp_path: Path) -> None:
    entry = store.entries()[2]
    row = {"id": entry.id, "at": entry.at, "actor": entry.actor, "action": entry.action, "subject": entry.subject,
           "detail": "{}", "previous": entry.previous}  # fmt: skip
    tamper(tmp_path, UNDO + f"UPDATE audit SET detail = '{{}}', hash = '{audit.digest(row)}' WHERE id = {entry.id}")
    assert store.verify_audit().broken == entry.id + 1


def test_a_trail_that_was_written_anew_lacks_what_was_noted(store: FleetStore, tmp_path: Path) -> None:
    """Every hash fits then; only who knows one of before can tell."""
    noted = store.verify_audit().head
    store.audit("deploy.good", "pi", {"model": "digits", "counter": 6})
    assert store.verify_audit(noted).whole
    assert store.verify_audit(audit.GENESIS).whole
    with FleetStore.open(tmp_path / "anew.db") as other:
        for number in range(1, 7):
            other.audit("deploy.good", "pi", {"model": "digits", "counter": number, "by": "somebody else"})
        assert other.verify_audit().whole
        verdict = other.verify_audit(noted)
    assert (verdict.whole, verdict.entries, verdict.broken) == (False, 6, None)
    assert f"no entry has the hash that was noted, {noted}" in verdict.reason


def test_entries_are_found_by_subject_and_action(store: FleetStore) -> None:
    store.audit("device.add", "jetson", {})
    store.audit("deploy.failed", "pi", {"model": "digits", "counter": 4})
    assert [e.subject for e in store.entries(subject="jetson")] == ["jetson"]
    assert [e.release for e in store.deployments(limit=2)] == ["digits #4", "digits #5"]
    assert store.entries(limit=1)[0].encode()["action"] == "deploy.failed"
    assert store.entries(actions=["device.add"])[0].release == ""
    with store.reading() as connection:
        assert audit.read(connection, until=0.0) == []


def test_the_actor_is_known_even_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError

    assert "@" in audit.actor()
    monkeypatch.setattr("getpass.getuser", nobody)
    assert audit.actor().startswith("unknown@")
