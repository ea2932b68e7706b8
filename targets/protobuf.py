"""Walks a protocol buffer without its schema compiled: field numbers and values, every length checked.

The wire format is https://protobuf.dev/programming-guides/encoding/. Only what a field of a message is made of is read;
what is skipped costs nothing, so a message of gigabytes is no burden.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

MAX_DEPTH = 64


class DamagedError(ValueError):
    """The bytes are no sound message; the text says where."""


@dataclass(frozen=True)
class Message:
    """A message: bytes of it, not copied."""

    data: memoryview

    def fields(self) -> Iterator[tuple[int, int | memoryview]]:
        """(number, value): an integer of a varint or fixed field, the bytes of any other. Raises DamagedError."""
        at, data = 0, self.data
        while at < len(data):
            tag, at = _varint(data, at)
            number, kind = tag >> 3, tag & 7
            if not number:
                raise DamagedError(f"field 0 at byte {at}")
            if kind == 0:
                value, at = _varint(data, at)
                yield number, value
            elif kind in (1, 5):
                size = 8 if kind == 1 else 4
                if at + size > len(data):
                    raise DamagedError(f"field {number} reaches beyond the end")
                yield number, int.from_bytes(data[at : at + size], "little")
                at += size
            elif kind == 2:
                size, at = _varint(data, at)
                if at + size > len(data):
                    raise DamagedError(f"field {number} of {size} bytes reaches beyond the end")
                yield number, data[at : at + size]
                at += size
            else:
                raise DamagedError(f"field {number} is of the unknown kind {kind}")

    def messages(self, number: int) -> Iterator[Message]:
        """The messages of a repeated field."""
        for found, value in self.fields():
            if found == number and isinstance(value, memoryview):
                yield Message(value)

    def message(self, number: int) -> Message:
        """The message of a field; an empty one where it is not there. The last one counts."""
        found = Message(memoryview(b""))
        for found in self.messages(number):  # noqa: B007 - the last
            pass
        return found

    def texts(self, number: int) -> Iterator[str]:
        """The strings of a repeated field. Raises DamagedError."""
        for message in self.messages(number):
            try:
                yield bytes(message.data).decode("utf-8")
            except UnicodeDecodeError as error:
                raise DamagedError(f"field {number} is no text") from error

    def text(self, number: int) -> str:
        """The string of a field, "" where it is not there."""
        found = ""
        for found in self.texts(number):  # noqa: B007 - the last
            pass
        return found

    def integer(self, number: int) -> int:
        """The signed number of a field, 0 where it is not there."""
        out = 0
        for found, value in self.fields():
            if found == number and isinstance(value, int):
                out = value - (1 << 64) if value >= 1 << 63 else value
        return out

    def map(self, number: int) -> Iterator[tuple[str, Message]]:
        """Key and value of a map whose values are messages."""
        for entry in self.messages(number):
            yield entry.text(1), entry.message(2)


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise DamagedError(f"a number at byte {at} has no end")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
