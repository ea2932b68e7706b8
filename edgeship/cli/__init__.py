"""The command line: `main`, and a table of commands that load when they are used.

Rules this package keeps:

* A command's file parses, calls and prints; it holds no logic.
* `edgeship --help` imports click and nothing else: the texts of the commands stand in `COMMANDS`; a test holds them
  equal to the commands' own.
* Standard output is data; messages, questions and progress go to standard error.
* Exit codes are those of `edgeship.errors`; a traceback is shown with `--debug` alone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import click

from edgeship import __version__

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

INTERRUPTED = 130  # `edgeship.errors.Interrupted`, which the help does not import


@dataclass(frozen=True)
class Entry:
    """A command that is not loaded yet: "module:attribute" and its line in the help."""

    where: str
    help: str


#: Section of the help -> command -> where it is.
COMMANDS: Mapping[str, Mapping[str, Entry]] = {
    "From zero to running": {
        "init": Entry("edgeship.cli.init:init", "Set up a project in this folder, and the device sim."),
        "push": Entry("edgeship.cli.push:push", "Convert, check, sign and deploy a model to devices."),
        "infer": Entry("edgeship.cli.infer:infer", "Ask a device for answers to samples."),
        "status": Entry("edgeship.cli.status:status", "Show the devices and what they serve."),
        "logs": Entry("edgeship.cli.logs:logs", "Show the last lines of a device's log."),
        "rollback": Entry("edgeship.cli.rollback:rollback", "Go back to an earlier release on devices."),
    },
    "Model and release": {
        "optimize": Entry("edgeship.cli.optimize:optimize", "Search the best variant of a model that meets a budget."),
        "model": Entry("edgeship.cli.model:model", "Look into model files, convert and quantize them."),
        "profile": Entry("edgeship.cli.profile:profile", "Hardware profiles: what boards are and can do."),
        "runtime": Entry("edgeship.cli.runtime:runtime", "Runtime libraries that run a model on a device."),
        "release": Entry("edgeship.cli.release:release", "Signed releases of this project."),
        "bench": Entry("edgeship.cli.bench:bench", "Measure latency and memory on host and devices."),
    },
    "Fleet": {
        "device": Entry("edgeship.cli.device:device", "Add, list and change devices."),
        "agent": Entry("edgeship.cli.agent:agent", "The agent on devices: status, stop, restart, uninstall."),
        "telemetry": Entry("edgeship.cli.telemetry:telemetry", "Pull, query and drop what devices measured."),
        "audit": Entry("edgeship.cli.audit:audit", "The trail of who did what to which device."),
        "serve": Entry("edgeship.cli.serve:serve", "Serve the dashboard of the fleet."),
        "lab": Entry("edgeship.cli.lab:lab", "Virtual devices over SSH on this machine."),
    },
    "This tool": {
        "setup": Entry("edgeship.cli.setup:setup", "Make an environment for a tool that must stand apart."),
        "config": Entry("edgeship.cli.config:config", "Settings and where each comes from."),
        "schema": Entry("edgeship.cli.schema:schema", "Print the JSON Schema of a --json output."),
        "completion": Entry("edgeship.cli.completion:completion", "Print the completion script of a shell."),
        "version": Entry("edgeship.cli.version:version", "Print the versions of edgeship and what it uses."),
    },
}


@dataclass
class State:
    """What `--json` and `--debug` said, for one run of the command line."""

    json: bool = False
    debug: bool = False


class LazyGroup(click.Group):
    """The root: commands are imported when they are run, not when they are listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 — click's signature
        """Names, in the order of the help."""
        return [name for section in COMMANDS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 — click's signature
        """Import a command."""
        import importlib

        entry = next((section[cmd_name] for section in COMMANDS.values() if cmd_name in section), None)
        if entry is None:
            return None
        module, _, attribute = entry.where.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, with a suggestion for a misspelt command and nothing imported for it."""
        name = args[0]
        if name not in self.list_commands(ctx) and not name.startswith("-"):
            import difflib

            close = difflib.get_close_matches(name, self.list_commands(ctx), n=1)
            ctx.fail(f"no such command {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""))
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names and lines of commands from the table alone; options as click's."""
        from click.shell_completion import CompletionItem

        commands = [
            CompletionItem(name, help=entry.help)
            for section in COMMANDS.values()
            for name, entry in section.items()
            if name.startswith(incomplete)
        ]
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The sections of `COMMANDS`, from the table alone."""
        width = max(len(name) for name in self.list_commands(ctx))
        for title, section in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), entry.help) for name, entry in section.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """As click's; Ctrl-C is an error like any other, so that click writes no empty line of its own."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            from edgeship.errors import Interrupted

            raise Interrupted("interrupted; nothing is half done") from None

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run; with `standalone_mode`, errors become a message on standard error and an exit code."""
        state = extra.setdefault("obj", State())
        run: Any = super().main
        if not standalone_mode:
            return run(*args, standalone_mode=False, **extra)
        try:
            result = run(*args, standalone_mode=False, **extra)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 — the one place where all of them become words
            from edgeship.cli.failure import report

            sys.exit(report(error, state))
        sys.exit(result if isinstance(result, int) else 0)


def _show_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"edgeship {__version__}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, default=False, is_eager=True, expose_value=False, callback=_show_version,
    help="Print the version and exit.",
)  # fmt: skip
def cli() -> None:
    """Take a trained model to a fleet of edge devices and keep it healthy there.

    Start with: edgeship init, then edgeship push MODEL.
    """


def main() -> None:
    """The console script."""
    _open_streams()
    ending = _Ending()
    try:
        try:
            cli.main(prog_name="edgeship")
        except SystemExit as end:
            if end.code != INTERRUPTED:
                _drop_unwritten()
                raise
    except KeyboardInterrupt:  # once more, while the first was being answered
        pass
    _leave(ending.number)


def _open_streams() -> None:
    """Give standard streams that the caller closed to /dev/null: no file of ours may take their numbers."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:  # taken already, so not closed: Python could not use it
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


class _Ending:
    """A request to end (a job that is cancelled, a terminal that is closed), answered as Ctrl-C is: nothing is left."""

    def __init__(self) -> None:
        self.number = signal.SIGINT
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:  # not where it is ignored, as under nohup
                signal.signal(number, self._came)

    def _came(self, number: int, _frame: object) -> NoReturn:
        self.number = signal.Signals(number)
        raise KeyboardInterrupt


def _drop_unwritten() -> None:
    """Let go of what a stream could not write and still holds: Python would try again at its end, and exit with 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)


def _leave(number: signal.Signals = signal.SIGINT) -> NoReturn:
    """End at once after Ctrl-C: what threads still send or compress is not waited for. Others see the signal itself."""
    for repeated in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(repeated, signal.SIG_IGN)
    _unlink_semaphores()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    if number != signal.SIGINT:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
    os._exit(INTERRUPTED)


def _unlink_semaphores() -> None:
    """Those of a pool of processes, which Python unlinks at an ordinary end; its resource tracker warns of others."""
    pools = sys.modules.get("multiprocessing.util")
    finalize = getattr(pools, "_run_finalizers", None)  # private; without it there is a warning and no harm
    if finalize is not None:
        with contextlib.suppress(Exception):
            finalize(0)  # those without a wait: a priority below 0 joins threads and processes
