"""Lines of keys: every way TOML has to hide a key or to look like one."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeship.tomllines import Path, key_lines

TEXT = '''# name = "a comment"
name = "x = 1" # y = 2
"quoted key" = 'q = [1'
a.b."c.d" = 1
list = [
  "one", # two = 2
  { in = 1, line.deep = "}" },
]
inline = { p = [1, 2], q = { r = "]" } }

[table]          # [no.table]
text = """
[fake]
fake = 1
""" # after
raw = \'\'\'it's
fake = '2' \'\'\'
date = 1979-05-27 07:32:00
[table.sub."x y"]
k = -1.5e3
[[rows]]
n = 1
[rows.more]
m = true
[[rows]]
n = 2
"\\u0041\\t\\"b\\\\" = """a"""""
last = 1'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("name",), 2),
        (("quoted key",), 3),
        (("a",), 4),
        (("a", "b", "c.d"), 4),
        (("list",), 5),
        (("list", 0), 6),
        (("list", 1, "in"), 7),
        (("list", 1, "line", "deep"), 7),
        (("inline", "p"), 9),
        (("inline", "q", "r"), 9),
        (("table",), 11),
        (("table", "text"), 12),
        (("table", "raw"), 16),
        (("table", "date"), 18),
        (("table", "sub", "x y"), 19),
        (("table", "sub", "x y", "k"), 20),
        (("rows",), 21),
        (("rows", 0, "n"), 22),
        (("rows", 0, "more"), 23),
        (("rows", 0, "more", "m"), 24),
        (("rows", 1, "n"), 26),
        (("rows", 1, 'A\t"b\\'), 27),
        (("rows", 1, "last"), 28),
    ],
)
def test_a_key_stands_at_its_line(path: Path, line: int) -> None:
    assert key_lines(TEXT)[path] == line


def test_every_key_that_tomllib_reads_has_a_line_and_no_other() -> None:
    assert set(_paths(tomllib.loads(TEXT))) == set(key_lines(TEXT))


def test_an_empty_text_has_no_keys() -> None:
    assert key_lines("") == {}
    assert key_lines("# only a comment") == {}


def test_windows_line_ends_count_as_one() -> None:
    assert key_lines("a = 1\r\nb = 2\r\n[c]\r\nd = 3") == {("a",): 1, ("b",): 2, ("c",): 3, ("c", "d"): 4}


_texts = st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=12)


def _basic(text: str) -> str:
    escaped = "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in text)
    return f'"{escaped}"'


@settings(deadline=None)
@given(st.dictionaries(_texts, _texts, max_size=6))
def test_any_key_and_any_value_is_found_at_its_line(table: dict[str, str]) -> None:
    text = "".join(f"{_basic(key)} = {_basic(value)}\n" for key, value in table.items())
    assert tomllib.loads(text) == table
    assert key_lines(text) == {(key,): number for number, key in enumerate(table, 1)}


def _paths(value: object, prefix: Path = ()) -> list[Path]:
    out: list[Path] = []
    items: Mapping[Any, object] = {}
    if isinstance(value, dict):
        items = value
    elif isinstance(value, list):
        items = dict(enumerate(value))
    for key, item in items.items():
        out += [(*prefix, key), *_paths(item, (*prefix, key))]
    return out
