"""What a stream can show, and what no text may do to it."""

from __future__ import annotations

import io

import pytest

from edgeship.cli.terminal import Painted, Terminal
from tests.simulators.streams import TextStream


def written(stream: TextStream, *parts: str | Painted) -> str:
    Terminal(stream).write(*parts)
    return stream.getvalue()


def test_a_file_gets_no_control_characters() -> None:
    assert written(TextStream(), Painted("✓", "green"), " done\n") == "✓ done\n"


def test_a_terminal_gets_colours() -> None:
    assert written(TextStream(tty=True), Painted("no", "red")) == "\x1b[31mno\x1b[0m"


@pytest.mark.parametrize(
    ("variables", "tty", "colour"),
    [
        ({"NO_COLOR": "1"}, True, False),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
        ({"TERM": "dumb"}, True, False),
        ({"TERM": "xterm"}, True, True),
        ({}, False, False),
    ],
)
def test_colours_follow_the_conventions(
    variables: dict[str, str], tty: bool, colour: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Terminal(TextStream(tty=tty)).colour is colour


def test_symbols_have_an_ascii_form() -> None:
    text = "✓ a → b · −0.1 … ±1 × µ 2 ≤ 3 ü"
    assert written(TextStream(encoding="ascii"), text) == "+ a -> b | -0.1 ... +/-1 x u 2 <= 3 ?"


def test_a_dumb_terminal_is_ascii_and_not_interactive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    screen = Terminal(TextStream(tty=True))
    assert not screen.interactive
    assert screen.clean("→") == "->"


@pytest.mark.parametrize("text", ["\x1b[2J", "a\rb", "\x07", "\x9b31m", "\u202eevil", "\x00", "\udcff"])
def test_a_text_of_a_device_cannot_steer_the_terminal(text: str) -> None:
    out = written(TextStream(tty=True), text)
    assert not any(ord(c) < 32 or 0x7F <= ord(c) <= 0x9F or c == "\u202e" for c in out)
    assert "\N{REPLACEMENT CHARACTER}" in out


def test_a_painted_text_is_cleaned_too() -> None:
    assert written(TextStream(tty=True), Painted("\x1b[0m", "red")) == "\x1b[31m\N{REPLACEMENT CHARACTER}[0m\x1b[0m"


def test_a_file_is_never_too_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert Terminal(TextStream()).width > 1000
    assert Terminal(TextStream(tty=True)).width == 40


def test_a_stream_without_an_encoding_is_ascii() -> None:
    assert not Terminal(io.StringIO()).unicode
