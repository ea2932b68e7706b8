"""The record of a virtual device, and the processes that are its own."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgeship.errors import DeviceError, StoreError
from edgeship.lab import virtual
from edgeship.lab.virtual import Process, Virtual, free_ports, load, save, wait_for_ssh

PI = Virtual("pi", "raspberry-pi-5", "digits", "pi", 2201, 8001, "sshd", "ssh-ed25519 AAAA", "x86_64")


@pytest.fixture
def sleeper() -> Iterator[int]:
    """A process to end."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield child.pid
    child.kill()
    child.wait()


def test_a_record_is_written_and_read_alike(tmp_path: Path) -> None:
    device = replace(PI, first=Process(1, 2), outer=Process(3, 4), disk_bytes=5, python=("a", "b"))
    save(tmp_path, device)
    assert load(tmp_path) == device
    save(tmp_path, PI)
    assert load(tmp_path) == PI


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "edgeship.lab.device/v1"}', '{"schema": "other"}'])
def test_a_damaged_record_says_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / "device.json").write_text(text)
    with pytest.raises(StoreError, match="cannot be read") as error:
        load(tmp_path)
    assert "edgeship lab up" in (error.value.hint or "")


def test_the_inventory_gets_what_overrides_the_profile(tmp_path: Path) -> None:
    device = PI.device(tmp_path / "key")
    assert (device.host, device.port, device.user, device.identity) == ("127.0.0.1", 2201, "pi", str(tmp_path / "key"))
    assert (device.arch, device.python, device.init, device.serve_port) == ("x86_64", ("python3",), "termux", 8001)
    assert device.labels == {"lab": "digits"}
    assert device.host_key == PI.host_key


def test_a_process_is_known_by_its_start_too(sleeper: int) -> None:
    process = Process.of(sleeper)
    assert process.alive
    stranger = replace(process, started=process.started - 1)
    assert not stranger.alive

    stranger.kill()  # the number is somebody else's by now: it must not die
    assert process.alive

    process.kill()
    process.kill()
    assert not Process.of(sleeper).alive


def test_a_number_that_nobody_has() -> None:
    assert not Process.of(2**22 + 5).alive
    assert not Process.of(2**22 + 5).started


def test_a_device_without_power() -> None:
    assert not PI.running
    assert PI.off() == PI


def test_a_power_cut_ends_its_processes(sleeper: int) -> None:
    device = replace(PI, first=Process.of(sleeper), outer=Process.of(sleeper))
    assert device.running
    assert device.off() == PI
    assert not device.running


def test_a_tree_ends_whole() -> None:
    script = "import subprocess,sys; c=subprocess.Popen(['sleep','600']); print(c.pid, flush=True); c.wait()"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as root:
        assert root.stdout is not None
        child = Process.of(int(root.stdout.readline()))
        device = replace(PI, server="asyncssh", first=Process.of(root.pid))

        device.off()

        assert not child.alive
        assert not Process.of(root.pid).alive


def test_a_process_that_does_not_end(sleeper: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual, "END_TIMEOUT", 0.05)
    monkeypatch.setattr(os, "kill", lambda *_: None)
    with pytest.raises(DeviceError, match="does not end"):
        Process.of(sleeper).kill()


def test_ports_are_free_and_different() -> None:
    ports = free_ports(8)
    assert len(set(ports)) == 8
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", ports[0]))


def test_ports_are_none_that_whoever_asks_for_any_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    first = virtual._LOWEST_PORT
    monkeypatch.setattr(virtual, "_given_ports", lambda: first + 40)
    assert set(free_ports(8)) <= set(range(first, first + 40))
    monkeypatch.undo()
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        assert virtual._given_ports() <= max(first, sock.getsockname()[1])


def test_ports_where_the_system_gives_away_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual, "_given_ports", lambda: virtual._LOWEST_PORT)
    assert len(set(free_ports(8))) == 8


def test_ports_that_are_taken_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    (low,) = free_ports(1)
    monkeypatch.setattr(virtual, "_LOWEST_PORT", low)
    monkeypatch.setattr(virtual, "_given_ports", lambda: low + 1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", low))
        (port,) = free_ports(1)
    assert port != low


def test_waiting_for_a_server(sleeper: int, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        device = replace(PI, port=server.getsockname()[1], first=Process.of(sleeper))
        import threading

        def greet() -> None:
            for text in (b"HTTP", b"SSH-2.0-x"):
                client, _ = server.accept()
                client.sendall(text)
                client.close()

        thread = threading.Thread(target=greet)
        thread.start()
        wait_for_ssh(device, tmp_path / "log")
        thread.join(5)
        assert not thread.is_alive(), "it took a server that is none for the one that it waits for"


def test_a_server_that_does_not_come_up_shows_its_log(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="no reason given"):
        wait_for_ssh(PI, tmp_path / "log")
    (tmp_path / "log").write_text("line\nBind to port 2201 failed: Address already in use.\n")
    with pytest.raises(DeviceError, match="Address already in use") as error:
        wait_for_ssh(PI, tmp_path / "log")
    assert error.value.log == ("line", "Bind to port 2201 failed: Address already in use.")
