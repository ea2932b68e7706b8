"""What a command prints: a table for people or one JSON object for programs, on standard output.

Rules this module keeps:

* Standard output is data. Messages, questions and progress go to standard error.
* With `--json` standard output is one object `{"schema": "edgeship.<noun>.<verb>/v1", "data": …}`; nothing is asked.
* No control characters unless the stream is a terminal; texts of devices are cleaned of them always.

How a command uses it (`edgeship.cli.options.with_output` makes the `Output`):

    out.emit("device.list", [record, …], Table(("name", "status"), [("pi", "online")], empty="no devices yet"))
    with out.reporter() as reporter: …            # an edgeship.reporter.Reporter
    out.say("next: edgeship serve --open")        # standard error
    out.confirm("stop the agent on 3 devices?", yes=yes)
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgeship.cli import State
from edgeship.cli.patience import Patient
from edgeship.cli.progress import JsonReporter, ProgressReporter
from edgeship.cli.terminal import Painted, Terminal
from edgeship.errors import EdgeshipError, UsageError


@dataclass(frozen=True)
class Table:
    """Rows for people. None is shown as a dash; without rows, `empty` is said on standard error."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    empty: str = ""


@dataclass(frozen=True)
class Pairs:
    """Names and values, one a line; a value that is a list takes one line an element."""

    items: Sequence[tuple[str, object]]


@dataclass(frozen=True)
class Lines:
    """Texts, one a line."""

    lines: Sequence[str]


Human = Table | Pairs | Lines | Sequence[Table | Pairs | Lines]


class Output:
    """Where a command prints to."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.json = state.json

    def emit(self, name: str, data: object, human: Human) -> None:
        """The result of a command.

        Args:
            name: "<noun>.<verb>" of the schema, such as "device.list"; it must stand in `edgeship.cli.schemas`.
            data: what `json.dumps` takes.
            human: the same for people.
        """
        if self.json:
            self._line(name, data)
            return
        screen = Terminal(sys.stdout)
        blocks = [human] if isinstance(human, (Table, Pairs, Lines)) else human
        for index, block in enumerate(blocks):
            if index:
                screen.write("\n")
            self._show(screen, block)

    def say(self, text: str, *, colour: str = "") -> None:
        """A message for people, on standard error; nothing with `--json`."""
        if not self.json:
            Terminal(sys.stderr).write(Painted(text, colour) if colour else text, "\n")

    def reporter(self) -> Patient:
        """How the core tells of progress; use it as a context manager. Lines or JSON events on standard error."""
        return Patient(JsonReporter(sys.stderr) if self.json else ProgressReporter(Terminal(sys.stderr)))

    def confirm(self, question: str, *, yes: bool, option: str = "--yes") -> None:
        """Ask, unless `yes`; `option` is what a script gives instead.

        Raises:
            UsageError: nobody is there to ask.
            EdgeshipError: the answer was no.
        """
        if yes:
            return
        self._need_someone(question, option)
        import click

        if not click.confirm(Terminal(sys.stderr).clean(question), default=False, err=True):
            raise EdgeshipError("cancelled; nothing was done")

    def ask(self, question: str, *, option: str) -> str:
        """Ask for a text; `option` is what a script gives instead. Raises UsageError when nobody is there."""
        self._need_someone(question, option)
        import click

        answer = click.prompt(Terminal(sys.stderr).clean(question), err=True)
        assert isinstance(answer, str)
        return answer

    def _need_someone(self, question: str, option: str) -> None:
        if self.json or not sys.stdin.isatty():
            raise UsageError(f"this needs an answer: {question}", hint=f"give {option}")

    def _line(self, name: str, data: object) -> None:
        sys.stdout.write(json.dumps({"schema": f"edgeship.{name}/v1", "data": data}, allow_nan=False) + "\n")
        sys.stdout.flush()

    def _show(self, screen: Terminal, block: Table | Pairs | Lines) -> None:
        if isinstance(block, Lines):
            for line in block.lines:
                screen.write(line + "\n")
        elif isinstance(block, Pairs):
            width = max((len(name) for name, _ in block.items), default=0)
            for name, value in block.items:
                values = value if isinstance(value, (list, tuple)) else [value]
                for index, item in enumerate(values or [None]):
                    label = Painted(f"{name if not index else '':<{width}}", "dim")
                    screen.write(label, f"  {_cell(item)}\n")
        elif not block.rows:
            Terminal(sys.stderr).write(f"{block.empty}\n" if block.empty else "")
        else:
            _table(screen, block)


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _table(screen: Terminal, table: Table) -> None:
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console(
        file=screen.stream, width=screen.width, force_terminal=screen.colour, no_color=not screen.colour,
        color_system="standard" if screen.colour else None, highlight=False, markup=False, emoji=False,
    )  # fmt: skip
    view = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold" if screen.colour else "")
    for index, column in enumerate(table.columns):
        cells = [row[index] for row in table.rows if row[index] is not None]
        numeric = bool(cells) and all(isinstance(cell, (int, float)) and not isinstance(cell, bool) for cell in cells)
        view.add_column(screen.clean(column.upper()), justify="right" if numeric else "left", overflow="fold")
    for row in table.rows:
        view.add_row(*(Text(screen.clean(_cell(cell).replace("\n", " "))) for cell in row))
    with console.capture() as capture:
        console.print(view)
    screen.stream.write("".join(line.rstrip() + "\n" for line in capture.get().splitlines()))
    screen.stream.flush()


def human_bytes(count: float) -> str:
    """A number of bytes for people: 999 B, 1.6 MB (powers of 1,000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def human_seconds(seconds: float) -> str:
    """A duration for people: 12 ms, 9.1 s, 2 min 5 s, 3 h 5 min, 4 d 3 h."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    for big, small, names in ((86400, 3600, "d h"), (3600, 60, "h min"), (60, 1, "min s")):
        if whole >= big:
            first, second = names.split()
            return f"{whole // big} {first} {whole % big // small} {second}"
    raise AssertionError


def jsonable(value: object) -> Any:
    """Paths, tuples, mappings and dataclasses as what `json.dumps` takes."""
    import dataclasses
    from collections.abc import Mapping
    from pathlib import Path

    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: jsonable(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [jsonable(item) for item in value]
    return str(value) if isinstance(value, Path) else value
