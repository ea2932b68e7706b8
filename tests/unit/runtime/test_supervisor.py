"""The supervisor keeps a model served: crashes, crash loops, switches under load, bad releases, expiry."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from edgeship.runtime import supervisor as module
from edgeship.runtime.disk import Disk
from edgeship.runtime.errors import AgentError
from edgeship.runtime.layout import Layout
from edgeship.runtime.supervisor import Supervisor, pause
from tests.simulators.agent import Refused, SimulatedDevice, add_tiny_release, development_app
from tests.simulators.repository import SimulatedRepository


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return development_app(tmp_path_factory.mktemp("agent"))


@pytest.fixture
def repo() -> SimulatedRepository:
    return SimulatedRepository()


@pytest.fixture
def device(app: Path, tmp_path: Path, repo: SimulatedRepository) -> Iterator[SimulatedDevice]:
    """A device that serves release 1."""
    device = SimulatedDevice(tmp_path / "device", app)
    with device.connect() as host:
        host.enroll(repo)
        host.push(repo, add_tiny_release(repo, tmp_path, counter=1))
    yield device
    device.stop()


def until(condition: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def push(device: SimulatedDevice, repo: SimulatedRepository, folder: Path, **release: Any) -> dict[str, Any]:
    with device.connect() as host:
        return host.push(repo, add_tiny_release(repo, folder, **release))


def kill_worker(device: SimulatedDevice) -> None:
    """Kill the worker and wait until that was noticed."""
    status = device.wait_for("serving")
    os.kill(status["worker_pid"], signal.SIGKILL)
    until(lambda: device.control("status")["worker_pid"] != status["worker_pid"], "the death was not noticed")


def events(device: SimulatedDevice) -> list[str]:
    """Kinds of events in windows that are closed (the next switch or stop closes one)."""
    windows = device.control("telemetry", after=0, limit=1000)["windows"]
    return [event["kind"] for window in windows for event in window["events"]]


# ── workers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_worker_that_dies_is_started_again(device: SimulatedDevice) -> None:
    kill_worker(device)
    assert device.classify()  # waits for the next worker
    status = device.control("status")
    assert (status["state"], status["worker_restarts"], status["counter"]) == ("serving", 1, 1)


def test_a_crash_loop_goes_back_to_the_release_before(
    device: SimulatedDevice, repo: SimulatedRepository, tmp_path: Path
) -> None:
    push(device, repo, tmp_path, counter=2)
    for _ in range(module.MAX_FAILURES):
        kill_worker(device)
    until(lambda: device.control("status")["counter"] == 1, "it did not go back")
    assert device.wait_for("serving")["counter"] == 1
    assert device.classify()
    assert "failed 3 times" in device.control("status")["outcome"]
    assert "revert" in events(device)
    device.kill()
    assert device.wait_for("serving")["counter"] == 1  # and stays there
    with device.connect() as host:  # the same release may come again: its counter is the floor, its content the same
        release = add_tiny_release(repo, tmp_path, counter=2)
        assert host.push(repo, release)["counter"] == 2


def test_a_crash_loop_of_the_only_release_is_told_and_ends_with_the_next(
    device: SimulatedDevice, repo: SimulatedRepository, tmp_path: Path
) -> None:
    for _ in range(module.MAX_FAILURES):
        kill_worker(device)
    until(lambda: device.control("status")["state"] == "crash-loop", "no crash loop")
    with device.connect() as host:
        assert host.ask("http", b"", method="GET", path="/v2/models/digits", headers={})["status"] == 503
    assert push(device, repo, tmp_path, counter=2)["counter"] == 2
    assert device.classify()


def test_a_model_file_that_was_damaged_is_not_loaded(
    device: SimulatedDevice, repo: SimulatedRepository, tmp_path: Path
) -> None:
    release = add_tiny_release(repo, tmp_path, counter=2, format="onnx")
    with device.connect() as host:
        host.push(repo, release)
    device.stop()
    model = device.root / "blobs" / release.manifest.variants[0].file.sha256
    model.chmod(0o600)
    model.write_bytes(b"x" + model.read_bytes()[1:])
    status = device.wait_for("serving")
    assert status["counter"] == 1
    assert device.classify()


def test_pauses_grow_and_are_bounded() -> None:
    pauses = [pause(failures) for failures in range(12)]
    assert pauses[0] == 0
    assert pauses == sorted(pauses)
    assert pauses[-1] == 30


# ── installs ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_request_is_lost_while_releases_change(
    device: SimulatedDevice, repo: SimulatedRepository, tmp_path: Path
) -> None:
    done = threading.Event()
    answers: list[object] = []

    def ask() -> None:
        while not done.is_set():
            try:
                answers.append(device.classify(len(answers) % 10))
            except Exception as error:  # it is what the test looks for
                answers.append(error)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for counter in (2, 3):
            push(device, repo, tmp_path, counter=counter)
        with pytest.raises(Refused):
            push(device, repo, tmp_path, counter=4, bad=True)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert len(answers) > 10
    assert set(answers) == {True}
    until(lambda: len(device.processes()) == 2, "old workers are left")


def test_a_bad_release_is_tried_three_times_and_replays_are_refused(
    device: SimulatedDevice, repo: SimulatedRepository, tmp_path: Path
) -> None:
    first = push(device, repo, tmp_path, counter=2)
    assert first["probe"]["agreement"] == 1.0
    bad = add_tiny_release(repo, tmp_path, counter=3, bad=True)
    with device.connect() as host:
        for _ in range(3):
            with pytest.raises(Refused) as refused:
                host.push(repo, bad)
            assert refused.value.code == "rolled-back"
            assert "agree" in refused.value.message
        with pytest.raises(Refused, match="failed 3 times since this boot"):
            host.push(repo, bad)
        assert host.ask("status")["counter"] == 2
        with pytest.raises(Refused) as replayed:
            host.push(repo, add_tiny_release(repo, tmp_path, counter=1))
        assert replayed.value.code == "replayed"
        with pytest.raises(Refused) as unknown:
            host.ask("switch", manifest="digits/manifest.json", sha256="0" * 64)
        assert unknown.value.code == "untrusted"
    slots = sorted(path.name.partition("-")[0] for path in (device.root / "slots").iterdir())
    assert slots == ["1", "2"]


def test_the_same_release_again_is_probed_and_kept(
    device: SimulatedDevice, repo: SimulatedRepository, tmp_path: Path
) -> None:
    release = add_tiny_release(repo, tmp_path, counter=2)
    with device.connect() as host:
        host.push(repo, release)
        pid = host.ask("status")["worker_pid"]
        again = host.push(repo, release)
        assert (again["counter"], again["probe"]["passed"]) == (2, True)
        assert host.ask("status")["worker_pid"] == pid


#: The agent, whose verifier waits for a file beside it.
HELD = """
import os, sys, time
sys.path[0] = os.path.realpath(sys.path[0])
from edgeship.runtime import install
run = install.run
def held(*args):
    while not os.path.exists(sys.path[0] + "/go"):
        time.sleep(0.01)
    return run(*args)
