"""Many devices at once, and the exit code that their outcomes mean together."""

import threading
from typing import Any

import pytest

from edgeship.deploy.device import Device
from edgeship.deploy.fleet_run import Outcome, fleet_run, fold, raise_for
from edgeship.errors import (
    DeviceError,
    EdgeshipError,
    Interrupted,
    PartialFailure,
    RolledBackError,
    UnfitError,
    UnreachableError,
)

DEVICES = [Device(f"pi{n}", "p") for n in range(6)]


def outcome(n: int, error: EdgeshipError | None) -> Outcome[int]:
    return Outcome(DEVICES[n], None if error else 1, error)


def test_outcomes_come_in_the_order_of_the_devices_and_are_told_as_they_end() -> None:
    told: list[str] = []

    found = fleet_run(DEVICES, lambda d: d.name.upper(), 3, on_outcome=lambda o: told.append(o.device.name))

    assert [o.result for o in found] == [d.name.upper() for d in DEVICES]
    assert sorted(told) == [d.name for d in DEVICES]
    assert all(o.ok for o in found)
    assert fold(found) is None


def test_no_devices_no_work() -> None:
    assert fleet_run([], lambda d: d) == []


def test_so_many_at_once_and_no_more() -> None:
    lock, running, most = threading.Lock(), [0], [0]
    gate = threading.Barrier(2)

    def job(_: Device) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        gate.wait(10)
        with lock:
            running[0] -= 1

    fleet_run(DEVICES, job, 2)
    assert most == [2]


def test_an_error_is_an_outcome_and_so_is_a_defect() -> None:
    def job(device: Device) -> int:
        if device.name == "pi1":
            raise UnfitError("disk", device="pi1")
        if device.name == "pi2":
            raise ZeroDivisionError("oops")
        return 1

    found = fleet_run(DEVICES, job)

    assert isinstance(found[1].error, UnfitError)
    assert isinstance(found[2].error, DeviceError)
    assert "a defect of edgeship" in str(found[2].error)
    assert isinstance(found[2].error.__cause__, ZeroDivisionError)
    assert found[3].ok


def test_ctrl_c_ends_the_host_at_once() -> None:
    started = threading.Event()

    def told(_: Outcome[Any]) -> None:
        raise KeyboardInterrupt

    def job(device: Device) -> int:
        if device.name != "pi0":
            started.wait(10)
        return 1

    with pytest.raises(Interrupted, match="1 of 6 devices were done") as error:
        fleet_run(DEVICES, job, 2, on_outcome=told)
    started.set()
    assert error.value.exit_code == 130


def test_ctrl_c_while_jobs_are_started_ends_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start
    ran: list[str] = []
    workers: list[threading.Thread] = []

    def interrupted(thread: threading.Thread) -> None:
        if workers:
            raise KeyboardInterrupt
        workers.append(thread)
        start(thread)

    def job(device: Device) -> int:
        ran.append(device.name)
        go_on.wait(10)
        return 1

    go_on = threading.Event()
    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(Interrupted, match="0 of 6 devices were done"):
        fleet_run(DEVICES, job, 2)
    go_on.set()
    workers[0].join(10)
    assert ran in ([], ["pi0"])


@pytest.mark.parametrize(
    ("errors", "code"),
    [
        ([None, None], None),
        ([RolledBackError("x")], 7),
        ([UnreachableError("a"), UnreachableError("b")], 5),
        ([UnreachableError("a"), RolledBackError("b")], 3),
        ([UnreachableError("a"), None], 3),
        ([None, UnfitError("a", hint="free some"), UnfitError("b", hint="free some")], 3),
    ],
)
def test_outcomes_fold_to_one_exit_code(errors: list[EdgeshipError | None], code: int | None) -> None:
    error = fold([outcome(n, e) for n, e in enumerate(errors)])
    assert (error and error.exit_code) == code


def test_a_single_device_keeps_its_own_error() -> None:
    own = RolledBackError("agreement 0.1", device="pi0", log=["x"])
    assert fold([outcome(0, own)]) is own
    with pytest.raises(RolledBackError):
        raise_for([outcome(0, own)])
    raise_for([outcome(0, None)])


def test_all_for_the_same_reason_say_so() -> None:
    first = UnreachableError("pi0: off", device="pi0", hint="switch it on")
    error = fold([outcome(0, first), outcome(1, UnreachableError("pi1: off"))])

    assert isinstance(error, UnreachableError)
    assert str(error) == "all 2 devices failed: pi0: off"
    assert error.hint == "switch it on"
    assert error.__cause__ is first


def test_a_partial_failure_names_the_devices_and_the_fixes_once() -> None:
    error = fold([outcome(0, None), outcome(1, UnfitError("a", hint="fix")), outcome(2, UnfitError("b", hint="fix"))])

    assert isinstance(error, PartialFailure)
    assert str(error) == "2 of 3 devices failed: pi1, pi2"
    assert error.hint == "fix"
    assert set(error.failures) == {"pi1", "pi2"}
