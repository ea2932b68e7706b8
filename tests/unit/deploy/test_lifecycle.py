"""Removing an agent: what the device answers, and what cannot be asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from edgeship import profile
from edgeship.deploy import lifecycle
from edgeship.deploy.device import Device
from edgeship.deploy.endpoint import NO_AGENT
from edgeship.deploy.transport import Ended
from edgeship.errors import DeviceError, UnreachableError
from edgeship.reporter import Reporter

PI = Device("pi", "raspberry-pi-5", host="h")
BOARD = profile.load("raspberry-pi-5")


class Remote:
    """A transport and its one stream: notes what is started, ends as it is told."""

    def __init__(self, ended: Ended, said: bytes = b"") -> None:
        self.argv: Sequence[str] = ()
        self.closed = 0
        self._ended, self._said = ended, [said, b""]

    def open(self, argv: Sequence[str]) -> Remote:
        self.argv = argv
        return self

    def read(self, _n: int) -> bytes:
        return self._said.pop(0) if self._said else b""

    def write(self, data: bytes) -> None:
        raise AssertionError(data)

    def ended(self) -> Ended:
        return self._ended

    def close(self) -> None:
        self.closed += 1


def remove(remote: Remote, monkeypatch: pytest.MonkeyPatch, **ask: Any) -> bool:
    monkeypatch.setattr(lifecycle, "stop", lambda *_a, **_k: None)
    monkeypatch.setattr(lifecycle, "connect", lambda *_a, **_k: remote)
    return lifecycle.uninstall(PI, BOARD, reporter=Reporter(), **ask)


def test_the_profiles_python_removes_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    remote = Remote(Ended(0), b"a word")
    assert remove(remote, monkeypatch)
    assert remote.argv == ("python3", "-c", lifecycle.REMOVER, "~/.local/share/edgeship")
    assert remote.closed == 2


def test_a_folder_that_is_no_agents_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not remove(Remote(Ended(NO_AGENT)), monkeypatch)


def test_a_folder_that_stays_is_an_error_with_the_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceError, match="could not be removed") as caught:
        remove(Remote(Ended(1, ("PermissionError",))), monkeypatch)
    assert (caught.value.stage, caught.value.log) == ("uninstall", ("PermissionError",))


def test_a_device_that_does_not_answer_is_not_taken_for_one_without_an_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_a: object, **_k: object) -> None:
        raise UnreachableError("pi: does not answer", device="pi")

    monkeypatch.setattr(lifecycle, "stop", unreachable)
    with pytest.raises(UnreachableError):
        lifecycle.uninstall(PI, BOARD, reporter=Reporter())


def test_a_log_that_is_no_list_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "_ask", lambda *_a, **_k: {"lines": "text"})
    assert lifecycle.log_lines(PI, BOARD, 5, reporter=Reporter()) == []
    monkeypatch.setattr(lifecycle, "_ask", lambda *_a, **_k: {"lines": ["a\x1b[2J", 3]})
    assert lifecycle.log_lines(PI, BOARD, 5, reporter=Reporter()) == ["a [2J", "3"]
