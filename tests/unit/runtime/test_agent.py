"""The whole agent as it runs on a device: the real zipapp as child processes, real models, real signatures."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeship.deploy import loader, zipapp
from edgeship.runtime.window import Window
from tests.simulators.agent import Host, Refused, SimulatedDevice, add_tiny_release
from tests.simulators.repository import SimulatedRepository

#: Coverage would count in the budget of memory; it cannot look into a zipapp anyway.
UNCOVERED = {"COVERAGE_PROCESS_CONFIG": "", "COVERAGE_PROCESS_START": ""}
SUPERVISOR_BUDGET = 10 << 20  # bytes of proportional set size


@pytest.fixture
def device(tmp_path: Path) -> Iterator[SimulatedDevice]:
    """A device that nothing is installed on yet."""
    root = tmp_path / "device"
    device = SimulatedDevice(root, root / "agent" / "current", environment=UNCOVERED)
    yield device
    device.stop()


def first_contact(device: SimulatedDevice, tmp_path: Path) -> Host:
    raw = zipapp.build(tmp_path / "cache")
    argv = [sys.executable, "-c", loader.LOADER, str(device.root)]
    return Host(argv, preface=loader.header(raw) + raw, environment=UNCOVERED)


def test_from_nothing_to_served_updated_refused_cut_and_watched(device: SimulatedDevice, tmp_path: Path) -> None:
    repo = SimulatedRepository()
    first = add_tiny_release(repo, tmp_path, counter=1)
    with first_contact(device, tmp_path) as host:
        hello = host.hello()
        assert hello["agent_sha256"] == device.app.resolve().stem
        assert not hello["enrolled"]
        host.enroll(repo)
        answer = host.push(repo, first)
        assert answer["probe"]["passed"]
        assert [event["stage"] for event in host.events] == ["verify", "start", "probe", "switch"]
        status = host.ask("status")
        assert (status["state"], status["counter"], status["precision"]) == ("serving", 1, "int8")
        assert status["pss"]["supervisor"] <= SUPERVISOR_BUDGET
    assert device.classify()

    second = add_tiny_release(repo, tmp_path, counter=2)
    with device.connect() as host:
        assert host.hello()["enrolled"]
        assert host.push(repo, second)["counter"] == 2
        assert host.classify()
        bad = add_tiny_release(repo, tmp_path, counter=3, bad=True)
        with pytest.raises(Refused) as refused:
            host.push(repo, bad)
        assert refused.value.code == "rolled-back"
        assert host.classify(1)
        host.ask("stop")
        assert host.classify(2)  # started again by the request
        before = host.ask("telemetry", after=0, limit=1000)

    device.kill()
    with device.connect() as host:
        assert device.wait_for("serving")["counter"] == 2
        assert host.classify()
        host.ask("configure", window_seconds=0.1)
        after = host.ask("telemetry", spool=before["spool"], after=before["windows"][-1]["seq"], limit=1000)
        while sum(window["requests"]["ok"] for window in after["windows"]) < 1:
            after = host.ask("telemetry", spool=before["spool"], after=before["windows"][-1]["seq"], limit=1000)
        host.ask("telemetry", ack=after["windows"][-1]["seq"])
        status = host.ask("status")
        assert status["windows"]["first"] > after["windows"][-1]["seq"]

    windows = [Window.parse(window) for window in (*before["windows"], *after["windows"])]
    assert [window.seq for window in windows] == list(range(1, len(windows) + 1))
    counted = {counter: sum(w.ok for w in windows if w.counter == counter) for counter in (1, 2, 3)}
    assert counted == {1: 1, 2: 3, 3: 0}  # one more on release 2 was in the window that the power cut took
    kinds = [event["kind"] for window in windows for event in window.events]
    assert {"boot", "switch", "revert", "stop"} <= set(kinds)


def test_the_loader_refuses_what_was_changed_on_the_way(device: SimulatedDevice, tmp_path: Path) -> None:
    raw = bytearray(zipapp.build(tmp_path / "cache"))
    head = loader.header(bytes(raw))
    raw[1000] ^= 1
    host = Host([sys.executable, "-c", loader.LOADER, str(device.root)], preface=head + raw)
    assert host.close() == 1
    assert not device.root.exists()


def test_an_agent_upgrades_itself_on_the_open_channel(device: SimulatedDevice, tmp_path: Path) -> None:
    """Another build of the agent takes over: the supervisor is restarted, the connection goes on."""
    import io
    import zipfile

    repo = SimulatedRepository()
    release = add_tiny_release(repo, tmp_path)
    other = io.BytesIO(zipapp.build(tmp_path / "cache"))
    with zipfile.ZipFile(other, "a") as archive:
        archive.writestr("note.txt", "another build")
    newer = other.getvalue()
    broken = io.BytesIO()
    with zipfile.ZipFile(broken, "w") as archive:
        archive.writestr("__main__.py", "raise SystemExit(1)")
    with first_contact(device, tmp_path) as host:
        host.hello()
        host.enroll(repo)
        host.push(repo, release)
        before = host.ask("status")["pid"]
        with pytest.raises(Refused) as refused:
            host.put("agent", broken.getvalue(), name="agent")
        assert refused.value.code == "unfit"
        assert host.ask("status")["pid"] == before

        host.put("agent", newer, name="agent")
        assert host.hello()["agent_sha256"] == hashlib.sha256(newer).hexdigest()
        assert host.ask("status")["pid"] != before
        device.wait_for("serving")
        assert host.classify()
        host.push(repo, add_tiny_release(repo, tmp_path, counter=2))
        installed = sorted(path.name for path in (device.root / "agent").iterdir())
        assert installed == sorted([f"{hashlib.sha256(newer).hexdigest()}.pyz", "current"])
