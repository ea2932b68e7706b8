"""The root: help from a table, lazy loading, streams, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from edgeship import __version__
from edgeship.cli import COMMANDS, cli, main
from edgeship.errors import GateError
from tests.simulators.commandline import checked, run

ROOT = Path(__file__).resolve().parents[3]


def test_help_imports_click_and_nothing_heavy() -> None:
    program = (
        "import sys, json; from edgeship.cli import main; sys.argv = ['edgeship', '--help']\n"
        "try: main()\n"
        "finally: print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(json.loads(done.stderr.splitlines()[-1]))
    tops = {name.partition(".")[0] for name in loaded}
    heavy = {"numpy", "rich", "pydantic", "paramiko", "sqlalchemy", "tuf", "platformdirs", "onnxruntime", "scipy"}
    assert not tops & heavy
    assert {name for name in loaded if name.startswith("edgeship")} == {"edgeship", "edgeship.cli"}
    assert "push" in done.stdout


def test_every_command_is_listed_with_its_own_line() -> None:
    text = run("--help").stdout
    root = click.Context(cli)
    for section in COMMANDS.values():
        for name, entry in section.items():
            command = cli.get_command(root, name)
            assert command is not None
            assert command.name == name
            assert command.get_short_help_str(200) == entry.help
            assert entry.help in text


def test_help_is_short_for_h_and_version_is_printed() -> None:
    assert run("-h").stdout == run("--help").stdout
    assert run("--version").stdout == f"edgeship {__version__}\n"


def test_every_command_has_help_for_itself_and_its_options() -> None:
    root = click.Context(cli)
    for name in cli.list_commands(root):
        command = cli.get_command(root, name)
        assert command is not None
        family = [command, *(command.commands.values() if isinstance(command, click.Group) else [])]
        for member in family:
            assert member.help, name
            for parameter in member.params:
                if isinstance(parameter, click.Option):
                    assert parameter.help, f"{name} {member.name} {parameter.opts}"
            if not isinstance(member, click.Group):
                options = {opt for p in member.params for opt in p.opts}
                assert {"--json", "--debug"} <= options, f"{name} {member.name}"


def test_a_misspelt_command_gets_a_suggestion() -> None:
    result = run("pusj", exit_code=2)
    assert result.stderr == "error: no such command 'pusj'; did you mean 'push'?\n  next: edgeship --help\n"
    assert result.stdout == ""
    assert "did you mean" not in run("zzzzzz", exit_code=2).stderr


def test_a_wrong_option_is_a_usage_error() -> None:
    result = run("device", "list", "--nope", exit_code=2)
    assert "No such option" in result.stderr
    assert "next: edgeship device list --help" in result.stderr


def test_without_a_command_the_help_is_shown_and_the_exit_code_is_2() -> None:
    result = run(exit_code=2)
    assert result.stderr.startswith("Usage: edgeship")
    assert "error" not in result.stderr.splitlines()[0]


def test_completion_knows_the_commands_without_importing_them() -> None:
    items = cli.shell_complete(click.Context(cli, info_name="edgeship"), "p")
    assert [(item.value, item.help) for item in items] == [
        ("push", COMMANDS["From zero to running"]["push"].help),
        ("profile", COMMANDS["Model and release"]["profile"].help),
    ]


def test_an_unknown_name_is_no_command() -> None:
    assert cli.get_command(click.Context(cli), "nothing") is None


@pytest.mark.parametrize("error", [KeyboardInterrupt, click.Abort])
def test_ctrl_c_exits_130(error: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object) -> None:
        raise error

    monkeypatch.setattr("edgeship.profile.names", broken)
    result = run("profile", "list", exit_code=130)
    assert "interrupted" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_defect_is_named_and_its_traceback_is_shown_with_debug_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> list[str]:
        raise RuntimeError("boom")

    monkeypatch.setattr("edgeship.profile.names", broken)
    result = run("profile", "list", exit_code=1)
    assert result.stderr.startswith("error: a defect of edgeship: RuntimeError: boom\n")
    assert "--debug" in result.stderr
    assert "Traceback" not in result.stderr
    assert "Traceback" in run("profile", "list", "--debug", exit_code=1).stderr


def test_with_json_an_error_is_one_object_on_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> list[str]:
        raise GateError("too slow", hint="buy a faster one")

    monkeypatch.setattr("edgeship.profile.names", broken)
    result = run("profile", "list", "--json", exit_code=6)
    assert result.stdout == ""
    data = checked("error", json.loads(result.stderr))
    assert (data["kind"], data["message"], data["hint"], data["exit_code"]) == (
        "GateError",
        "too slow",
        "buy a faster one",
        6,
    )


def test_a_closed_pipe_ends_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> list[str]:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("edgeship.profile.names", broken)
    assert run("profile", "list", exit_code=1).stderr == ""


def test_without_standalone_mode_errors_are_the_callers() -> None:
    with pytest.raises(click.UsageError):
        cli.main(["nothing"], standalone_mode=False)


def test_the_console_script_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["edgeship", "--version"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"edgeship {__version__}\n"
