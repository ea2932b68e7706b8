"""Pulling: everything once, acknowledged after the commit, one device's failure its own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeship.deploy.device import Device
from edgeship.deploy.fleet_run import fold
from edgeship.errors import AuthError, DeviceError, PartialFailure, StoreError, UnreachableError
from edgeship.fleet import pull as pulling
from edgeship.fleet import query
from edgeship.fleet.ingest import cursor
from edgeship.fleet.pull import contact, known_status, pull, pull_one
from edgeship.fleet.store import FleetStore
from edgeship.reporter import Reporter, Step
from tests.simulators.telemetry import Agent, window

NOW = 1_800_100_000.0
PI, JETSON = Device("pi", "p"), Device("jetson", "p")
ALL = query.Span(NOW - 200_000, NOW)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FleetStore]:
    with FleetStore.open(tmp_path / "fleet.db") as made:
        made._clock = lambda: NOW
        made.save_device(PI)
        made.save_device(JETSON)
        yield made


def windows(*seqs: int, **fields: Any) -> list[Any]:
    return [window(n, **fields) for n in seqs]


def run(agent: Any, store: FleetStore, reporter: Reporter | None = None) -> Any:
    return pull_one(PI, lambda _device: agent, store, reporter or Reporter())


def test_everything_comes_once_and_is_acknowledged(store: FleetStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "PAGE", 4)
    agent = Agent(windows(*range(1, 11)), clock=NOW)
    got = run(agent, store)
    assert (got.stored, agent.acked, agent.closed) == (10, 10, True)
    again = run(agent, store)
    assert (again.stored, again.duplicates) == (0, 0)
    asked = [a for a in agent.asked if "after" in a]
    assert [(a["spool"], a["after"]) for a in asked] == [(None, 0), ("spool-a", 4), ("spool-a", 8), ("spool-a", 10)]
    assert query.totals(store, ["pi"], ALL)["pi"].windows == 10


def test_nothing_is_acknowledged_before_it_is_committed(store: FleetStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object) -> None:
        raise StoreError("disk full")

    monkeypatch.setattr(pulling, "ingest", broken)
    agent = Agent(windows(1))
    with pytest.raises(StoreError):
        run(agent, store)
    assert agent.acked is None
    assert store.contacts()["pi"].error is None  # the device is not to blame


def _raise(error: Exception) -> Any:
    raise error


def test_a_connection_that_breaks_after_the_commit_doubles_nothing(store: FleetStore) -> None:
    agent = Agent(windows(1, 2, 3), clock=NOW)

    def breaks(_op: str, fields: dict[str, Any]) -> None:
        if "ack" in fields:
            raise UnreachableError("the connection broke", device="pi")

    agent.answer = breaks
    with pytest.raises(UnreachableError):
        run(agent, store)
    assert store.contacts()["pi"].error == "the connection broke"
    agent.answer = lambda _op, _fields: None
    agent.windows += windows(4)
    assert run(agent, store).stored == 1
    assert query.totals(store, ["pi"], ALL)["pi"].windows == 4
    assert store.contacts()["pi"].error is None


def test_a_new_spool_is_read_from_its_beginning(store: FleetStore) -> None:
    agent = Agent(windows(1, 2, 3), clock=NOW)
    run(agent, store)
    agent.windows = windows(1, 2, spool="spool-b", boot="boot-b")
    assert run(agent, store).stored == 2
    at = cursor(store, "pi")
    assert at is not None
    assert at.spool == "spool-b"


def test_windows_that_the_device_lost_are_told(store: FleetStore) -> None:
    class Told(Reporter):
        def finished(self, step: Step, summary: str, data: Any = None) -> None:
            said.append(f"{step.subject}: {summary}")

    said: list[str] = []
    got = run(Agent(windows(1, 5), clock=NOW), store, Told())
    assert got.missing == 3
    assert said == ["pi: 2 windows, 3 lost on the device"]


def test_the_clock_at_contact_places_the_windows(store: FleetStore) -> None:
    past = -30 * 365 * 86_400.0
    agent = Agent(windows(1, 2, start=NOW - 120 + past), clock=NOW + past)
    run(agent, store)
    assert query.newest(store)["pi"].end == pytest.approx(NOW)
    assert store.contacts()["pi"].skew == pytest.approx(-past)


def test_many_devices_and_one_that_fails(store: FleetStore) -> None:
    agents: dict[str, Any] = {"pi": Agent(windows(1), clock=NOW), "jetson": None}

    def connect(device: Device) -> Any:
        if agents[device.name] is None:
            raise AuthError("host key changed", device=device.name)
        return agents[device.name]

    outcomes = pull([PI, JETSON], connect, store, Reporter())
    assert [(o.device.name, o.result and o.result.stored) for o in outcomes] == [("pi", 1), ("jetson", None)]
    folded = fold(outcomes)
    assert isinstance(folded, PartialFailure)
    assert (folded.exit_code, list(folded.failures)) == (3, ["jetson"])
    assert outcomes[0].result is not None
    assert outcomes[0].result.encode() == {"device": "pi", "stored": 1, "duplicates": 0, "missing": 0}


@pytest.mark.parametrize(
    "lie",
    [
        {"spool": "spool-a", "windows": [{"schema": "x"}], "more": False},
        {"spool": "spool-a", "windows": "x" * 1000, "more": False},
        {"spool": "<script>", "windows": [], "more": False},
        {"spool": "spool-a", "windows": [window(1).encode()], "more": True},  # for ever
    ],
)
def test_a_device_that_lies_is_an_error_of_that_device(store: FleetStore, lie: dict[str, Any]) -> None:
    agent = Agent([], clock=NOW)
    agent.answer = lambda op, fields: lie if op == "telemetry" and "ack" not in fields else None
    with pytest.raises(DeviceError) as caught:
        run(agent, store)
    assert (caught.value.code, caught.value.device) == ("protocol", "pi")
    assert "not what an agent sends" in str(store.contacts()["pi"].error)


def test_a_contact_asks_for_the_status_alone(store: FleetStore) -> None:
    agent = Agent(windows(1), clock=NOW)
    assert contact([PI], lambda _device: agent, store, Reporter())[0].error is None
    assert [a["op"] for a in agent.asked] == ["status"]
    assert store.contacts()["pi"].status["state"] == "serving"
    failed = contact([PI], lambda _device: _raise(UnreachableError("no route")), store, Reporter())
    assert isinstance(failed[0].error, UnreachableError)


def test_a_device_without_a_clock_has_no_skew(store: FleetStore) -> None:
    run(Agent(windows(1)), store)
    assert store.contacts()["pi"].skew is None


def test_what_a_status_holds_is_bounded() -> None:
    said = {
        "state": "x" * 10_000, "model": ["digits"], "counter": True, "uptime_seconds": float("inf"), "clock": 5,
        "worker_restarts": 1 << 80, "pss": {"supervisor": 9e6, "worker": "much"}, "evil": "y" * 10_000, "expired": True,
    }  # fmt: skip
    assert known_status(said) == {"state": "x" * 100, "clock": 5, "expired": True, "pss": {"supervisor": 9_000_000}}
    assert known_status({"pss": 3}) == {}
