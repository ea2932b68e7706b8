"""Strict reading of TOML files into frozen dataclasses.

Rules this module keeps:

* A file means what it says or is refused: an unknown key, a wrong type, a value out of range is an error.
* Every error names the file, the line and the key, and suggests what was probably meant.
* What a file may hold is written once, as annotated dataclass fields: `name: Annotated[str, Key(TEXT, "what it is")]`.
  Loading, the reference documentation and its tests all read it from there.

A dataclass field whose type is itself a dataclass is a TOML table.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from edgeship.errors import ConfigError
from edgeship.tomllines import Path as KeyPath
from edgeship.tomllines import key_lines

MAX_BYTES = 1 << 20  # of one file: a configuration is written by hand

T = TypeVar("T")


# ── kinds of values ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Kind:
    """What a value must be: words for people, a function from the decoded TOML value, one from a text.

    `read` raises ValueError; its message follows the key ("must be …"). `decode` makes a text of the environment into
    what a file would hold.
    """

    says: str
    read: Callable[[object], Any]
    decode: Callable[[str], object] = str

    def parse(self, text: str) -> Any:
        """A value out of a text of the environment. Raises ValueError."""
        return self.read(self.decode(text))


@dataclass(frozen=True)
class Key:
    """One key of a TOML file: what it must be and what it is for."""

    kind: Kind
    doc: str
    name: str = ""  # in the file, where it differs from the attribute


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be text, and not empty")
    return value


def _strings(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise ValueError('must be a list of texts, such as ["a", "b"]')
    if len(set(value)) != len(value):
        raise ValueError("names something twice")
    return tuple(value)


def _by_commas(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _number_of(text: str) -> object:
    try:
        return float(text) if re.search("[.eE]", text) else int(text)
    except ValueError:
        return text


def _numbers(value: object) -> tuple[float, ...]:
    if not isinstance(value, list) or not value or any(isinstance(v, bool) for v in value):
        raise ValueError("must be a list of numbers, such as [0.5, 0.5, 0.5]")
    if not all(isinstance(item, (int, float)) and math.isfinite(item) for item in value):
        raise ValueError("must be a list of finite numbers, such as [0.5, 0.5, 0.5]")
    return tuple(float(item) for item in value)


TEXT = Kind("text", _text)
NUMBERS = Kind("list of numbers", _numbers, lambda text: [_number_of(part) for part in _by_commas(text)])
STRINGS = Kind("list of texts", _strings, _by_commas)


def _argv(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):
        raise ValueError('must be a list of texts with at least one, such as ["python3"]')
    return tuple(value)


ARGV = Kind("list of texts", _argv)


def optional_text(value: object) -> str:
    """Text that may be empty. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError("must be text")  # noqa: TRY004
    return value


OPTIONAL_TEXT = Kind("text, may be empty", optional_text)


def integer(low: int, high: int) -> Kind:
    """A whole number within bounds."""

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return value

    return Kind(f"whole number, {low} to {high}", read, _number_of)


def number(low: float, high: float) -> Kind:
    """A finite number within bounds."""

    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}")
        return float(value)

    return Kind(f"number, {low:g} to {high:g}", read, _number_of)


def choice(*options: str) -> Kind:
    """One of a few words."""

    def read(value: object) -> str:
        if not isinstance(value, str) or value not in options:
            hint = suggestion(str(value), options)
            raise ValueError(f"must be one of {', '.join(options)}{hint}")
        return value

    return Kind(" | ".join(f"`{o}`" for o in options), read)


def several(*options: str) -> Kind:
    """A list of some of a few words, in order of preference."""

    def read(value: object) -> tuple[str, ...]:
        items = _strings(value)
        for item in items:
            if item not in options:
                raise ValueError(
                    f"holds {item!r}, which is none of {', '.join(options)}{suggestion(item, options)}"
                )  # fmt: skip
        return items

    return Kind("list of " + ", ".join(f"`{o}`" for o in options), read)