install.run = held
from edgeship.runtime.__main__ import main
sys.exit(main())
"""


def test_one_install_at_a_time(repo: SimulatedRepository, tmp_path: Path) -> None:
    app = development_app(tmp_path, HELD)
    device = SimulatedDevice(tmp_path / "device", app)
    release = add_tiny_release(repo, tmp_path)
    try:
        with device.connect() as host:
            host.enroll(repo)
            host.stage(repo)
            host.send("switch", manifest=release.target, sha256=release.sha256)
            path = device.root / "log" / "agent.log"
            until(lambda: path.exists() and "verify:" in path.read_text(), "the install did not begin")
            with pytest.raises(Refused) as refused:
                device.control("switch", manifest=release.target, sha256=release.sha256)
            assert refused.value.code == "busy"
            (app / "go").touch()
            assert host.receive()["counter"] == 1
    finally:
        device.stop()


def log(device: SimulatedDevice) -> list[str]:
    return (device.root / "log" / "agent.log").read_text().splitlines()


#: The agent with a clock that is ahead by as many seconds as a file beside it says.
AHEAD = """
import os, sys, time
sys.path[0] = os.path.realpath(sys.path[0])
_real = time.time
def ahead():
    with open(sys.path[0] + "/ahead") as file:
        return _real() + float(file.read())
