"""Strict reading: what is refused, with which words, at which line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pytest

from edgeship import tomlfile
from edgeship.errors import ConfigError
from edgeship.tomlfile import Document, Key, Kind


@dataclass(frozen=True, kw_only=True)
class Inner:
    """A table."""

    count: Annotated[int, Key(tomlfile.integer(1, 9), "How many.")] = 3
    wait_seconds: Annotated[float | None, Key(tomlfile.duration(0, 60), "How long.", "wait")] = None


@dataclass(frozen=True, kw_only=True)
class Outer:
    """A file."""

    name: Annotated[str, Key(tomlfile.TEXT, "What it is.")]
    inner: Inner = field(default_factory=Inner)
    tags: Annotated[tuple[str, ...], Key(tomlfile.STRINGS, "Words.")] = ()


def read(text: str) -> Outer:
    return tomlfile.build(Outer, Document(text, "file.toml").values(tomlfile.leaves(Outer), free=("schema",)))


def test_a_right_file_becomes_the_dataclass() -> None:
    assert read('schema = "x"\nname = "a"\ntags = ["t"]\n[inner]\nwait = "20ms"') == Outer(
        name="a", tags=("t",), inner=Inner(wait_seconds=0.02)
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "a"\nnmae = "b"', "file.toml:2: unknown key 'nmae'; did you mean 'name'?"),
        ('name = "a"\n[innr]\ncount = 1', "file.toml:2: unknown table 'innr'; did you mean 'inner'?"),
        ('name = "a"\n[inner]\ncuont = 1', "file.toml:3: unknown key 'inner.cuont'; did you mean 'count'?"),
        ('name = "a"\ninner.cuont = 1', "file.toml:2: unknown key 'inner.cuont'; did you mean 'count'?"),
        ('name = "a"\n[inner]\ntags = []', "file.toml:3: unknown key 'inner.tags'; did you mean 'tags'?"),
        ('name = "a"\n[inner]\nzzzz = 1', "file.toml:3: unknown key 'inner.zzzz'"),
        ('name = "a"\ninner = 3', "file.toml:2: inner must be a table: [inner]"),
        ('name = "a"\n[inner]\ncount = 10', "file.toml:3: inner.count must be a whole number from 1 to 9 (it is 10)"),
        (
            'name = "a"\n[inner]\ncount = true',
            "file.toml:3: inner.count must be a whole number from 1 to 9 (it is True)",
        ),
        ("name = 7", "file.toml:1: name must be text, and not empty (it is 7)"),
        ("name = [1", "file.toml:1: not valid TOML: Unclosed array"),
        ("name = 1\nname = 2", "file.toml:2: not valid TOML: Cannot overwrite a value"),
        ('name = "a"\nx y = 2', "file.toml:2: not valid TOML: Expected '=' after a key in a key/value pair"),
    ],
)
def test_what_is_wrong_is_said_with_file_line_and_key(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert str(caught.value).startswith(message)


def test_an_unknown_key_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError) as caught:
        read('name = "a"\nzzzz = 1')
    assert caught.value.hint == "known here: inner, name, schema, tags"


def test_a_missing_key_is_named() -> None:
    with pytest.raises(KeyError) as caught:
        read("[inner]")
    assert caught.value.args[0] == ("name",)


def test_a_long_value_is_shortened_in_the_message() -> None:
    with pytest.raises(ConfigError, match="…") as caught:
        read(f'name = "a"\ntags = "{"x" * 500}"\n[inner]\ncount = "{"y" * 500}"')
    assert len(str(caught.value)) < 300


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(ConfigError, match="nested too deeply"):
        Document("a = " + "[" * 5000 + "]" * 5000, "deep.toml")


def test_a_file_that_cannot_be_read_is_an_error_with_its_name(tmp_path: Path) -> None:
    missing, latin, large = tmp_path / "missing.toml", tmp_path / "latin.toml", tmp_path / "large.toml"
    latin.write_bytes(b'name = "\xe4"')
    large.write_bytes(b"#" * (tomlfile.MAX_BYTES + 1))
    for path, words in ((missing, "No such file"), (latin, "not UTF-8 text"), (large, "over 1048576 bytes")):
        with pytest.raises(ConfigError, match=f"{path.name}.*{words}"):
            Document.open(path)


def test_leaves_name_keys_as_in_the_file_and_values_by_attribute() -> None:
    by_name = {leaf.dotted: leaf for leaf in tomlfile.leaves(Outer)}
    assert list(by_name) == ["name", "inner.count", "inner.wait", "tags"]
    assert by_name["name"].required
    assert not by_name["inner.wait"].required
    assert by_name["inner.count"].default == 3
    assert tomlfile.value_at(Outer(name="a", inner=Inner(wait_seconds=5.0)), by_name["inner.wait"]) == 5.0


# ── kinds ────────────────────────────────────────────────────────────────────────────────────────────────────────────

FORMATS = tomlfile.several("tflite", "onnx")


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (tomlfile.TEXT, "a", "a"),
        (tomlfile.OPTIONAL_TEXT, "", ""),
        (tomlfile.STRINGS, ["a", "b"], ("a", "b")),
        (tomlfile.ARGV, ["x", "--", "x"], ("x", "--", "x")),
        (tomlfile.number(0, 9), 7, 7.0),
        (tomlfile.choice("a", "b"), "b", "b"),
        (FORMATS, ["onnx"], ("onnx",)),
        (tomlfile.matching(r"\d+", "digits"), "12", "12"),
        (tomlfile.duration(0, 9999), "20ms", 0.02),
        (tomlfile.duration(0, 9999), "1.5 s", 1.5),
        (tomlfile.duration(0, 9999), "2m", 120.0),
        (tomlfile.duration(0, 9999), "1h", 3600.0),
        (tomlfile.duration(0, 9999), "250us", 0.00025),
        (tomlfile.duration(0, 9999), "250µs", 0.00025),  # as results are printed
        (tomlfile.milliseconds(0, 9), "20ms", 20.0),
        (tomlfile.size(0, 1 << 40), "4MB", 4_000_000),
        (tomlfile.size(0, 1 << 40), "4 MiB", 4_194_304),
        (tomlfile.size(0, 1 << 40), "0.5kB", 500),
        (tomlfile.size(0, 1 << 40), "7B", 7),
    ],
)
def test_a_right_value_is_taken(kind: Kind, value: object, expected: object) -> None:
    got = kind.read(value)
    assert got == (pytest.approx(expected) if isinstance(expected, float) else expected)
    assert type(got) is type(expected)


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (tomlfile.TEXT, "  ", "not empty"),
        (tomlfile.OPTIONAL_TEXT, 3, "must be text"),
        (tomlfile.STRINGS, ["a", 1], "list of texts"),
        (tomlfile.STRINGS, ["a", "a"], "twice"),
        (tomlfile.STRINGS, 3, "list of texts"),
        (tomlfile.ARGV, [], "at least one"),
        (tomlfile.integer(0, 9), 1.0, "whole number"),
        (tomlfile.integer(0, 9), "7", "whole number"),
        (tomlfile.number(0, 9), "7", "from 0 to 9"),
        (tomlfile.STRINGS, "a,b", "list of texts"),
        (tomlfile.number(0, 9), float("nan"), "from 0 to 9"),
        (tomlfile.number(0, 9), float("inf"), "from 0 to 9"),
        (tomlfile.number(0, 9), False, "from 0 to 9"),
        (tomlfile.choice("sd", "disk"), "dsk", "did you mean 'disk'"),
        (FORMATS, ["onx"], "did you mean 'onnx'"),
        (tomlfile.matching(r"\d+", "digits"), "1a", "must be digits"),
        (tomlfile.duration(0, 60), "20", "with its unit"),
        (tomlfile.duration(0, 60), 20, "with its unit"),
        (tomlfile.duration(0, 60), "20 parsecs", "with its unit"),
        (tomlfile.duration(0, 60), "-1s", "with its unit"),
        (tomlfile.duration(1, 60), "2m", "from 1 s to 60 s"),
        (tomlfile.size(1, 10), "0B", "from 1 to 10 bytes"),
        (tomlfile.size(1, 10), "4mb", "with its unit"),
        (tomlfile.table_of(lambda _key, value: value, "names"), 3, "must be a table"),
    ],
)
def test_a_wrong_value_is_refused_with_what_it_must_be(kind: Kind, value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        kind.read(value)


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (tomlfile.STRINGS, "a, b,", ("a", "b")),
        (tomlfile.integer(0, 9), "7", 7),
        (tomlfile.number(-1, 9), "-1e0", -1.0),
        (tomlfile.TEXT, "7", "7"),
        (tomlfile.duration(0, 9), "2s", 2.0),
    ],
)
def test_a_text_of_the_environment_is_taken_for_what_it_says(kind: Kind, text: str, expected: object) -> None:
    assert kind.parse(text) == expected


def test_a_text_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="whole number"):
        tomlfile.integer(0, 9).parse("seven")


def test_a_table_checks_each_of_its_values() -> None:
    def positive(key: str, value: object) -> Any:
        if not isinstance(value, int) or value <= 0:
            raise ValueError(f"holds {key}, which is not positive")
        return value

    read: Callable[[object], Any] = tomlfile.table_of(positive, "numbers").read
    assert read({"a": 1}) == {"a": 1}
    with pytest.raises(ValueError, match="holds b"):
        read({"a": 1, "b": -1})
