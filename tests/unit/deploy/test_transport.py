"""Which transport a record means, and what may be shown of a device's words."""

import pytest

from edgeship import profile
from edgeship.deploy.device import Device
from edgeship.deploy.local import LocalTransport
from edgeship.deploy.transport import STDERR_LINES, clean, connect, last_lines
from edgeship.errors import AuthError, ConfigError
from edgeship.reporter import Reporter


def test_a_local_child() -> None:
    device = Device("sim", "generic-x86-64", transport="local")
    assert isinstance(connect(device, profile.load("generic-x86-64"), reporter=Reporter()), LocalTransport)


def test_ssh_needs_a_pinned_key() -> None:
    with pytest.raises(AuthError, match="host key is not known") as error:
        connect(Device("pi", "raspberry-pi-5"), profile.load("raspberry-pi-5"), reporter=Reporter())
    assert "device add pi" in (error.value.hint or "")


def test_anything_else_is_a_mistake() -> None:
    device = Device("pi", "raspberry-pi-5", transport="pigeon")
    with pytest.raises(ConfigError, match="unknown transport 'pigeon'"):
        connect(device, profile.load("raspberry-pi-5"), reporter=Reporter())


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert clean("a\x1b[31mb\x07\r\nc\u202ed é") == "a [31mb   c d é"


def test_the_last_lines_of_standard_error() -> None:
    raw = "".join(f"line {n}\r\n" for n in range(100)).encode() + b"\xff\x1b[2J\n\n"
    lines = last_lines(raw)
    assert len(lines) == STDERR_LINES
    assert lines[-2:] == ("line 99", "\ufffd [2J")
