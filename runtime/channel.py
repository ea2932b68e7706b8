"""Messages of a worker's channels, read as they come: the frames of `wire`, without a system call for each of them.

A message is a JSON frame and, where it says so, the data that follows. `Messages` holds state and does no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from edgeship.runtime.errors import ProtocolError
from edgeship.runtime.wire import (
    HEADER,
    KIND_DATA,
    KIND_END,
    KIND_JSON,
    MAX_CHUNK,
    MAX_JSON,
    data_frames,
    json_frame,
    parse_object,
)

_LIMITS = {KIND_JSON: MAX_JSON, KIND_DATA: MAX_CHUNK, KIND_END: 0}


def message_parts(message: dict[str, Any], data: bytes | None = None) -> list[bytes]:
    """A message as buffers to send in order; one buffer unless the data is long."""
    parts = [json_frame(message)]
    if data is None:
        return parts
    frames = list(data_frames(data))
    return [parts[0] + b"".join(frames)] if len(frames) <= 2 else [*parts, *frames]


class Messages:
    """Makes messages of the bytes of one channel.

    Args:
        has_data: whether data follows this JSON.
        max_data: bytes of data that one message may carry.
    """

    def __init__(self, has_data: Callable[[dict[str, Any]], bool], max_data: int) -> None:
        self._has_data, self._max_data = has_data, max_data
        self._buffer = bytearray()
        self._message: dict[str, Any] | None = None
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, raw: bytes) -> Iterator[tuple[dict[str, Any], bytes]]:
        """Take what arrived and yield every whole message. Raises ProtocolError: the channel is useless then."""
        self._buffer += raw
        while (frame := self._frame()) is not None:
            kind, payload = frame
            if self._message is None:
                if kind != KIND_JSON:
                    raise ProtocolError(f"a JSON frame was expected, {kind!r} came")
                message = parse_object(payload)
                if not self._has_data(message):
                    yield message, b""
                    continue
                self._message = message
            elif kind == KIND_DATA:
                self._size += len(payload)
                if self._size > self._max_data:
                    raise ProtocolError(f"a message has more than {self._max_data} bytes of data")
                self._data.append(payload)
            elif kind == KIND_END:
                message, data = self._message, self._data[0] if len(self._data) == 1 else b"".join(self._data)
                self._message, self._data, self._size = None, [], 0
                yield message, data
            else:
                raise ProtocolError("the data of a message ended without an end frame")

    def _frame(self) -> tuple[bytes, bytes] | None:
        buffer = self._buffer
        if len(buffer) < HEADER.size:
            return None
        kind, length = HEADER.unpack_from(buffer)
        limit = _LIMITS.get(kind)
        if limit is None or length > limit:
            raise ProtocolError(f"a frame of kind {kind!r} and {length} bytes is not the protocol")
        end = HEADER.size + length
        if len(buffer) < end:
            return None
        with memoryview(buffer) as view:
            payload = bytes(view[HEADER.size : end])
        del buffer[:end]
        return kind, payload
