"""Enrolling on the host: the command line of the system's ssh."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeship import profile
from edgeship.deploy import enrol
from edgeship.deploy.device import Device
from edgeship.errors import AuthError, DeviceError, UsageError

LINE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def argv(device: Device, *command: str) -> list[str]:
    return enrol.ssh_argv(device, profile.load(device.profile), Path("/k"), command)


def test_the_pinned_key_is_the_only_one_that_counts() -> None:
    got = argv(Device("pi", "raspberry-pi-5", host="10.0.0.7", host_key=LINE))
    assert {"-oStrictHostKeyChecking=yes", "-oUserKnownHostsFile=/k", "-oGlobalKnownHostsFile=/dev/null"} <= set(got)
    assert {"-oHostKeyAlias=pi", "-oForwardAgent=no"} <= set(got)
    assert got[-6:] == ["-p", "22", "-l", "pi", "--", "10.0.0.7"]


def test_port_user_and_identity_are_those_of_every_other_connection(home: Path) -> None:
    (home / ".ssh").mkdir()
    (home / ".ssh" / "config").write_text("Host desk\n  User somebody\n  Port 2200\n")
    assert argv(Device("p", "android-termux", host="desk", host_key=LINE))[-6:-2] == ["-p", "2200", "-l", "somebody"]
    phone = Device("p", "android-termux", host="h", host_key=LINE, identity="~/key")
    assert argv(phone, "ls", "a b")[-9:] == [
        "-p", "8022", "-l", "termux", "-i", str(home / "key"), "-oIdentitiesOnly=yes", "--", "h", "ls 'a b'",
    ][-9:]  # fmt: skip


def test_without_a_pinned_key_nobody_logs_in() -> None:
    with pytest.raises(AuthError, match="host key is not known"):
        argv(Device("pi", "raspberry-pi-5", host="h"))
    with pytest.raises(UsageError, match="child process"):
        argv(Device("sim", "generic-x86-64", transport="local"))


def test_a_host_without_ssh_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    device = Device("pi", "raspberry-pi-5", host="h", host_key=LINE)
    with pytest.raises(DeviceError, match="no ssh command") as caught:
        enrol.login(device, profile.load(device.profile), ())
    assert caught.value.hint == "apt-get install openssh-client"


def test_fingerprints_are_those_of_openssh() -> None:
    assert (enrol.fingerprint(Device("pi", "x", host_key=LINE)) or "").startswith("SHA256:")
    assert enrol.fingerprint(Device("sim", "x")) is None
