"""Runs a step in a child process with limits: models, frameworks, media files and a user's code never touch the parent.

Rules this module keeps:

* A step is a module with `perform(request, folder) -> result`, both JSON objects; files go
  through the folder, which is temporary and the child's working directory.
* The child limits itself before it imports anything else: address space, processor time, size of written files, open
  files, no core dump; it dies with the parent. The parent adds a timeout and ends the child's whole process group.
* Death by a signal, a hang and a lack of memory are ordinary errors with a cause. What the child prints never reaches
  the user unless it fails, then its last lines do.
* A step ends with its answer: threads and processes that a user's code or a framework left running end with it.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import errno
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeship import errors, scratch
from edgeship.errors import ConversionError, EdgeshipError, InputError, UsageError
from edgeship.runtime.errors import ProtocolError
from edgeship.runtime.wire import parse_object

GIB = 1 << 30
MAX_RESPONSE = 16 << 20  # bytes of response.json
WORK = "edgeship-work-"  # how the names of temporary folders begin
LOG_TAIL = 4096  # bytes of the child's output that an error may quote

_PR_SET_PDEATHSIG = 1

#: What keeps frameworks quiet, on the processor, and out of the user's home.
_QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0", "CUDA_VISIBLE_DEVICES": "-1", "GLOG_minloglevel": "3",
    "ABSL_MIN_LOG_LEVEL": "3", "AUTOGRAPH_VERBOSITY": "0", "KERAS_BACKEND": "tensorflow",
    "ORT_DISABLE_TELEMETRY": "1", "TQDM_DISABLE": "1", "LC_ALL": "C.UTF-8",
}  # fmt: skip


_BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from edgeship.child import main; main(sys.argv[2])"


@dataclass(frozen=True)
class Limits:
    """What a step may use. Address space is not memory: TensorFlow maps 2.4 GB and touches 0.7."""

    seconds: float = 600.0  # of the wall clock
    cpu_seconds: int = 1200
    memory: int = 16 * GIB  # bytes of address space
    file: int = 8 * GIB  # bytes of one written file
    files: int = 512  # open descriptors


@contextlib.contextmanager
def workspace() -> Iterator[Path]:
    """A temporary folder for the files that go to and come from steps."""
    with scratch.folder(WORK) as folder:
        yield folder


def run(
    step: str, request: Mapping[str, Any], folder: Path, *, limits: Limits, subject: str,
    failure: type[EdgeshipError] = ConversionError,
) -> dict[str, Any]:  # fmt: skip
    """Perform a step in a child process.

    Args:
        step: the module's full name (`edgeship.targets.tflite.perform`).
        request: JSON object that the step reads.
        folder: the child's working directory; it exists, and belongs to this step.
        limits: what the child may use.
        subject: the file that an error names.
        failure: what a child is reported as that did not come to an answer (InputError where it only reads).

    Returns:
        The step's result, a JSON object.

    Raises:
        EdgeshipError: the one that the step raised (InputError, ConversionError, UsageError).
        `failure`: the child died, hung, ran out of memory, or did not answer.
    """
    root = str(Path(errors.__file__).resolve().parents[1])  # the child runs the parent's own edgeship
    argv = [sys.executable, "-I", "-X", "utf8", "-c", _BOOT, root, str(folder)]
    return _run(argv, step, request, folder, limits, subject, failure)


def run_script(
    python: Path, script: Path, request: Mapping[str, Any], folder: Path, *, limits: Limits, subject: str,
    failure: type[EdgeshipError] = ConversionError,
) -> dict[str, Any]:  # fmt: skip
    """As `run`, in a Python that edgeship is not in.

    Args:
        python: of an environment.
        script: a file that imports nothing of edgeship; it is given the folder, reads request.json, sets the limits
            in it, and writes response.json: {"ok": true, "result"} or {"ok": false, "error": {"type", "message"}}.
        request: as `run`.
        folder: as `run`.
        limits: that the script is to set.
        subject: as `run`.
        failure: as `run`.

    Raises:
        As `run`; UsageError too, where there is no such Python.
    """
    if not os.access(python, os.X_OK):
        raise UsageError(f"{python}: no Python there", hint="edgeship setup NAME makes the environment again")
    argv = [str(python), "-I", "-X", "utf8", str(script), str(folder)]
    return _run(argv, script.stem, request, folder, limits, subject, failure)


def _run(
    argv: list[str], step: str, request: Mapping[str, Any], folder: Path, limits: Limits, subject: str,
    failure: type[EdgeshipError],
) -> dict[str, Any]:  # fmt: skip
    (folder / "request.json").write_text(
        json.dumps({"step": step, "limits": asdict(limits), "parent": os.getpid(), "request": dict(request)}),
        encoding="utf-8",
    )
    environment = {**os.environ, **_QUIET, "TMPDIR": str(folder), "KERAS_HOME": str(folder / ".keras")}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            argv, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        try:
            code = process.wait(timeout=limits.seconds)
        except BaseException as error:  # Ctrl-C too: nothing is left running
            with contextlib.suppress(ProcessLookupError):  # it ended by itself while Ctrl-C was on its way
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            raise failure(
                f"{subject}: {_short(step)} did not end within {limits.seconds:.0f} s and was stopped{_tail(folder)}"
            ) from None
        with contextlib.suppress(ProcessLookupError):  # what it started and left behind
            os.killpg(process.pid, signal.SIGKILL)
    if code < 0:
        raise failure(f"{subject}: {_death(-code, _short(step), limits)}{_tail(folder)}", hint=_death_hint(-code))
    return _answer(folder, code, _short(step), subject, failure)


def _answer(folder: Path, code: int, step: str, subject: str, failure: type[EdgeshipError]) -> dict[str, Any]:
    path = folder / "response.json"
    try:
        raw = path.read_bytes() if path.stat().st_size <= MAX_RESPONSE else b""
        response = parse_object(raw, limit=MAX_RESPONSE)
        if response.get("ok") is True and isinstance(response.get("result"), dict):
            result: dict[str, Any] = response["result"]
            return result
        error = response.get("error")
        if not isinstance(error, dict):
            raise ProtocolError("no error and no result")
    except (OSError, ProtocolError) as cause:
        raise failure(f"{subject}: {step} ended with status {code} and without an answer{_tail(folder)}") from cause
    raise _error(error, subject, failure)


def _error(data: Mapping[str, Any], subject: str, failure: type[EdgeshipError]) -> EdgeshipError:
    """The exception that the child described."""
    message, hint = f"{subject}: {data.get('message')}", data.get("hint")
    kinds: dict[str, type[EdgeshipError]] = {kind.__name__: kind for kind in (InputError, ConversionError, UsageError)}
    return kinds.get(str(data.get("type")), failure)(message, hint=str(hint) if hint else None)


def _short(step: str) -> str:
    return step.removeprefix("edgeship.").removeprefix("targets.")


def _death(number: int, step: str, limits: Limits) -> str:
    if number == signal.SIGXCPU:
        return f"{step} used more than {limits.cpu_seconds} s of processor time and was stopped"
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return f"{step} was killed by {name}"


def _death_hint(number: int) -> str | None:
    if number == signal.SIGKILL:
        return "most often the machine ran out of memory: close something, or use fewer or smaller samples"
    if number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL):
        return "native code crashed: most often on a damaged file, else a library or code of your own is at fault"
    return None


def _tail(folder: Path) -> str:
    """The last lines that the child wrote, for an error's message."""
    try:
        with (folder / "log").open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_TAIL))
            lines = log.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    shown = ["".join(c if c.isprintable() else "?" for c in line) for line in lines if line.strip()][-8:]
    return "".join(f"\n  | {line[:200]}" for line in shown)


