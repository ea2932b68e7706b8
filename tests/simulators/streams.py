"""A text stream in memory that says what it is: a terminal or not, and its encoding."""

from __future__ import annotations

import io


class TextStream(io.StringIO):
    """A text stream."""

    def __init__(self, *, tty: bool = False, encoding: str = "utf-8") -> None:
        super().__init__()
        self._tty, self._encoding = tty, encoding

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._tty

    @property
    def encoding(self) -> str:  # type: ignore[override]  # StringIO has none to inherit
        """Its encoding."""
        return self._encoding
