"""Runs a step in a child process with limits: models, frameworks, media files and a user's code never touch the parent.

Rules this module keeps:

* A step is a module with `perform(request, folder) -> result`, both JSON objects; files go
  through the folder, which is temporary and the child's working directory.
* The child limits itself before it imports anything else: address space, processor time, size of written files, open
  files, no core dump; it dies with the parent. The parent adds a timeout and ends the child's whole process group.
* Death by a signal, a hang and a lack of memory are ordinary errors with a cause. What the child prints never reaches
  the user unless it fails, then its last lines do.
* A step ends with its answer: threads and processes that a user's code or a framework left running end with it, those
  too that left its session.
* How long a step may take is for the user to set: `EDGESHIP_STEP_LIMIT` in the environment.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import errno
import importlib
import json
import math
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from edgeship import errors, scratch
from edgeship.errors import ConversionError, EdgeshipError, InputError, UsageError
from edgeship.runtime.errors import ProtocolError
from edgeship.runtime.wire import parse_object
from edgeship.tomlfile import duration

GIB = 1 << 30
MAX_RESPONSE = 16 << 20  # bytes of response.json
WORK = "edgeship-work-"  # how the names of temporary folders begin
LOG_TAIL = 4096  # bytes of the child's output that an error may quote

#: In the environment: the wall clock of a step, instead of what it has by itself.
STEP_LIMIT = "EDGESHIP_STEP_LIMIT"
_MAX_SECONDS = 7 * 24 * 3600.0

_PR_SET_PDEATHSIG = 1
_DEADLINE = "deadline"  # the file that says what a `Deadline` is for

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
    once: float = 300.0  # seconds of what a step does under a `Deadline`: one answer of a model


def asked_for(limits: Limits, environ: Mapping[str, str]) -> Limits:
    """The limits with the wall clock that the user set, if any; processor time grows and shrinks with it.

    Raises:
        UsageError: what is set is no time.
    """
    if not (text := environ.get(STEP_LIMIT)):
        return limits
    try:
        seconds = duration(1, _MAX_SECONDS).read(text)
    except ValueError as error:
        raise UsageError(f"${STEP_LIMIT} {text!r} {error}", hint=f"such as {STEP_LIMIT}=2h, or unset it") from error
    cpu_seconds = max(1, math.ceil(limits.cpu_seconds * seconds / limits.seconds))
    return replace(limits, seconds=seconds, cpu_seconds=cpu_seconds, once=seconds)


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
    limits = asked_for(limits, os.environ)
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
                f"{subject}: {_short(step)} did not end within {limits.seconds:.0f} s and was stopped{_tail(folder)}",
                hint=_MORE_TIME,
            ) from None
        finally:
            with contextlib.suppress(ProcessLookupError):  # what it started and left behind
                os.killpg(process.pid, signal.SIGKILL)
            _end_strays(folder)
    if code < 0:
        death = _death(-code, _short(step), limits, folder)
        raise failure(f"{subject}: {death}{_tail(folder)}", hint=_death_hint(-code))
    return _answer(folder, code, _short(step), subject, failure)


def _end_strays(folder: Path) -> None:
    """End what left the child's session (`setsid`): no group knows it, but the TMPDIR that it was given does."""
    mark = os.fsencode(f"TMPDIR={folder}")
    for _ in range(3):  # one that forks while it is looked for is found the next time
        found = False
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it ended meanwhile, or is somebody else's
                if mark in (place / "environ").read_bytes().split(b"\0"):
                    os.kill(int(place.name), signal.SIGKILL)
                    found = True
        if not found:
            return


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


_MORE_TIME = (
    f"does anything in it loop for ever? {STEP_LIMIT}=2h in the environment allows more time, {STEP_LIMIT}=5m less"
)


def _death(number: int, step: str, limits: Limits, folder: Path) -> str:
    if number == signal.SIGALRM and (folder / _DEADLINE).is_file():
        what = (folder / _DEADLINE).read_text(encoding="utf-8")
        return f"{step} was stopped: {what}"
    if number == signal.SIGXCPU:
        return f"{step} used more than {limits.cpu_seconds} s of processor time and was stopped"
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return f"{step} was killed by {name}"


def _death_hint(number: int) -> str | None:
    if number in (signal.SIGALRM, signal.SIGXCPU):
        return _MORE_TIME
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


class Deadline:
    """Ends the child where one thing takes longer than `Limits.once`: native code that loops heeds nothing else.

    A context manager, to be entered for each such thing; in a step that runs in no child it does nothing.

    Args:
        folder: of the step.
        what: in words, for the error.
        seconds: instead of `Limits.once`; what the user set goes before both.
    """

    def __init__(self, folder: Path, what: str, seconds: float | None = None) -> None:
        self._seconds = 0.0
        if (order := folder / "request.json").is_file():
            once = float(json.loads(order.read_text(encoding="utf-8"))["limits"]["once"])
            self._seconds = once if seconds is None or os.environ.get(STEP_LIMIT) else seconds
            (folder / _DEADLINE).write_text(f"{what} took more than {self._seconds:.0f} s", encoding="utf-8")

    def __enter__(self) -> None:
        """The time begins to run."""
        if self._seconds:
            signal.setitimer(signal.ITIMER_REAL, self._seconds)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """It came in time."""
        if self._seconds:
            signal.setitimer(signal.ITIMER_REAL, 0.0)


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
