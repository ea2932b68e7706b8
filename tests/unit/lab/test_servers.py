"""Both kinds of server, for real: commands, power cuts, boot hooks, small disks, an interpreter that is bound in."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgeship import profile
from edgeship.deploy.device import Device
from edgeship.deploy.ssh import SshTransport
from edgeship.errors import DeviceError, UnreachableError
from edgeship.lab import fallback, sshd
from edgeship.lab.devices import Lab, Spec
from edgeship.lab.faults import fault
from edgeship.reporter import Reporter

PI = Spec("pi", "raspberry-pi-5")
SERVERS = [pytest.param("sshd", marks=pytest.mark.ssh), "asyncssh"]
#: Leaves a process behind, in a session of its own, as the agent's supervisor does.
DAEMON = "import os,time; os.fork() and os._exit(0); os.setsid(); print(os.getpid(), flush=True); time.sleep(600)"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    found = Lab(tmp_path / "lab", "tests")
    yield found
    found.down()


def run(device: Device, *argv: str) -> tuple[str, int | None]:
    transport = SshTransport.connect(device, profile.load(device.profile), reporter=Reporter())
    try:
        stream = transport.open(argv)
        out = b""
        while part := stream.read(1000):
            out += part
        return out.decode(), stream.ended().status
    finally:
        transport.close()


@pytest.mark.parametrize("server", SERVERS)
def test_a_device_has_power_or_not(lab: Lab, server: str) -> None:
    (device,) = lab.up([PI], server=server)
    assert lab.list()[0].server == server
    assert run(device, "sh", "-c", "echo $HOME; exit 4")[1] == 4
    run(device, "sh", "-c", "echo kept > file; mkdir -p .termux/boot; echo 'echo hook > booted' > .termux/boot/a.sh")

    assert not fault(lab, "pi", "power-cut").running
    with pytest.raises(UnreachableError):
        run(device, "true")

    assert fault(lab, "pi", "power-on").running
    for _ in range(200):
        if run(device, "cat", "booted") == ("hook\n", 0):
            break
    assert run(device, "cat", "file", "booted") == ("kept\nhook\n", 0)


@pytest.mark.parametrize("server", SERVERS)
def test_a_power_cut_takes_what_runs_in_the_background(lab: Lab, server: str) -> None:
    (device,) = lab.up([PI], server=server)
    python = device.python[0]
    probe = "ps -ef | grep -c '[m]arker-of-the-daemon'"

    def left() -> int:
        return int(run(device, "sh", "-c", probe)[0])

    transport = SshTransport.connect(device, profile.load(device.profile), reporter=Reporter())
    transport.open([python, "-c", DAEMON + " # marker-of-the-daemon"]).read(10)
    transport.close()
    assert left() >= 1  # it outlives its login
    fault(lab, "pi", "reboot")
    assert left() == 0


@pytest.mark.ssh
def test_a_device_is_alone_with_its_processes_and_has_a_boot_id_of_its_own(lab: Lab) -> None:
    first, second = lab.up([PI, Spec("pi2", "raspberry-pi-5")], server="sshd")
    boot = ["cat", "/proc/sys/kernel/random/boot_id"]
    before = run(first, *boot)[0]

    assert run(first, "hostname")[0] == "pi\n"
    assert int(run(first, "sh", "-c", "ls /proc | grep -c '^[0-9]'")[0]) < 20
    assert before != run(second, *boot)[0]
    assert before != Path("/proc/sys/kernel/random/boot_id").read_text()
    fault(lab, "pi", "reboot")
    assert run(first, *boot)[0] != before


@pytest.mark.ssh
def test_a_small_disk(lab: Lab) -> None:
    (device,) = lab.up([replace(PI, disk_bytes=1 << 20)], server="sshd")
    assert run(device, "sh", "-c", "head -c 3000000 /dev/zero > file")[1] == 1


@pytest.mark.ssh
def test_an_interpreter_is_bound_in_where_the_system_has_none(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sshd, "SYSTEM_PYTHON", "/nonexistent")
    command, bound = sshd.python_command()
    assert bound == (sys.base_prefix,)
    (device,) = lab.up([PI], server="sshd")
    assert device.python == command
    assert run(device, *command, "-c", "import ssl, sys; print(sys.prefix)") == (f"{sys.base_prefix}\n", 0)


@pytest.mark.ssh
def test_a_device_that_cannot_start_says_why(lab: Lab) -> None:
    lab.up([PI], server="sshd")
    fault(lab, "pi", "power-cut")
    config = lab.folder / "pi" / "etc" / "sshd_config"
    config.write_text("Nonsense yes\n")
    with pytest.raises(DeviceError, match="does not start") as error:
        fault(lab, "pi", "power-on")
    assert any("Nonsense" in line for line in error.value.log)


@pytest.mark.ssh
def test_bubblewrap_that_does_not_start(lab: Lab) -> None:
    import shutil

    lab.up([PI], server="sshd")
    fault(lab, "pi", "power-cut")
    shutil.rmtree(lab.folder / "pi" / "var")
    with pytest.raises(DeviceError, match="does not start"):
        fault(lab, "pi", "power-on")


def test_a_small_disk_needs_bubblewrap(lab: Lab) -> None:
    with pytest.raises(DeviceError, match="needs sshd and bubblewrap"):
        lab.up([replace(PI, disk_bytes=1 << 20)], server="asyncssh")


def test_the_fallback_can_be_had_here() -> None:
    assert fallback.missing() is None
