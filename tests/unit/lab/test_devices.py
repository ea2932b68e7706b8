"""A lab of virtual devices: what is made, kept, refused; with a server that is only pretended."""

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from edgeship.deploy.hostkey import HostKey
from edgeship.errors import UsageError
from edgeship.lab import fallback, faults, sshd, virtual
from edgeship.lab.devices import DEFAULTS, Lab, Spec
from edgeship.lab.virtual import Process, Virtual


class Power:
    """Stands in for processes: what is on, and how often it was switched on."""

    def __init__(self) -> None:
        self.on: set[str] = set()
        self.boots: list[str] = []


@pytest.fixture
def power(monkeypatch: pytest.MonkeyPatch) -> Power:
    """No processes, no sshd."""
    found = Power()

    def start(_folder: Path, device: Virtual) -> Virtual:
        found.on.add(device.name)
        found.boots.append(device.name)
        return replace(device, first=Process(1, 1), outer=Process(2, 2))

    def off(device: Virtual) -> Virtual:
        found.on.discard(device.name)
        return replace(device, first=None, outer=None)

    monkeypatch.setattr(sshd, "start", start)
    monkeypatch.setattr(sshd, "missing", lambda: None)
    monkeypatch.setattr(fallback, "start", start)
    monkeypatch.setattr(virtual, "wait_for_ssh", lambda *_: None)
    monkeypatch.setattr(Virtual, "off", off)
    monkeypatch.setattr(Virtual, "running", property(lambda self: self.first is not None and self.name in found.on))
    return found


@pytest.fixture
def lab(tmp_path: Path, power: Power) -> Lab:
    return Lab(tmp_path / "lab", "digits")


def test_the_three_that_everybody_gets(lab: Lab, power: Power) -> None:
    made = lab.up()

    assert [(d.name, d.profile) for d in made] == [(s.name, s.profile) for s in DEFAULTS]
    assert power.on == {"pi", "jetson", "phone"}
    assert len({d.port for d in made} | {d.serve_port for d in made}) == 6
    assert len({d.host_key for d in made}) == 3
    assert all(d.labels == {"lab": "digits"} for d in made)
    assert made[0].user == "pi"


def test_each_has_its_own_keys_files_and_account(lab: Lab) -> None:
    (device,) = lab.up([Spec("pi", "raspberry-pi-5")])

    etc = lab.folder / "pi" / "etc"
    assert stat.S_IMODE((etc / "host_key").stat().st_mode) == 0o600
    assert stat.S_IMODE(lab.identity.stat().st_mode) == 0o600
    assert (etc / "authorized_keys").read_text() == lab.identity.with_suffix(".pub").read_text()
    assert f"Port {device.port}\n" in (etc / "sshd_config").read_text()
    assert "PasswordAuthentication no" in (etc / "sshd_config").read_text()
    assert "pi:x:1000:1000" in (etc / "passwd").read_text()
    assert device.host_key is not None
    assert HostKey.parse(device.host_key).type == "ssh-ed25519"
    assert [p.name for p in (lab.folder / "pi" / "home").iterdir()] == []


def test_up_again_changes_nothing(lab: Lab, power: Power) -> None:
    assert lab.up() == lab.up()
    assert power.boots == ["pi", "jetson", "phone"]


def test_up_gives_power_back(lab: Lab, power: Power) -> None:
    before = lab.up()
    faults.fault(lab, "pi", "power-cut")
    assert [v.name for v in lab.list() if v.running] == ["jetson", "phone"]

    assert lab.up() == before
    assert power.boots[-1] == "pi"


def test_faults(lab: Lab, power: Power) -> None:
    lab.up([Spec("pi", "raspberry-pi-5")])

    assert not faults.fault(lab, "pi", "power-cut").running
    assert not faults.fault(lab, "pi", "power-cut").running
    assert faults.fault(lab, "pi", "power-on").running
    assert faults.fault(lab, "pi", "power-on").running
    assert faults.fault(lab, "pi", "reboot").running
    assert power.boots == ["pi", "pi", "pi"]
    with pytest.raises(UsageError, match="unknown fault 'flood'") as error:
        faults.fault(lab, "pi", "flood")
    assert error.value.hint == "one of power-cut, power-on, reboot"


def test_down_ends_them_and_removes_their_files(lab: Lab, power: Power) -> None:
    lab.up()
    assert lab.down(["pi"]) == ["pi"]
    assert power.on == {"jetson", "phone"}
    assert not (lab.folder / "pi").exists()
    assert lab.down() == ["jetson", "phone"]
    assert lab.down() == []
    assert lab.list() == []


def test_a_name_that_is_not_there(lab: Lab) -> None:
    with pytest.raises(UsageError, match=r"no virtual device 'pi' \(there is none\)") as error:
        lab.power_off("pi")
    assert error.value.hint == "edgeship lab up"
    lab.up()
    with pytest.raises(UsageError, match=r"no virtual device 'pie' \(jetson, phone, pi\)"):
        lab.down(["pie"])


def test_a_device_stays_what_it_is(lab: Lab) -> None:
    lab.up([Spec("pi", "raspberry-pi-5")])
    with pytest.raises(UsageError, match="is a raspberry-pi-5, not a raspberry-pi-4"):
        lab.up([Spec("pi", "raspberry-pi-4")])


@pytest.mark.parametrize("name", ["../pi", "a b", "", "-x", "a/b", "x" * 65, "."])
def test_names_are_plain(lab: Lab, name: str) -> None:
    with pytest.raises(UsageError):
        lab.up([Spec(name, "raspberry-pi-5")])
    assert lab.list() == []


def test_a_small_disk_is_kept_in_the_record(lab: Lab) -> None:
    lab.up([Spec("pi", "raspberry-pi-5", disk_bytes=1 << 20)])
    assert lab.list()[0].disk_bytes == 1 << 20


def test_without_sshd_asyncssh_takes_its_place_and_says_so(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(sshd, "missing", lambda: "sshd not installed")

    (device,) = lab.up([Spec("pi", "raspberry-pi-5")], say=said.append)

    assert lab.list()[0].server == "asyncssh"
    assert said == ["virtual devices use asyncssh instead of OpenSSH: sshd not installed"]
    assert device.user == "edge"
    assert device.python == fallback.python_command()


def test_without_both_there_is_no_lab(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sshd, "missing", lambda: "sshd not installed")
    monkeypatch.setattr(fallback, "missing", lambda: "asyncssh is not installed")
    with pytest.raises(UsageError, match="no SSH server for virtual devices") as error:
        lab.up()
    assert "edgeship[lab]" in (error.value.hint or "")


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sshd, "_find", lambda name: None if name == "bwrap" else f"/usr/bin/{name}")
    assert sshd.missing() == "bwrap not installed (apt install openssh-server bubblewrap)"
    monkeypatch.setattr(sshd, "_find", lambda _: "/bin/false")
    assert "cannot make namespaces" in (sshd.missing() or "")


def test_asyncssh_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert fallback.missing() == "asyncssh is not installed"
