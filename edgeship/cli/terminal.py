"""What a stream can show: colours, symbols beyond ASCII, width; and nothing in a text that could steer the terminal."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from typing import IO

_COLOURS = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}
#: Symbols of ours and their ASCII form.
_ASCII = str.maketrans({
    "✓": "+", "✗": "x", "→": "->", "−": "-", "·": "|", "…": "...", "±": "+/-", "×": "x", "≤": "<=", "≥": ">=",
    "–": "-", "—": "-", "µ": "u", "°": " ", "“": '"', "”": '"', "’": "'",
})  # fmt: skip
#: Control characters that a name, a log line or an answer of a device could carry (line feed and tab stay), and what
#: stands for a byte of a file name that is no UTF-8.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True)
class Painted:
    """A text in a colour of `_COLOURS`."""

    text: str
    colour: str


class Terminal:
    """A text stream with what it can show.

    `NO_COLOR` switches colours off, `FORCE_COLOR` on; without them colours need a terminal that is not `dumb`.
    """

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream
        dumb = os.environ.get("TERM") == "dumb"
        self.interactive = stream.isatty() and not dumb
        self.colour = not os.environ.get("NO_COLOR") and (bool(os.environ.get("FORCE_COLOR")) or self.interactive)
        encoding = (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "")
        self.unicode = encoding.startswith("utf") and not dumb

    @property
    def width(self) -> int:
        """Columns; unlimited where it is no terminal, so that nothing is cut for a program."""
        return shutil.get_terminal_size().columns if self.interactive else 100_000

    def clean(self, text: str) -> str:
        """The text without control characters, in ASCII where the stream has no more."""
        text = _CONTROL.sub("\N{REPLACEMENT CHARACTER}" if self.unicode else "?", text)
        return text if self.unicode else text.translate(_ASCII).encode("ascii", "replace").decode()

    def write(self, *parts: str | Painted) -> None:
        """Write texts, each cleaned; painted ones in their colour if the stream shows colours."""
        out = []
        for part in parts:
            if isinstance(part, Painted):
                text = self.clean(part.text)
                out.append(f"\x1b[{_COLOURS[part.colour]}m{text}\x1b[0m" if self.colour else text)
            else:
                out.append(self.clean(part))
        self.stream.write("".join(out))
        self.stream.flush()
