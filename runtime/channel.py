"""Messages of a worker's channels, read as they come: the frames of `wire`, without a system call for each of them.

A message is a JSON frame and, where it says so, the data that follows. `Messages` holds state and does no I/O.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from edgeship.runtime.errors import ProtocolError
from edgeship.runtime.wire import HEADER, KIND_DATA, KIND_END, KIND_JSON, MAX_CHUNK, MAX_JSON, data_frames, frame

_LIMITS = {KIND_JSON: MAX_JSON, KIND_DATA: MAX_CHUNK, KIND_END: 0}
_HEAD = HEADER.size
_END = frame(KIND_END)

Json = dict[str, Any]

encode: Callable[[Mapping[str, Any]], str] = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def message_parts(message: str, data: bytes | None = None) -> list[bytes]:
    """A message (encoded JSON) as buffers to send in order; one buffer unless the data is long."""
    raw = message.encode()
    if data is None or len(data) > MAX_CHUNK or len(raw) > MAX_JSON:
        return [frame(KIND_JSON, raw), *(() if data is None else data_frames(data))]
    head = HEADER.pack(KIND_JSON, len(raw)) + raw
    return [head + HEADER.pack(KIND_DATA, len(data)) + data + _END if data else head + _END]


class Messages:
    """Makes messages of the bytes of one channel.

    Args:
        parse: a JSON frame's payload to a message; raises ProtocolError.
        has_data: whether data follows this message.
        max_data: bytes of data that one message may carry.
    """

    def __init__(
        self, parse: Callable[[bytes], Json], has_data: Callable[[Json], bool], max_data: int
    ) -> None:  # fmt: skip
        self._parse, self._has_data, self._max_data = parse, has_data, max_data
        self._rest = bytearray()  # of a frame that is not whole
        self._message: Json | None = None
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, raw: bytes) -> Iterator[tuple[Json, bytes]]:
        """Take what arrived and yield every whole message. Raises ProtocolError: the channel is useless then."""
        source: bytes | bytearray = raw
        if self._rest:
            self._rest += raw
            source = self._rest
        at, size = 0, len(source)
        while size - at >= _HEAD:
            kind, length = HEADER.unpack_from(source, at)
            if length > _LIMITS.get(kind, -1):
                raise ProtocolError(f"a frame of kind {kind!r} and {length} bytes is not the protocol")
            start, end = at + _HEAD, at + _HEAD + length
            if end > size:
                break
            payload = source[start:end] if source is raw else bytes(memoryview(source)[start:end])
            at = end
            message = self._take(kind, payload)
            if message is not None:
                yield message
        if source is not raw:
            del self._rest[:at]
        elif at < size:
            self._rest += memoryview(raw)[at:]

    def _take(self, kind: bytes, payload: bytes) -> tuple[Json, bytes] | None:
        message = self._message
        if message is None:
            if kind != KIND_JSON:
                raise ProtocolError(f"a JSON frame was expected, {kind!r} came")
            message = self._parse(payload)
            if not self._has_data(message):
                return message, b""
            self._message = message
        elif kind == KIND_DATA:
            self._size += len(payload)
            if self._size > self._max_data:
                raise ProtocolError(f"a message has more than {self._max_data} bytes of data")
            self._data.append(payload)
        elif kind == KIND_END:
            data = self._data[0] if len(self._data) == 1 else b"".join(self._data)
            self._message, self._data, self._size = None, [], 0
            return message, data
        else:
            raise ProtocolError("the data of a message ended without an end frame")
        return None
