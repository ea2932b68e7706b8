"""The prose of the documentation: every command in it exists with its options, every link leads somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from edgeship.cli import cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path for folder in ("docs", "benchmarks") for path in (ROOT / folder).rglob("*.md") if "reference" not in path.parts
)


def commands(path: Path) -> list[str]:
    """Lines in code blocks, and code within sentences, that call edgeship."""
    text = path.read_text(encoding="utf-8")
    blocks = re.findall(r"```\n(.*?)```", text, flags=re.DOTALL)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    within = re.findall(r"`(edgeship [a-z][^`]*)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [line for line in [*lines, *within] if line.startswith("edgeship ")]


def resolve(line: str) -> tuple[click.Command, list[str]]:
    """The command of a line and the words behind its name."""
    command: click.Command = cli
    words = shlex.split(line)[1:]
    while isinstance(command, click.Group):
        context = click.Context(command)
        found = command.get_command(context, words[0])
        assert found is not None, f"{line!r}: no such command"
        command, words = found, words[1:]
        if not words:
            break
    return command, words


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_command_in_the_prose_exists_with_its_options(path: Path) -> None:
    for line in commands(path):
        line = line.split(" · ")[0].split("|")[0]
        command, words = resolve(line)
        known = {opt for parameter in command.params for opt in (*parameter.opts, *parameter.secondary_opts)}
        used = {word.partition("=")[0] for word in words if re.fullmatch(r"-[a-z]|--[a-z-]+(=.*)?", word)}
        assert used <= known, f"{path.name}: {line!r} uses {sorted(used - known)}"


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_leads_to_a_file(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_there_is_prose_to_test() -> None:
    assert {"index.md", "tutorial.md", "measurement.md", "0001-links-for-folders.md"} <= {path.name for path in PAGES}
    assert sum(len(commands(path)) for path in PAGES) > 30
