"""Devices: adding one pins its key, listing, labels, forgetting, logging in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeship.deploy import enrol
from edgeship.deploy.hostkey import HostKey
from edgeship.errors import AuthError, UnreachableError
from tests.simulators.commandline import run, run_error, run_json

KEY = HostKey("ssh-ed25519", b"\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20" + bytes(32))


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A network with one answering host; the list says what was done on it."""
    done: list[str] = []

    class Transport:
        def close(self) -> None:
            done.append("close")

    def scan(device: Any, _profile: Any, *, reporter: Any) -> HostKey:
        done.append(f"look {device.host}")
        if device.host == "nowhere":
            raise UnreachableError("nowhere does not answer", device=device.name, stage="connect")
        return KEY

    def connect(device: Any, _profile: Any, *, reporter: Any) -> Transport:
        done.append(f"login {device.user} {device.identity}")
        assert device.host_key == KEY.line
        if device.user == "stranger":
            raise AuthError("no key was accepted", device=device.name, stage="connect")
        return Transport()

    monkeypatch.setattr(enrol, "scan_host_key", scan)
    monkeypatch.setattr(enrol, "connect", connect)
    return done


ADD = ("device", "add", "pi", "pi@10.0.0.7", "--profile", "raspberry-pi-5")


def test_adding_shows_the_fingerprint_pins_it_and_logs_in_once(project: Path, network: list[str]) -> None:
    (project / "key").touch()
    result = run(
        *ADD, "--accept-new", "--port", "2222", "--key", "key", "--label", "site=desk", "--python", "python3 -X utf8",
        "--root", "/opt/es", "--serve-port", "9000",
    )  # fmt: skip
    assert f"host key of 10.0.0.7: ssh-ed25519 {KEY.fingerprint}" in result.stderr
    assert "next: edgeship push MODEL -l name=pi" in result.stderr
    assert network == ["look 10.0.0.7", f"login pi {project}/key", "close"]
    shown = run_json("device.show", "device", "show", "pi")
    assert shown["device"]["host_key"] == KEY.line
    assert shown["device"]["fingerprint"] == KEY.fingerprint
    assert shown["device"]["labels"] == {"site": "desk"}
    assert shown["resolved"] == {
        "python": ["python3", "-X", "utf8"], "root": "/opt/es", "init": "systemd", "serve_port": 9000,
        "arch": "aarch64",
    }  # fmt: skip
    assert shown["overrides"] == ["port", "user", "root", "serve_port", "python"]
    assert "pi@10.0.0.7:2222" in run("device", "list", "-l", "site=desk").stdout
    assert "serve port  9000" in run("device", "show", "pi").stdout


@pytest.mark.parametrize(
    ("place", "host", "port"),
    [
        ("h:2222", "h", 2222),
        ("pi@h:2222", "h", 2222),
        ("[fe80::1]:2222", "fe80::1", 2222),
        ("[fe80::1]", "fe80::1", None),
        ("fe80::1", "fe80::1", None),
    ],
)
def test_an_address_may_carry_its_port(
    place: str, host: str, port: int | None, project: Path, network: list[str]
) -> None:
    data = run_json("device.add", "device", "add", "x", place, "--profile", "raspberry-pi-5", "--accept-new")
    assert (data["host"], data["port"]) == (host, port)
    assert network[0] == f"look {host}"


def test_json_gives_the_new_device(project: Path, network: list[str]) -> None:
    data = run_json("device.add", *ADD, "--accept-new")
    assert (data["name"], data["user"], data["port"], data["python"]) == ("pi", "pi", None, None)


def test_the_key_is_not_accepted_blindly(project: Path, network: list[str]) -> None:
    error = run_error(*ADD, exit_code=2)
    assert "is this the device's key?" in error["message"]
    assert "--accept-new" in error["hint"]
    assert [d["name"] for d in run_json("device.list", "device", "list")] == ["sim"]
    assert network == ["look 10.0.0.7"]


