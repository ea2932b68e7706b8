"""From an exception to words on standard error and an exit code."""

from __future__ import annotations

import errno
import json
import os
import sys
import traceback
from typing import Any

import click

from edgeship.cli import State
from edgeship.cli.terminal import Painted, Terminal
from edgeship.errors import DeviceError, EdgeshipError, Interrupted, PartialFailure

LOG_LINES = 10
_SYSTEM_HINTS = {
    errno.ENOSPC: "free some room on this machine's disk, or write the output elsewhere",
    errno.EDQUOT: "free some room within your quota, or write the output elsewhere",
    errno.EROFS: "the file system is read-only: work in a folder that can be written",
    errno.EACCES: "may you read and write there?",
    errno.EPERM: "may you read and write there?",
    errno.EMFILE: "raise the limit of open files (ulimit -n), or use --jobs with a smaller number",
    errno.ENAMETOOLONG: "a shorter name",
}  # fmt: skip


def report(error: BaseException, state: State) -> int:
    """Say what went wrong on standard error.

    With `--json` the message is one JSON object, schema `edgeship.error/v1`, on standard error; standard output stays
    what the command wrote.

    Returns:
        the exit code.
    """
    screen = Terminal(sys.stderr)
    if isinstance(error, (KeyboardInterrupt, click.exceptions.Abort)):
        error = Interrupted("interrupted; nothing is half done")
    if state.debug and not isinstance(error, click.exceptions.UsageError):
        screen.write("".join(traceback.format_exception(error)))
    if isinstance(error, OSError) and error.errno == errno.EPIPE:
        return 1
    record = describe(error)
    if state.json:
        sys.stderr.write(json.dumps({"schema": "edgeship.error/v1", "data": record}) + "\n")
    else:
        _say(screen, error, record)
    code = record["exit_code"]
    assert isinstance(code, int)
    return code


def describe(error: BaseException) -> dict[str, Any]:
    """An error as data: kind, message, hint, exit code, and where it happened."""
    record: dict[str, Any] = {
        "kind": type(error).__name__, "message": str(error), "hint": None, "exit_code": 1, "device": None,
        "stage": None, "code": None, "log": [], "failures": {},
    }  # fmt: skip
    if isinstance(error, click.ClickException):
        record |= {"kind": "UsageError", "message": error.format_message(), "exit_code": error.exit_code}
        if isinstance(error, click.exceptions.UsageError) and error.ctx is not None:
            record["hint"] = f"{error.ctx.command_path} --help"
    elif isinstance(error, EdgeshipError):
        record |= {"hint": error.hint, "exit_code": error.exit_code}
    elif isinstance(error, OSError) and error.errno is not None:  # the machine's no: a full disk, a name too long
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes)) else ""
        record["message"] = f"{where}{error.strerror or error}"
        record["hint"] = _SYSTEM_HINTS.get(error.errno, "--debug shows where it happened")
    elif isinstance(error, OSError) and "requested and" in str(error):  # numpy on a full disk gives no code
        record["message"] = f"{os.strerror(errno.ENOSPC)} ({error})"
        record["hint"] = _SYSTEM_HINTS[errno.ENOSPC]
    else:
        record["message"] = f"a defect of edgeship: {type(error).__name__}: {error}"
        record["hint"] = "run it again with --debug and report what it prints"
    if isinstance(error, DeviceError):
        record |= {
            "device": error.device or None, "stage": error.stage or None, "code": error.code or None,
            "log": list(error.log[-LOG_LINES:]),
        }  # fmt: skip
    if isinstance(error, PartialFailure):
        record["failures"] = {name: describe(failure) for name, failure in error.failures.items()}
    return record


def _say(screen: Terminal, error: BaseException, record: dict[str, Any]) -> None:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        screen.write(error.format_message() + "\n")
        return
    screen.write(Painted("error", "red"), f": {_named(record['device'], record['message'])}\n")
    if record["stage"]:
        screen.write(f"  stage: {record['stage']}\n")
    for line in record["log"]:
        screen.write(f"  | {line}\n")
    for name, failure in record["failures"].items():
        screen.write(f"  {_named(name, failure['message'])}\n")
        if failure["hint"]:
            screen.write(f"    next: {failure['hint']}\n")
    if record["hint"] and not record["failures"]:
        screen.write(f"  next: {record['hint']}\n")


def _named(device: str | None, message: str) -> str:
    return f"{device}: {message}" if device and not message.startswith(f"{device}:") else message
