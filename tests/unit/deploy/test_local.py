"""A device that is a child process of this host."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeship.deploy import local
from edgeship.deploy.device import Device
from edgeship.deploy.local import LocalStream, LocalTransport, sim
from edgeship.errors import DeviceError


@pytest.fixture
def transport() -> Iterator[LocalTransport]:
    found = LocalTransport(Device("sim", "generic-x86-64", transport="local"))
    yield found
    found.close()


def everything(stream: LocalStream) -> bytes:
    parts = []
    while part := stream.read(100):
        parts.append(part)
    return b"".join(parts)


def test_a_process_reads_and_writes(transport: LocalTransport) -> None:
    stream = transport.open([sys.executable, "-c", "import sys; print(sys.stdin.readline()[::-1], end='')"])
    stream.write(b"abc\n")
    assert everything(stream) == b"\ncba"
    assert stream.ended().status == 0
    transport.close()
    transport.close()


def test_its_last_words_are_kept(transport: LocalTransport) -> None:
    stream = transport.open([sys.executable, "-c", "import sys; sys.exit('it broke\\x1b[31m')"])
    assert stream.read(10) == b""
    ended = stream.ended()
    assert (ended.status, ended.stderr) == (1, ("it broke [31m",))
    stream.close()


def test_a_process_that_ended_takes_no_more(transport: LocalTransport) -> None:
    stream = transport.open([sys.executable, "-c", ""])
    assert stream.ended().status == 0
    with pytest.raises(BrokenPipeError):
        stream.write(b"x" * 1_000_000)
    stream.close()


def test_it_lives_in_a_session_of_its_own(transport: LocalTransport) -> None:
    stream = transport.open([sys.executable, "-c", "import os; print(os.getsid(0) == os.getpid())"])
    assert everything(stream) == b"True\n"
    transport.close()


def test_one_that_says_nothing(transport: LocalTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "READ_TIMEOUT", 0.01)
    stream = transport.open([sys.executable, "-c", "input()"])
    with pytest.raises(TimeoutError, match="said nothing"):
        stream.read(1)
    stream.close()


def test_one_that_does_not_end_is_ended(transport: LocalTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "END_TIMEOUT", 0.05)
    stream = transport.open([sys.executable, "-c", "import time; print(1, flush=True); time.sleep(600)"])
    assert stream.read(1) == b"1"
    assert stream.ended().status is None
    stream.close()


def test_no_such_program(transport: LocalTransport) -> None:
    with pytest.raises(DeviceError, match="cannot start /no/python") as error:
        transport.open(["/no/python"])
    assert "device show sim" in (error.value.hint or "")


def test_the_device_that_init_adds(tmp_path: Path) -> None:
    device = sim(tmp_path, "generic-x86-64")
    assert (device.name, device.transport, device.serve_port) == ("sim", "local", 0)
    assert device.root == str(tmp_path / ".edgeship" / "sim")
