"""The fleet's database: devices, contacts, the audit trail, and what can go wrong with the file."""

import sqlite3
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text

from edgeship.deploy.device import Device
from edgeship.errors import StoreError, UsageError
from edgeship.fleet.ingest import ingest
from edgeship.fleet.store import FleetStore, decode_device, encode_device
from tests.simulators.telemetry import window

FULL = Device(
    "pi", "raspberry-pi-5", "ssh", "pi.local", 2222, "pi", "~/.ssh/id", "ssh-ed25519 AAAA", "~/edgeship", 8001,
    ("proot-distro", "login"), "x86_64", "none", {"site": "berlin"},
)  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FleetStore]:
    with FleetStore.open(tmp_path / "deep" / "fleet.db") as opened:
        yield opened


def test_a_device_comes_back_as_it_was(store: FleetStore) -> None:
    store.save_device(FULL)
    store.save_device(Device("a", "generic-arm64"))
    assert store.devices() == [Device("a", "generic-arm64"), FULL]


def test_saving_again_replaces(store: FleetStore) -> None:
    store.save_device(FULL)
    store.save_device(Device("pi", "raspberry-pi-4"))
    assert store.devices() == [Device("pi", "raspberry-pi-4")]


def test_unknown_fields_of_a_record_are_ignored() -> None:
    record = encode_device(FULL).replace("{", '{"later": 1, ', 1)
    assert decode_device(record) == FULL


@pytest.mark.parametrize("name", ["", "../x", "a b", "<script>", "a" * 65, "x'; DROP TABLE devices; --"])
def test_a_name_that_is_not_plain_is_refused(store: FleetStore, name: str) -> None:
    with pytest.raises(UsageError, match="name"):
        store.save_device(Device(name, "p"))


def test_a_removed_device_takes_its_telemetry_along_and_leaves_its_trail(store: FleetStore) -> None:
    store.save_device(FULL)
    ingest(store, "pi", [window(1)])
    store.record_contact("pi", error="gone")
    store.remove_device("pi")
    assert store.devices() == []
    assert [e.action for e in store.entries(subject="pi")] == ["device.remove", "device.add"]
    with store.reading() as connection:
        for table in ("windows", "spools", "rollups", "contacts"):
            assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar() == 0


def test_an_unknown_device_is_an_error_with_a_suggestion(store: FleetStore) -> None:
    store.save_device(FULL)
    with pytest.raises(UsageError) as caught:
        store.remove_device("pii")
    assert caught.value.hint == "did you mean 'pi'?"


def test_a_contact_keeps_what_was_known_when_the_next_one_fails(tmp_path: Path) -> None:
    times = iter(range(100, 200))
    store = FleetStore.open(tmp_path / "f.db")
    store._clock = lambda: next(times)
    store.save_device(FULL)
    assert store.contacts() == {}
    store.record_contact("pi", status={"state": "serving"}, skew=2.5)
    reached = store.contacts()["pi"]
    assert (reached.error, reached.skew, reached.status) == (None, 2.5, {"state": "serving"})
    store.record_contact("pi", error="no route")
    store.record_contact("pi", error="still no route")
    failed = store.contacts()["pi"]
    assert (failed.error, failed.status, failed.reached) == ("still no route", {"state": "serving"}, reached.attempted)
    assert failed.failing_since == failed.attempted - 1
    store.record_contact("pi")
    assert store.contacts()["pi"].failing_since is None
    assert store.contacts()["pi"].status == {"state": "serving"}
    store.close()


def test_only_its_owner_may_read_the_file(tmp_path: Path) -> None:
    FleetStore.open(f"sqlite:///{tmp_path}/f.db").close()
    assert stat.S_IMODE((tmp_path / "f.db").stat().st_mode) == 0o600


def test_the_database_is_set_up(store: FleetStore) -> None:
    with store.reading() as connection:
        pragmas = {p: connection.execute(text(f"PRAGMA {p}")).scalar() for p in ("journal_mode", "foreign_keys")}
        assert connection.execute(text("PRAGMA busy_timeout")).scalar() == 30000
    assert pragmas == {"journal_mode": "wal", "foreign_keys": 1}


def test_a_store_in_memory_works() -> None:
    with FleetStore.open("sqlite://") as store:
        store.save_device(FULL)
        assert store.devices() == [FULL]


def test_a_store_of_another_version_is_refused(tmp_path: Path) -> None:
    FleetStore.open(tmp_path / "f.db").close()
    raw = sqlite3.connect(tmp_path / "f.db")
    raw.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
    raw.commit()
    raw.close()
    with pytest.raises(StoreError, match="version 99"):
        FleetStore.open(tmp_path / "f.db")


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "f.db").write_bytes(b"this is not a database at all" * 100)
    with pytest.raises(StoreError, match=r"f\.db") as caught:
        FleetStore.open(tmp_path / "f.db")
    assert "damaged" in str(caught.value.hint)


def test_a_missing_store_is_not_made_when_it_is_only_read(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no fleet store"):
        FleetStore.open(tmp_path / "f.db", create=False)


@pytest.mark.parametrize("url", ["nonsense://x", "://", "postgresql+nodriver://x/y"])
def test_a_url_that_is_no_database_is_a_usage_error(url: str) -> None:
    with pytest.raises(UsageError, match=r"fleet\.store"):
        FleetStore.open(url)


def test_a_missing_driver_is_named() -> None:
    try:
        import psycopg2  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: F401
    except ModuleNotFoundError:
        with pytest.raises(UsageError, match="psycopg"):
            FleetStore.open("postgresql://nobody@127.0.0.1:1/x")


def test_a_folder_that_cannot_be_made_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="folder"):
        FleetStore.open(tmp_path / "file" / "f.db")


def test_many_writers_at_once_lose_nothing(store: FleetStore) -> None:
    def work(number: int) -> None:
        store.save_device(Device(f"d{number}", "p"))
        store.audit("note", f"d{number}", {"n": number})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(40)))
    assert len(store.devices()) == 40
    assert store.verify_audit().entries == 80
    assert store.verify_audit().whole


def test_an_error_leaves_nothing_half_written(store: FleetStore) -> None:
    def half() -> None:
        with store.writing() as connection:
            connection.execute(text("INSERT INTO meta VALUES ('x', 'y')"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    with store.reading() as connection:
        assert connection.execute(text("SELECT count(*) FROM meta WHERE key = 'x'")).scalar() == 0