time.time = ahead
from edgeship.runtime.__main__ import main
sys.exit(main())
"""


def test_expired_metadata_keeps_serving_and_refuses_new(repo: SimulatedRepository, tmp_path: Path) -> None:
    app = development_app(tmp_path, AHEAD)
    clock = app / "ahead"
    clock.write_text("0")
    (tmp_path / "later").write_text("1260")
    device = SimulatedDevice(tmp_path / "device", app)
    try:
        repo.timestamp.expires = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=20)
        with device.connect() as host:
            host.enroll(repo)
            host.push(repo, add_tiny_release(repo, tmp_path, counter=2))
        assert not device.control("status")["expired"]
        (tmp_path / "later").replace(clock)
        assert device.control("status")["expired"]
        assert device.classify()
        with pytest.raises(Refused) as refused:
            push(device, repo, tmp_path, counter=3)
        assert refused.value.code == "expired"
        assert device.classify()
    finally:
        device.stop()


def test_a_bench_is_run_by_the_worker(device: SimulatedDevice) -> None:
    found = device.control("bench", runs=20, warmup=2, max_seconds=10)
    assert len(found["latencies_us"]) == 20
    with pytest.raises(Refused) as refused:
        device.control("bench", runs=-1, warmup=0, max_seconds=1)
    assert refused.value.code == "bad-request"


# ── the process ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_supervisor_a_folder(device: SimulatedDevice) -> None:
    pid = device.control("status")["pid"]
    second = subprocess.run(device.argv("supervise", "--root", str(device.root)), check=False, timeout=60)
    assert second.returncode == 0
    assert device.control("status")["pid"] == pid


def test_it_has_a_session_of_its_own_and_survives_a_hang_up(device: SimulatedDevice) -> None:
    pid = device.control("status")["pid"]
    assert os.getsid(pid) == pid
    os.kill(pid, signal.SIGHUP)
    assert device.control("status")["pid"] == pid
    targets = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1)}
    assert targets == {"/dev/null"}


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_in_order(device: SimulatedDevice, how: signal.Signals) -> None:
    status = device.control("status")
    os.kill(status["pid"], how)
    until(lambda: not device.processes(), "something is left")
    assert not os.path.exists(status["serve"]["socket"])
    assert "stop" in events_after_restart(device)


def events_after_restart(device: SimulatedDevice) -> list[str]:
    device.wait_for("serving")
    return events(device)


def test_windows_close_in_time_and_are_acknowledged(device: SimulatedDevice) -> None:
    with device.connect() as host:
        host.ask("configure", window_seconds=0.2)
        assert host.classify()

        def counted() -> int:
            windows = host.ask("telemetry", after=0, limit=100)["windows"]
            return sum(window["requests"]["ok"] for window in windows if window["counter"] == 1)

        until(counted, "no window")
        answer = host.ask("telemetry", after=0, limit=100)
        assert counted() == 1
        assert "load" in answer["windows"][-1]["sensors"]
        last = answer["windows"][-1]["seq"]
        host.ask("telemetry", ack=last, spool="another")  # not this spool's
        assert host.ask("status")["windows"]["first"] == 1
        host.ask("telemetry", ack=last)
        until(lambda: host.ask("telemetry", after=last, limit=100)["windows"], "no more windows")
        assert host.ask("telemetry", after=last, limit=1)["windows"][0]["seq"] == last + 1
        assert host.ask("telemetry", spool="another", after=10_000, limit=1)["windows"], (
            "a stranger's number counts not"
        )


@pytest.mark.parametrize("replaced", [False, True])
def test_it_ends_when_its_folder_is_taken_away(device: SimulatedDevice, replaced: bool) -> None:
    """`rm -rf .edgeship`, a project that is deleted: nothing may serve on for ever, out of anybody's reach."""
    assert device.processes()
    shutil.rmtree(device.root)
    if replaced:
        device.root.mkdir()
    until(lambda: not device.processes(), "something is left")
    assert not replaced or not any(device.root.iterdir())


def test_a_port_that_is_taken_is_told_and_tried_again(device: SimulatedDevice) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with device.connect() as host:
            host.ask("configure", serve_port=port)
            until(lambda: any("cannot serve on port" in line for line in log(device)), "not told")
            assert host.ask("status")["serve"]["port"] is None
    until(lambda: device.control("status")["serve"]["port"] == port, "not tried again")


# ── the loop, without a process ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def idle(tmp_path: Path) -> Iterator[Supervisor]:
    """A supervisor whose loop is not running."""
    layout = Layout.of(str(tmp_path / "idle"))
    for folder in layout.folders:
        Disk().mkdir(folder)
    found = Supervisor(layout, Disk(), "/no/such/agent")
    yield found
    found._front.close()
    found._loop.selector.close()
    found._loop._wake_read.close()
    found._loop._wake_write.close()
    os.close(found._folder)


def test_another_folder_in_the_place_of_its_own_is_told_apart(idle: Supervisor) -> None:
    """A file system gives the number of a folder that was removed to the next one."""
    assert not idle._is_homeless()
    shutil.rmtree(idle._layout.root)
    os.mkdir(idle._layout.root)
    assert idle._is_homeless()


def test_a_stuck_worker_is_ended(idle: Supervisor) -> None:
    killed: list[bool] = []

    class Hanging:
        pid = 1

        def kill(self) -> None:
            killed.append(True)

    idle._stuck()
    idle._worker = Hanging()  # type: ignore[assignment]  # all that is asked of it
    idle._stuck()
    idle._worker = None
    assert killed == [True]


def test_falling_back_needs_something_to_fall_back_to(idle: Supervisor) -> None:
    assert idle._installer.fall_back("no reason") is False
    with pytest.raises(AgentError) as none:
        idle._op_bench({}, None)
    assert none.value.code == "no-model"


def test_sockets_lie_in_the_folder_when_their_place_is_taken(idle: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user made the directory below /tmp first."""
    taken = idle._layout.path("taken")
    Path(taken).write_bytes(b"")
    monkeypatch.setattr(Layout, "sockets", lambda _layout: taken + "/x")
    idle._make_socket_folder()
    assert idle._layout.control_socket() == idle._layout.path("sockets", "control.sock")


def test_an_old_worker_that_does_not_end_is_killed(idle: Supervisor) -> None:
    ended: list[str] = []

    class Old:
        pid = 1
        serve = socket.socket()

        def close_control(self) -> None:
            ended.append("asked")

        def kill(self) -> None:
            ended.append("killed")

    old = Old()
    idle._retiring.append((old, time.monotonic() + 1000))  # type: ignore[arg-type]  # all that is asked of it
    idle._tick(time.monotonic())
    assert ended == []
    old.serve.close()
    idle._tick(time.monotonic())
    assert ended == ["asked"]
    idle._tick(time.monotonic() + 2000)
    assert ended == ["asked", "asked", "killed"]
    idle._retiring.clear()
