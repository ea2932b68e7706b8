"""Messages of a worker's channels: the same whichever way the bytes are cut; nonsense is a ProtocolError."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.runtime.channel import Messages, encode, message_parts
from edgeship.runtime.errors import ProtocolError
from edgeship.runtime.wire import KIND_DATA, KIND_END, KIND_JSON, MAX_CHUNK, frame, json_frame, parse_object


def reader(max_data: int = 1 << 20) -> Messages:
    return Messages(parse_object, lambda message: message.get("data") is True, max_data)


def feed(*raws: bytes, max_data: int = 1 << 20) -> list[tuple[dict[str, Any], bytes]]:
    messages = reader(max_data)
    return [message for raw in raws for message in messages.feed(raw)]


PLAIN = message_parts(encode({"id": 1}))[0]
WITH_DATA = b"".join(message_parts(encode({"id": 2, "data": True}), b"body"))
EMPTY = b"".join(message_parts(encode({"id": 3, "data": True}), b""))


def test_messages_with_and_without_data() -> None:
    assert feed(PLAIN + WITH_DATA + EMPTY) == [
        ({"id": 1}, b""), ({"id": 2, "data": True}, b"body"), ({"id": 3, "data": True}, b"")
    ]  # fmt: skip


def test_short_data_goes_out_in_one_buffer_and_long_data_in_frames() -> None:
    assert len(message_parts("{}", b"x" * 10)) == 1
    data = bytes(range(256)) * 3000
    parts = message_parts(encode({"id": 2, "data": True}), data)
    assert max(len(part) for part in parts) <= MAX_CHUNK + 5
    assert feed(b"".join(parts)) == [({"id": 2, "data": True}, data)]


@given(st.lists(st.integers(1, 50), max_size=60))
def test_how_the_bytes_are_cut_makes_no_difference(cuts: list[int]) -> None:
    stream, pieces = PLAIN + WITH_DATA + EMPTY + WITH_DATA, []
    for cut in cuts:
        pieces.append(stream[:cut])
        stream = stream[cut:]
    assert feed(*pieces, stream) == feed(PLAIN + WITH_DATA + EMPTY + WITH_DATA)


@pytest.mark.parametrize(
    "raw",
    [
        b"X\x00\x00\x00\x00",
        KIND_DATA + b"\xff\xff\xff\xff",
        KIND_END + b"\x00\x00\x00\x01x",
        frame(KIND_DATA, b"no message before"),
        frame(KIND_END),
        frame(KIND_JSON, b"{"),
        frame(KIND_JSON, b"[]"),
        json_frame({"data": True}) + frame(KIND_DATA, b"x") + PLAIN,
        json_frame({"data": True}) + frame(KIND_DATA, b"x" * 200),
    ],
)
def test_nonsense_is_a_protocol_error(raw: bytes) -> None:
    with pytest.raises(ProtocolError):
        feed(raw, max_data=100)


@given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from([PLAIN, WITH_DATA, EMPTY])), max_size=12))
def test_any_bytes_give_messages_or_a_protocol_error(pieces: list[bytes]) -> None:
    with contextlib.suppress(ProtocolError):
        for message, data in feed(*pieces):
            assert json.loads(encode(message)) == message
            assert not data or message["data"]


def test_encoding_refuses_what_json_cannot_say() -> None:
    assert json.loads(encode({"a": [1, 2.5, None, "é"]})) == {"a": [1, 2.5, None, "é"]}
    with pytest.raises(ValueError, match="Out of range"):
        encode({"a": float("nan")})
