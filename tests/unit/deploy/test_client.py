"""The client of the agent: the seam where a device's answers become results or errors of the host."""

import errno
import os
from collections.abc import Mapping
from typing import Any

import pytest

from edgeship.deploy import client as clients
from edgeship.deploy.client import NOT_INSTALLED, AgentClient, explain
from edgeship.deploy.transport import BROKEN, Channel, Ended
from edgeship.errors import DeviceError, EdgeshipError, RolledBackError, UnfitError, UnreachableError
from edgeship.runtime.errors import CODES
from edgeship.runtime.wire import frame, json_frame
from tests.simulators.board import Board


@pytest.fixture
def board() -> Board:
    return Board(installed="a" * 64)


@pytest.fixture
def client(board: Board) -> AgentClient:
    from edgeship.deploy.endpoint import STARTER

    return AgentClient(board.transport().open(["python3", "-c", STARTER, "~"]), "pi")


def test_a_request_and_its_answer(client: AgentClient) -> None:
    assert client.request("facts").result["arch"] == "aarch64"


def test_data_goes_there_and_comes_back(client: AgentClient) -> None:
    body = bytes(range(256)) * 3000

    reply = client.request("http", body, method="POST", path="/", headers={})

    assert reply.data == body[::-1]
    assert reply.result["status"] == 200


def test_data_may_come_in_pieces(client: AgentClient) -> None:
    assert client.request("http", iter([b"ab", b"cd"]), method="POST", path="/", headers={}).data == b"dcba"


def test_requests_may_be_sent_ahead_and_waited_for_in_any_order(client: AgentClient) -> None:
    first, second = client.submit("facts"), client.submit("logs", lines=5)

    assert "lines" in client.wait(second).result
    assert "arch" in client.wait(first).result
    with pytest.raises(DeviceError, match="never sent"):
        client.wait(99)


def test_events_come_before_the_answer_without_control_characters(board: Board, client: AgentClient) -> None:
    events: list[Mapping[str, Any]] = []
    board.raw_answers = [
        json_frame({"id": 1, "event": {"stage": "verify", "text": "\x1b[31mred\n", "n": 3}})
        + json_frame({"id": 1, "ok": True, "result": {}})
    ]

    client.request("facts", on_event=events.append)

    assert events == [{"stage": "verify", "text": " [31mred ", "n": 3}]


def test_events_that_nobody_wants_are_dropped(board: Board, client: AgentClient) -> None:
    board.raw_answers = [json_frame({"id": 1, "event": {}}) + json_frame({"id": 1, "ok": True, "result": {}})]
    assert client.request("facts").result == {}


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_of_the_agent_becomes_an_error_with_a_next_step(
    board: Board, client: AgentClient, code: str
) -> None:  # fmt: skip
    board.refuse["facts"] = (code, "because\x1b[2J")

    with pytest.raises(DeviceError) as error:
        client.request("facts")

    kinds = {"rolled-back": RolledBackError, "unfit": UnfitError, "disk-full": UnfitError}
    assert type(error.value) is kinds.get(code, DeviceError)
    assert (error.value.code, error.value.device) == (code, "pi")
    assert str(error.value) == "pi: because [2J"
    assert error.value.hint


def test_an_error_leaves_the_connection_usable(board: Board, client: AgentClient) -> None:
    board.refuse["facts"] = ("busy", "another push")
    with pytest.raises(DeviceError, match="another push"):
        client.request("facts")
    assert client.request("logs", lines=1).result["lines"]


@pytest.mark.parametrize(
    "answer",
    [
        json_frame({"id": 7, "ok": True, "result": {}}),
        json_frame({"id": "1", "ok": True, "result": {}}),
        json_frame({"ok": True, "result": {}}),
        json_frame({"id": 1, "ok": True, "result": []}),
        json_frame({"id": 1, "ok": True}),
        json_frame({"id": 1, "ok": False}),
        json_frame({"id": 1}),
        frame(b"D", b"data"),
        b"Welcome to Raspberry Pi OS\n",
        b"J\xff\xff\xff\xff",
        frame(b"J", b'{"id": 1, "id": 2}'),
        frame(b"J", b"\xff"),
        json_frame({"id": 1, "ok": True, "result": {"data": True}}) + json_frame({"id": 1}),
    ],
)
def test_what_is_not_the_protocol_is_a_device_error(board: Board, client: AgentClient, answer: bytes) -> None:
    board.raw_answers = [answer]
    with pytest.raises(DeviceError, match="does not speak the protocol") as error:
        client.request("facts")
    assert error.value.exit_code == 1
    assert "login script" in (error.value.hint or "")


def test_an_answer_is_bounded(board: Board, client: AgentClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "MAX_ANSWER", 10)
    with pytest.raises(DeviceError, match="more than 10 bytes"):
        client.request("http", b"x" * 11, method="GET", path="/", headers={})


def test_a_connection_that_breaks_while_sending(board: Board, client: AgentClient) -> None:
    board.cuts = [10]
    with pytest.raises(UnreachableError, match="connection was lost") as error:
        client.request("facts")
    assert error.value.code == BROKEN


def test_a_connection_that_breaks_while_waiting(board: Board, client: AgentClient) -> None:
    board.cut_in_switch = 1
    with pytest.raises(UnreachableError, match="connection was lost"):
        client.request("switch", manifest="m", sha256="s")


def test_an_agent_that_says_nothing(board: Board, client: AgentClient) -> None:
    board.raw_answers = [b""]
    with pytest.raises(UnreachableError, match="said nothing"):
        client.request("facts")


def test_an_end_in_the_middle_of_an_answer_is_a_broken_connection(board: Board) -> None:
    class Half:
        data = b"J\x00\x00"

        def read(self, n: int) -> bytes:
            out, self.data = self.data[:n], self.data[n:]
            return out

        def write(self, data: bytes) -> None:
            pass

        def close(self) -> None:
            pass

    assert not isinstance(Half(), Channel)
    with AgentClient(Half(), "pi") as client, pytest.raises(UnreachableError, match="connection broke"):
        client.request("facts")


@pytest.mark.parametrize(
    ("ended", "kind", "code", "match"),
    [
        (Ended(None), UnreachableError, BROKEN, "the connection broke"),
        (Ended(66), DeviceError, NOT_INSTALLED, "no agent is installed"),
        (Ended(127, ("sh: python3: not found",)), DeviceError, "no-python", "cannot be started there: sh: python3"),
        (Ended(126), DeviceError, "no-python", "cannot be started"),
        (Ended(1, ("edgeship: the agent needs Python 3.10 or later, this is 3.7",)), UnfitError, "", "this is 3.7"),
        (Ended(1, (f"edgeship: cannot install: {os.strerror(errno.ENOSPC)}",)), UnfitError, "", "No space left"),
        (Ended(1, ("a", "Traceback: boom")), DeviceError, "", "status 1: Traceback: boom"),
        (Ended(0), DeviceError, "", "ended with status 0"),
    ],
)
def test_why_an_agent_ended(ended: Ended, kind: type[EdgeshipError], code: str, match: str) -> None:
    error = explain(ended, "pi", None)

    assert type(error) is kind
    assert isinstance(error, DeviceError)
    assert error.code == code
    assert match in str(error)
    assert str(error).startswith("pi: ")
    assert error.hint
    assert error.log == ended.stderr


def test_the_agents_parcel_may_meet_a_closed_pipe(board: Board) -> None:
    board.exits = (127, "sh: python3: not found")
    client = AgentClient(board.transport().open(["python3"]), "pi")
    with pytest.raises(DeviceError, match="cannot be started"):
        client.preface(b"zipapp")