def test_a_fingerprint_that_was_told_is_compared(project: Path, network: list[str]) -> None:
    error = run_error(*ADD, "--fingerprint", "SHA256:other", exit_code=4)
    assert "nothing was saved" in error["message"]
    run(*ADD, "--fingerprint", KEY.fingerprint)


def test_a_device_that_does_not_answer_or_let_us_in_is_not_saved(project: Path, network: list[str]) -> None:
    run_error("device", "add", "x", "pi@nowhere", "--profile", "raspberry-pi-5", "--accept-new", exit_code=5)
    run_error("device", "add", "x", "stranger@h", "--profile", "raspberry-pi-5", "--accept-new", exit_code=4)
    assert [d["name"] for d in run_json("device.list", "device", "list")] == ["sim"]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (("sim", "h", "--profile", "raspberry-pi-5"), 2, "there is a device 'sim' already"),
        (("a b", "h", "--profile", "raspberry-pi-5"), 2, "device's name"),
        (("x", "h", "--profile", "raspberypi-5"), 2, "did you mean 'raspberry-pi-5'"),
        (("x", "h", "--profile", "jetson-nano"), 6, "cannot carry the agent: Python 3.6"),
        (("x", "h:22", "--profile", "raspberry-pi-5", "--port", "23"), 2, "h:22 and --port 23 name different ports"),
        (("x", "h:70000", "--profile", "raspberry-pi-5"), 2, "70000 is no port"),
        (("x", "h", "--profile", "raspberry-pi-5", "--label", "site"), 2, "'site' is not KEY=VALUE"),
        (("x", "h", "--profile", "raspberry-pi-5", "--label", "name=y"), 2, "'name' is the device's own"),
        (("x", "h"), 2, "Missing option '--profile'"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_sent(
    arguments: tuple[str, ...], exit_code: int, words: str, project: Path, network: list[str]
) -> None:
    error = run_error("device", "add", *arguments, "--accept-new", exit_code=exit_code)
    assert words in error["message"]
    assert error["hint"]
    assert network == []


def test_labels_are_set_and_removed(project: Path) -> None:
    data = run_json("device.label", "device", "label", "sim", "site=desk", "kind-")
    assert data["labels"] == {"site": "desk"}
    assert "labels    site=desk" in run("device", "label", "sim", "site=desk").stdout
    assert "KEY=VALUE or KEY-" in run_error("device", "label", "sim", "site", exit_code=2)["message"]


def test_a_device_is_forgotten_after_asking(project: Path) -> None:
    assert run_error("device", "rm", "sim", exit_code=2)["hint"] == "give --yes"
    assert run_json("device.rm", "device", "rm", "sim", "--yes")["name"] == "sim"
    assert "next: edgeship device add" in run("device", "list").stderr
    assert "there is no device 'sim'" in run_error("device", "show", "sim", exit_code=2)["message"]


def test_a_misspelt_device_gets_a_suggestion(project: Path) -> None:
    assert run_error("device", "show", "sin", exit_code=2)["hint"] == "did you mean 'sim'?"


def test_sim_is_shown_as_a_local_child(project: Path) -> None:
    text = run("device", "show", "sim").stdout
    assert "address     local child" in text
    assert "serve port  Unix socket only" in text


def test_ssh_runs_the_systems_ssh_and_gives_its_exit_code(
    project: Path, network: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(*ADD, "--accept-new")
    seen: list[list[str]] = []

    def fake(argv: list[str], *, check: bool) -> Any:
        assert not check
        seen.append(argv)
        hosts = next(a for a in argv if a.startswith("-oUserKnownHostsFile=")).partition("=")[2]
        assert Path(hosts).read_text() == f"pi {KEY.line}\n"
        return type("Done", (), {"returncode": 7})()

    monkeypatch.setattr("edgeship.deploy.enrol.subprocess.run", fake)
    run("device", "ssh", "pi", "ls", "-l", "a b", exit_code=7)
    assert seen[0][-2:] == ["10.0.0.7", "ls -l 'a b'"]
    assert run_error("device", "ssh", "sim", exit_code=2)["message"].startswith("sim is a child process")
