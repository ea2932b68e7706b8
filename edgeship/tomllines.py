"""At which line of a TOML text each key stands: `tomllib` does not say.

The text is valid TOML (`tomllib` has read it), so the scanner only has to find its way: strings of all four kinds,
comments, dotted and quoted keys, tables, arrays of tables, arrays and inline tables over several lines.
"""

from __future__ import annotations

import bisect
import re

#: Where a value is: names of tables and keys, numbers of elements in arrays.
Path = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\r\n]*")  # numbers, dates, booleans
_STRINGS = {
    '"""': re.compile(r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5}', re.DOTALL),
    "'''": re.compile(r"'''(?:[^']|'{1,2}(?!'))*'{3,5}", re.DOTALL),
    '"': re.compile(r'"(?:[^"\\\n]|\\.)*"'),
    "'": re.compile(r"'[^'\n]*'"),
}
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))")
_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r"}


def key_lines(text: str) -> dict[Path, int]:
    """The line (from 1) of every key and table of a valid TOML text, by path."""
    return _Scanner(text).scan()


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Path, int] = {}
        self.counts: dict[Path, int] = {}  # arrays of tables: elements so far
        self.newlines = [found.start() for found in re.finditer("\n", text)]

    def scan(self) -> dict[Path, int]:
        table: Path = ()
        self.skip(_BLANK)
        while self.at < len(self.text):
            if self.text[self.at] == "[":
                table = self.header()
            else:
                self.pair(table)
            self.skip(_BLANK)
        return self.lines

    def skip(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        assert found is not None
        self.at = found.end()
        return found[0]

    def note(self, base: Path, names: tuple[str, ...], line: int) -> Path:
        path = base
        for name in names:
            path = (*path, name)
            self.lines.setdefault(path, line)
        return path

    def line(self) -> int:
        return bisect.bisect_left(self.newlines, self.at) + 1

    def header(self) -> Path:
        array = self.text.startswith("[[", self.at)
        line = self.line()
        self.at += 2 if array else 1
        names = self.key()
        self.at += 2 if array else 1
        path: Path = ()
        for index, name in enumerate(names):
            path = self.note(path, (name,), line)
            if array and index == len(names) - 1:
                self.counts[path] = self.counts.get(path, 0) + 1
            if path in self.counts:
                path = (*path, self.counts[path] - 1)
                self.lines.setdefault(path, line)
        return path

    def key(self) -> tuple[str, ...]:
        names: list[str] = []
        while True:
            self.skip(_SPACE)
            quote = self.text[self.at]
            if quote in "\"'":
                raw = self.skip(_STRINGS[quote])[1:-1]
                names.append(_ESCAPE.sub(_unescape, raw) if quote == '"' else raw)
            else:
                names.append(self.skip(_BARE_KEY))
            self.skip(_SPACE)
            if self.text[self.at] != ".":
                return tuple(names)
            self.at += 1

    def pair(self, base: Path) -> None:
        line = self.line()
        path = self.note(base, self.key(), line)
        self.at += 1  # the equals sign
        self.skip(_SPACE)
        self.value(path)

    def value(self, path: Path) -> None:
        opener = self.text[self.at]
        if opener in "\"'":
            triple = opener * 3
            self.skip(_STRINGS[triple if self.text.startswith(triple, self.at) else opener])
        elif opener in "[{":
            self.items(path, "]" if opener == "[" else "}")
        else:
            self.skip(_SCALAR)

    def items(self, path: Path, closer: str) -> None:
        self.at += 1
        index = 0
        while True:
            self.skip(_BLANK)
            if self.text[self.at] == closer:
                self.at += 1
                return
            if self.text[self.at] == ",":
                self.at += 1
                index += 1
            elif closer == "]":
                self.lines.setdefault((*path, index), self.line())
                self.value((*path, index))
            else:
                self.pair(path)


def _unescape(found: re.Match[str]) -> str:
    code = found[1] or found[2]
    return chr(int(code, 16)) if code else _ESCAPES.get(found[3], found[3])