# ── the child's side ─────────────────────────────────────────────────────────────────────────────────────────────────


def _limit(limits: Limits, parent: int) -> None:
    for what, value in (
        (resource.RLIMIT_AS, limits.memory), (resource.RLIMIT_CPU, limits.cpu_seconds),
        (resource.RLIMIT_FSIZE, limits.file), (resource.RLIMIT_NOFILE, limits.files), (resource.RLIMIT_CORE, 0),
    ):  # fmt: skip
        _, hard = resource.getrlimit(what)
        wanted = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (wanted, hard))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the system was asked to tell
            os._exit(1)


def _perform(order: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The response to an order: the step's result or its error."""
    limits = Limits(**order["limits"])
    step = _short(str(order["step"]))
    try:
        _limit(limits, int(order["parent"]))
        module = importlib.import_module(order["step"])
        return {"ok": True, "result": module.perform(order["request"], folder)}
    except EdgeshipError as error:
        return _refusal(type(error).__name__, str(error), error.hint)
    except MemoryError:
        text = f"{step} needs more memory than its limit of {limits.memory // (1 << 20)} MB"
        return _refusal("", text, "the file may be damaged, or the model too large for this machine")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return _foreign(step, error)
        return _refusal(
            "", f"{step}: no space left on the disk of {folder}", "free some, or set TMPDIR to another disk"
        )
    except BaseException as error:  # noqa: BLE001 - a framework may raise anything, or exit: Ctrl-C never comes here
        return _foreign(step, error)


def _foreign(step: str, error: BaseException) -> dict[str, Any]:
    print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201 - the child's log
    text = " ".join(str(error).split())
    return _refusal("", f"{step} failed: {type(error).__name__}: {text[:1000]}", None)


def _refusal(kind: str, message: str, hint: str | None) -> dict[str, Any]:
    return {"ok": False, "error": {"type": kind, "message": message, "hint": hint}}


def main(folder: str) -> None:
    """The child's whole life: read the order, perform it, write the response."""
    here = Path(folder)
    order = json.loads((here / "request.json").read_text(encoding="utf-8"))
    response = _perform(order, here)
    part = here / "response.part"
    part.write_text(json.dumps(response, allow_nan=False), encoding="utf-8")
    part.replace(here / "response.json")
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        atexit._run_exitfuncs()  # noqa: SLF001 - the interpreter waits for such a thread before it comes to these
        os._exit(0)