def matching(pattern: str, says: str) -> Kind:
    """Text that matches a pattern wholly."""

    def read(value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise ValueError(f"must be {says}")
        return value

    return Kind(says, read)


_SECONDS = {"us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def duration(low: float, high: float) -> Kind:
    """A time with its unit ("20ms", "2s", "1m"), to seconds within bounds."""

    def read(value: object) -> float:
        seconds = _with_unit(value, _SECONDS)
        if seconds is None:
            raise ValueError('must be a time with its unit, such as "20ms", "2s" or "1m"')
        if not low <= seconds <= high:
            raise ValueError(f"must be from {_said(low)} to {_said(high)}")
        return seconds

    return Kind('time with its unit: `"20ms"`, `"2s"`, `"1m"`', read)


def _said(seconds: float) -> str:
    unit = next((name for name in ("s", "ms") if seconds >= _SECONDS[name]), "us")
    return f"{seconds / _SECONDS[unit]:g} {unit}"


def milliseconds(low: float, high: float) -> Kind:
    """As `duration`, to milliseconds (bounds are seconds)."""
    inner = duration(low, high)
    return Kind(inner.says, lambda value: inner.read(value) * 1000.0)


def size(low: int, high: int) -> Kind:
    """A size with its unit ("4MB" = 4,000,000 bytes, "4MiB" = 4,194,304), to whole bytes within bounds."""

    def read(value: object) -> int:
        count = _with_unit(value, _BYTES)
        if count is None:
            raise ValueError('must be a size with its unit, such as "500kB", "4MB" or "4MiB"')
        if not low <= count <= high:
            raise ValueError(f"must be from {low} to {high} bytes")
        return round(count)

    return Kind('size with its unit: `"500kB"`, `"4MB"`, `"4MiB"`', read)


def _with_unit(value: object, units: Mapping[str, float]) -> float | None:
    found = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?)\s?([A-Za-zµμ]{1,3})", value) if isinstance(value, str) else None
    return float(found[1]) * units[found[2]] if found and found[2] in units else None


def table_of(read_value: Callable[[str, object], Any], says: str) -> Kind:
    """A table whose keys are free or checked by `read_value(key, value)`, which raises ValueError."""

    def read(value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError(f"must be a table: {says}")  # noqa: TRY004
        return {key: read_value(key, item) for key, item in value.items()}

    return Kind(says, read)


def suggestion(word: str, known: Iterable[str]) -> str:
    """What follows an error about a word that is not known: "; did you mean …", or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


# ── what a dataclass allows ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Leaf:
    """One allowed key: its `path` in the file, its `default` or MISSING."""

    path: tuple[str, ...]
    key: Key
    default: Any
    attributes: tuple[str, ...]  # the way to it in the dataclass

    @property
    def dotted(self) -> str:
        """`table.key`."""
        return ".".join(self.path)

    @property
    def required(self) -> bool:
        """Whether a file must hold it."""
        return self.default is dataclasses.MISSING


def leaves(cls: type, prefix: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """All keys that a dataclass and its nested dataclasses allow, in order; `prefix` is where it stands in the file."""
    for field, hint in _fields(cls):
        if dataclasses.is_dataclass(hint):
            assert isinstance(hint, type)
            yield from leaves(hint, (*prefix, field.name))
        elif (key := _key_of(hint)) is not None:
            default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
            yield Leaf((*prefix, key.name or field.name), key, default, (*prefix, field.name))


def value_at(instance: object, leaf: Leaf) -> Any:
    """The value of a key in an instance of the dataclass that `leaves` was asked for."""
    value = instance
    for name in leaf.attributes:
        value = getattr(value, name)
    return value


def _fields(cls: type) -> Iterator[tuple[dataclasses.Field[Any], Any]]:
    hints = get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        yield field, hints[field.name]


def _key_of(hint: object) -> Key | None:
    if get_origin(hint) is Annotated:
        return next((extra for extra in get_args(hint)[1:] if isinstance(extra, Key)), None)
    return None


# ── one file ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Document:
    """A TOML file that was read, with the line of each key.

    Args:
        text: what the file holds.
        origin: how errors call it.

    Raises:
        ConfigError: it is no TOML; the message names the line.
    """

    def __init__(self, text: str, origin: str) -> None:
        self.origin = origin
        try:
            self.data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            found = re.search(r"\s*\(at (?:line (\d+), column \d+|end of document)\)$", str(error))
            line = f":{found[1] or text.count(chr(10)) + 1}" if found else ""
            what = str(error)[: found.start()] if found else str(error)
            raise ConfigError(
                f"{origin}{line}: not valid TOML: {what}",
                hint="texts stand in quotes; tables in brackets on a line of their own",
            ) from error
        except RecursionError as error:
            raise ConfigError(f"{origin}: nested too deeply", hint="no setting is nested more than once") from error
        self._lines = key_lines(text)

    @classmethod
    def open(cls, path: Path, *, hint: str | None = None) -> Document:
        """Read a file. Raises ConfigError when it is missing, unreadable, too large, or no TOML."""
        try:
            with path.open("rb") as file:
                raw = file.read(MAX_BYTES + 1)
            if len(raw) > MAX_BYTES:
                raise ConfigError(f"{path}: over {MAX_BYTES} bytes is no file of this kind", hint="is it another file?")
            return cls(raw.decode("utf-8"), str(path))
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror or error}", hint=hint) from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})", hint="save it as UTF-8") from error

    def place(self, path: KeyPath) -> str:
        """`file:line` of a key, or of the nearest table around it."""
        at = path
        while at and at not in self._lines:
            at = at[:-1]
        return f"{self.origin}:{self._lines[at]}" if at else self.origin

    def error(self, path: KeyPath, message: str, *, hint: str | None = None) -> ConfigError:
        """An error at a key."""
        return ConfigError(f"{self.place(path)}: {message}", hint=hint)

    def values(self, allowed: Iterable[Leaf], *, free: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
        """All values by path, each checked.

        Args:
            allowed: the keys that may be there.
            free: top-level keys that the caller reads itself (such as `schema`).

        Raises:
            ConfigError: unknown key, wrong type, out of range.
        """
        by_path = {leaf.path: leaf for leaf in allowed}
        tables = {path[:n] for path in by_path for n in range(1, len(path))}
        out: dict[tuple[str, ...], Any] = {}
        self._walk(self.data, (), by_path, tables, free, out)
        return out

    def _walk(
        self, data: Mapping[str, Any], prefix: tuple[str, ...], by_path: Mapping[tuple[str, ...], Leaf],
        tables: set[tuple[str, ...]], free: tuple[str, ...], out: dict[tuple[str, ...], Any],
    ) -> None:  # fmt: skip
        for name, value in data.items():
            path = (*prefix, name)
            dotted = ".".join(path)
            if path in by_path:
                try:
                    out[path] = by_path[path].key.kind.read(value)
                except ValueError as error:
                    raise self.error(path, f"{dotted} {error} (it is {shorten(value)})") from None
            elif path in tables:
                if not isinstance(value, dict):
                    raise self.error(path, f"{dotted} must be a table: [{dotted}]")
                self._walk(value, path, by_path, tables, free, out)
            elif prefix or name not in free:
                raise self._unknown(path, value, by_path, tables, free)

    def _unknown(
        self, path: tuple[str, ...], value: object, by_path: Iterable[tuple[str, ...]],
        tables: Iterable[tuple[str, ...]], free: tuple[str, ...],
    ) -> ConfigError:  # fmt: skip
        prefix, name = path[:-1], path[-1]
        known = {p[len(prefix)] for p in (*by_path, *tables) if p[: len(prefix)] == prefix and len(p) > len(prefix)}
        if not prefix:
            known |= set(free)
        elsewhere = sorted(".".join(p) for p in by_path if p[-1] == name)
        what = "table" if isinstance(value, dict) else "key"
        close = suggestion(name, sorted(known))
        if not close and elsewhere:
            close = f"; did you mean {elsewhere[0]!r}?"
        known_here = f"known here: {', '.join(sorted(known))}"
        return self.error(path, f"unknown {what} {'.'.join(path)!r}{close}", hint=known_here)


def build(cls: type[T], values: Mapping[tuple[str, ...], Any], prefix: tuple[str, ...] = ()) -> T:
    """A dataclass out of values by path; defaults where there is none.

    Raises:
        KeyError: a required key is missing; its argument is the path.
    """
    arguments: dict[str, Any] = {}
    for field, hint in _fields(cls):
        if dataclasses.is_dataclass(hint):
            assert isinstance(hint, type)
            arguments[field.name] = build(hint, values, (*prefix, field.name))
        elif (key := _key_of(hint)) is not None:
            path = (*prefix, key.name or field.name)
            if path in values:
                arguments[field.name] = values[path]
            elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                raise KeyError(path)
    return cls(**arguments)


def shorten(value: object) -> str:
    """A value for an error message, of bounded length."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
