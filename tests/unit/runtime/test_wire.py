"""Frames and strict JSON: what is written is read back, and what is malformed is refused before it costs anything."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.runtime import wire
from edgeship.runtime.errors import CODES, AgentError, ProtocolError

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), values, max_size=5))
def test_a_json_frame_comes_back_as_it_was(message: dict[str, object]) -> None:
    stream = io.BytesIO(wire.json_frame(message))
    assert wire.read_json(stream.read) == message
    assert wire.read_json(stream.read) is None


@pytest.mark.parametrize("size", [0, 1, wire.MAX_CHUNK, wire.MAX_CHUNK + 1, 3 * wire.MAX_CHUNK])
def test_data_of_any_size_comes_back_in_bounded_chunks(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    chunks = list(wire.read_data(io.BytesIO(b"".join(wire.data_frames(data))).read))
    assert b"".join(chunks) == data
    assert all(0 < len(c) <= wire.MAX_CHUNK for c in chunks)


def test_a_stream_that_gives_a_byte_at_a_time_is_read_whole() -> None:
    stream = io.BytesIO(wire.json_frame({"a": 1}))
    assert wire.read_json(lambda n: stream.read(min(n, 1))) == {"a": 1}


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"X\0\0\0\0", "unknown frame kind"),
        (b"J\xff\xff\xff\xff", "over the limit"),
        (b"D\x00\x10\x00\x00", "over the limit"),
        (b"E\0\0\0\1x", "over the limit"),
        (b"J\0\0", "ended after 3 of 5"),
        (b"J\0\0\0\5{}", "ended after 2 of 5"),
    ],
)
def test_a_malformed_frame_is_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        wire.read_frame(io.BytesIO(raw).read)


@given(st.binary(max_size=200))
def test_any_bytes_give_a_frame_or_a_protocol_error(raw: bytes) -> None:
    stream = io.BytesIO(raw)
    refused = False
    try:
        while wire.read_json(stream.read) is not None:
            pass
    except ProtocolError:
        refused = True
    assert refused or stream.tell() == len(raw)


def test_oversized_frames_are_not_written() -> None:
    with pytest.raises(ProtocolError, match="over the limit"):
        wire.frame(wire.KIND_DATA, bytes(wire.MAX_CHUNK + 1))


def test_json_where_data_was_expected_and_the_reverse() -> None:
    with pytest.raises(ProtocolError, match="a JSON frame was expected"):
        wire.read_json(io.BytesIO(wire.frame(wire.KIND_END)).read)
    with pytest.raises(ProtocolError, match="without an end frame"):
        list(wire.read_data(io.BytesIO(wire.json_frame({})).read))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b'{"a":1,"a":2}', "same key twice"),
        (b'{"a":NaN}', "NaN is not allowed"),
        (b'{"a":1e999}', "out of range"),
        (b'{"a":' + b"9" * 30 + b"}", "more than 20 digits"),
        (b"[]", "object was expected"),
        (b"\xff\xfe", "not valid JSON"),
        (b'{"a":' + b"[" * 40 + b"]" * 40 + b"}", "nested deeper"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "not valid JSON|nested"),
        (b"{}" + b" " * wire.MAX_JSON, "over the limit"),
        (b"", "not valid JSON"),
    ],
)
def test_json_is_parsed_strictly(raw: bytes, reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        wire.parse_object(raw)


def test_a_value_of_the_wrong_kind_is_named() -> None:
    with pytest.raises(ProtocolError, match="'n' must be int, got True"):
        wire.need({"n": True}, "n", int)
    with pytest.raises(ProtocolError, match="'n' must be str or null, got 3"):
        wire.need({"n": 3}, "n", (str, type(None)))
    with pytest.raises(ProtocolError, match="list of objects"):
        wire.objects({"n": [1]}, "n")


@pytest.mark.parametrize("name", ["", ".", "-x", "a/b", "a b", "x" * 65, "ä", "a\n", "..", 3, None])
def test_a_name_with_anything_special_is_refused(name: object) -> None:
    with pytest.raises(ProtocolError, match="plain name"):
        wire.check_name(name)


@pytest.mark.parametrize("file", [None, "a" * 64, "sha256:" + "A" * 64, "sha256:" + "a" * 63, "sha256:../" + "a" * 61])
def test_a_file_reference_is_a_sha256(file: object) -> None:
    with pytest.raises(ProtocolError):
        wire.digest_of(file)


def test_an_agent_error_has_a_known_code() -> None:
    assert AgentError("x", "busy").code == "busy"
    with pytest.raises(ValueError, match="unknown agent error code"):
        AgentError("x", "nonsense")
    assert json.dumps(sorted(CODES))
