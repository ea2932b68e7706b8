"""Every device with its verdict, from contacts, deployments and telemetry together."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeship.deploy.device import Device
from edgeship.fleet.ingest import ingest
from edgeship.fleet.overview import Limits, assess, counts, recent_span, throttle_limits
from edgeship.fleet.store import FleetStore
from edgeship.fleet.timeline import Contact
from tests.simulators.clock import Clock
from tests.simulators.telemetry import SimulatedDevice

NOW = 1_800_000_000.0
PI = Device("pi", "raspberry-pi-5")


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[FleetStore]:
    with FleetStore.open(tmp_path / "f.db") as made:
        made._clock = clock
        made.save_device(PI)
        yield made


def test_a_deployment_counts_as_a_contact(store: FleetStore) -> None:
    store.audit("deploy.good", "pi", {"model": "digits", "counter": 3, "precision": "int8"})
    (one,) = assess(store, [PI], Limits())
    assert (one.health.status, one.release, one.precision) == ("stale", "digits #3", "int8")


def test_a_deployment_after_a_failed_contact_takes_its_place(store: FleetStore, clock: Clock) -> None:
    store.record_contact("pi", status={"model": "digits", "counter": 1, "format": "tflite"}, skew=1.5)
    store.record_contact("pi", error="no route")
    clock.now += 60
    store.audit("deploy.good", "pi", {"model": "digits", "counter": 2})
    (one,) = assess(store, [PI], Limits())
    assert one.release == "digits #2"
    assert one.contact is not None
    assert (one.contact.error, one.contact.skew, one.contact.status["format"]) == (None, 1.5, "tflite")


def test_a_contact_after_a_deployment_is_the_newer_word(store: FleetStore, clock: Clock) -> None:
    store.audit("deploy.good", "pi", {"model": "digits", "counter": 2})
    clock.now += 60
    store.record_contact("pi", status={"model": "digits", "counter": 1})
    assert assess(store, [PI], Limits())[0].release == "digits #1"


def test_the_last_hour_is_judged_by_the_limits(store: FleetStore) -> None:
    ingest(store, "pi", SimulatedDevice("pi", celsius=80.0).windows(NOW - 3600, NOW), Contact(NOW, NOW))
    store.record_contact("pi", status={"state": "serving"})
    assert counts(assess(store, [PI], Limits())) == {"online": 1, "degraded": 0, "stale": 0, "offline": 0}
    hot = assess(store, [PI], Limits(throttle_celsius={"raspberry-pi-5": 85.0}))[0]
    assert "throttles at 85" in hot.health.reason
    assert "budget 1 ms" in assess(store, [PI], Limits(budget_p95=0.001))[0].health.reason


def test_what_a_status_lies_about_is_nothing(store: FleetStore) -> None:
    store.record_contact("pi", status={"model": ["x"], "counter": "3", "precision": 8})
    (one,) = assess(store, [PI], Limits())
    assert (one.model, one.counter, one.precision, one.release) == (None, None, None, None)


def test_a_large_fleet_is_judged_by_whole_hours() -> None:
    assert recent_span(NOW, 10).seconds == 3600
    many = recent_span(NOW + 1234, 2000)
    assert many.start % 3600 == many.end % 3600 == 0
    assert many.start <= NOW + 1234 - 3600
    assert many.end >= NOW + 1234


def test_the_profile_knows_when_a_board_throttles() -> None:
    limits = throttle_limits([PI, Device("x", "no-such-profile"), Device("y", "generic-x86-64")])
    assert limits == {"raspberry-pi-5": 85.0}
