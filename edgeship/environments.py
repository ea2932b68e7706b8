"""Environments of their own for packages that cannot live beside the others: `edgeship setup` makes them.

Rules this module keeps:

* `requirements/<name>.txt` says what is in it, to the hash of every wheel. Nothing is resolved, nothing is compiled,
  and a wheel with another hash is refused by pip.
* It is made by the standard library's venv and pip, in the user's data folder. A venv cannot be renamed, so a marker is
  written last: a folder without it, or with that of another list, is no environment and is made again.
* With a wheelhouse nothing is downloaded.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from edgeship.errors import ConversionError, InputError, UsageError
from edgeship.reporter import Reporter, Step
from edgeship.runtime.errors import ProtocolError
from edgeship.runtime.wire import need, parse_object

SCHEMA = "edgeship.environment/v1"
SECONDS = 1800.0  # that pip may take
CHECK_SECONDS = 300.0

_MARKER = "edgeship.json"
_KEPT = 40  # lines of pip that a failure is looked for in
#: What a user may have set for pip or Python that would put the packages somewhere else.
_STRAY = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Recipe:
    """What an environment is for and what must be true of it.

    Attributes:
        name: of the environment and of its list.
        purpose: one line for people.
        check: a Python program that fails where the packages do not work.
        versions: Pythons, first and last, that all its wheels are there for.
        machines: names of `platform.machine()`.
        elsewhere: what helps on a host that it is not for.
        runs: the format that its package of the same name runs, as devices do that have it; "" where it is a tool.
    """

    name: str
    purpose: str
    check: str
    versions: tuple[tuple[int, int], tuple[int, int]]
    machines: tuple[str, ...]
    elsewhere: str = ""
    runs: str = ""


RECIPES = (
    Recipe(
        "onnx2tf", "converts ONNX and PyTorch models to TFLite, without TensorFlow", "import onnx2tf, onnxruntime",
        ((3, 11), (3, 13)), ("x86_64",),
        "convert the model on such a machine: edgeship model convert MODEL --output model.tflite",
    ),
    Recipe(
        "tflite-runtime", "tries TFLite files in the old runtime package that some devices have",
        "import numpy, tflite_runtime.interpreter; assert numpy.__version__ < '2'", ((3, 11), (3, 11)),
        ("x86_64", "aarch64"), "try the file on such a machine: edgeship model inspect FILE --profiles", "tflite",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class State:
    """An environment as it is found on this host."""

    recipe: Recipe
    folder: Path
    ready: bool
    reason: str  # "" where it is ready
    python: str = ""  # its version
    bytes: int = 0  # on the disk


def recipe(name: str) -> Recipe:
    """The recipe of a name. Raises UsageError that lists them."""
    for one in RECIPES:
        if one.name == name:
            return one
    raise UsageError(f"no environment {name!r}", hint=f"known are {', '.join(one.name for one in RECIPES)}")


def state(name: str) -> State:
    """Whether an environment is there and whole, by its marker; no process is started. Raises UsageError."""
    found, folder = recipe(name), _folder(name)
    try:
        data = parse_object((folder / _MARKER).read_bytes())
        made_of, python, size = need(data, "list", str), need(data, "python", str), need(data, "bytes", int)
    except FileNotFoundError:
        return State(found, folder, False, "half made" if folder.exists() else "not set up")
    except (OSError, ProtocolError):
        return State(found, folder, False, "its marker cannot be read")
    if made_of != _sha256(requirements(name)):
        return State(found, folder, False, "made by another version of edgeship")
    if not os.access(interpreter(folder), os.X_OK):
        return State(found, folder, False, "the Python that it was made with is gone")
    return State(found, folder, True, "", python, size)


def missing(name: str) -> str | None:
    """None where an environment is ready, else why it cannot be used and what makes it usable."""
    found = state(name)
    if found.ready:
        return None
    if (refused := _refuses_host(found.recipe)) is not None:
        return f"the environment {name} cannot be made here: {refused[0]}"
    return f"the environment {name} is {found.reason}; {command(name)} makes it"


def runtimes() -> tuple[str, ...]:
    """The runtime packages that variants can be tried in, by name and version."""
    return tuple(f"{one.name}-{packages(one.name).get(one.name)}" for one in RECIPES if one.runs)


def of_runtime(runtime: str) -> str | None:
    """The environment that has a runtime package in this very version (`tflite-runtime-2.14.0`), or None."""
    names = (one.name for one in RECIPES if one.runs)
    return dict(zip(runtimes(), names, strict=True)).get(runtime)


def python(name: str) -> Path:
    """The Python of an environment. Raises UsageError whose hint is the command that makes it."""
    found = state(name)
    if not found.ready:
        raise UsageError(f"{found.folder}: the environment {name} is {found.reason}", hint=command(name))
    return interpreter(found.folder)


def remedy(name: str) -> str:
    """What helps where an environment is not ready: the command that makes it, or what a host can do that cannot."""
    refused = _refuses_host(recipe(name))
    return command(name) if refused is None else refused[1]


def command(name: str) -> str:
    """What to type to make an environment."""
    return f"edgeship setup {name}"


def requirements(name: str) -> Path:
    """The hash-pinned list of an environment."""
    return Path(__file__).with_name("requirements") / f"{name}.txt"


def packages(name: str) -> dict[str, str]:
    """Package -> version, of an environment's list."""
    lines = requirements(name).read_text(encoding="utf-8").splitlines()
    return {found[1]: found[2] for line in lines if (found := re.match(r"([\w.-]+)==([\w.]+)", line))}


def interpreter(folder: Path) -> Path:
    """Where a venv has its Python."""
    return folder / "bin" / "python"


def setup(name: str, *, wheelhouse: Path | None = None, reporter: Reporter) -> State:
    """Make an environment, or find that it is there and works.

    Args:
        name: of a recipe.
        wheelhouse: folder of wheels; when given, nothing is downloaded.
        reporter: is told of the steps, and of packages as they come.

    Raises:
        UsageError: unknown name; this Python or machine is not one that its list has wheels for; no such wheelhouse.
        InputError: pip could not get the wheels, or one has another hash.
        ConversionError: the folder cannot be written, or what was made does not work.
    """
    found = recipe(name)
    if wheelhouse is not None and not wheelhouse.is_dir():
        raise UsageError(f"{wheelhouse}: no such wheelhouse folder", hint="name a folder that holds wheels")
    folder = _folder(name)
    with _locked(folder):
        before = state(name)
        if before.ready and _works(found, folder) is None:
            return before
        _check_host(found)
        if before.reason != "not set up":
            reporter.note(f"{name} is {before.reason or 'damaged'}: it is made again")
        try:
            return _make(found, folder, wheelhouse, reporter)
        except OSError as error:
            raise ConversionError(
                f"{folder}: cannot be written: {error.strerror or error}",
                hint="is there room on the disk? set XDG_DATA_HOME to a folder with room",
            ) from error
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def _make(found: Recipe, folder: Path, wheelhouse: Path | None, reporter: Reporter) -> State:
    name, wanted = found.name, packages(found.name)
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise OSError(16, "an old environment is in the way", str(folder))
    step = Step("setup", name)
    reporter.started(step)
    reporter.note(
        f"{name}: {len(wanted)} packages {'from ' + str(wheelhouse) if wheelhouse else 'by pip'}, "
        f"each checked against its pinned hash, into {folder}"
    )
    code, lines = _call([sys.executable, "-I", "-m", "venv", str(folder)], _silent)
    if code:
        raise UsageError(
            f"{name}: this Python cannot make a virtual environment: {lines[-1] if lines else f'status {code}'}",
            hint="on Debian and Ubuntu: apt install python3-venv",
        )
    code, lines = _call(_pip(found, folder, wheelhouse), _Counter(reporter, step, len(wanted)))
    if code:
        raise _refusal(found, wheelhouse, lines)
    if (reason := _works(found, folder)) is not None:
        raise ConversionError(
            f"{name}: what was installed does not work: {reason}", hint="try it again; report it if it stays so"
        )
    size = sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
    marker = {"schema": SCHEMA, "list": _sha256(requirements(name)), "python": platform.python_version(), "bytes": size}
    part = folder / f"{_MARKER}.part"
    with part.open("w", encoding="utf-8") as file:
        json.dump(marker, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / _MARKER)
    reporter.finished(step, f"{size / 1e6:.0f} MB in {folder}", {"bytes": size, "folder": str(folder)})
    return state(name)


def _pip(found: Recipe, folder: Path, wheelhouse: Path | None) -> list[str]:
    # The packages' own words on Pythons and on each other are not asked: what is in the list was tried together.
    source = [] if wheelhouse is None else ["--no-index", "--find-links", str(wheelhouse.resolve())]
    return [
        str(interpreter(folder)), "-I", "-m", "pip", "install", "--no-deps", "--ignore-requires-python",
        "--require-hashes", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check",
        "--progress-bar", "off", *source, "-r", str(requirements(found.name)),
    ]  # fmt: skip


def _silent(line: str) -> None:
    """Nobody listens."""


class _Counter:
    """Counts the packages that pip says it collects."""

    def __init__(self, reporter: Reporter, step: Step, total: int) -> None:
        self.reporter, self.step, self.total, self.done = reporter, step, total, 0

    def __call__(self, line: str) -> None:
        if line.startswith(("Collecting ", "Processing ")) and self.done < self.total:
            self.done += 1
            self.reporter.progress(self.step, self.done, self.total)


def _refusal(found: Recipe, wheelhouse: Path | None, lines: Sequence[str]) -> InputError:
    """Why pip failed."""
    text = "\n".join(lines)
    if "DO NOT MATCH THE HASHES" in text:
        got = re.search(r"^\s*(\S+) from .*:\n", text, re.MULTILINE)
        named = f" of {got[1]}" if got else ""
        return InputError(
            f"{found.name}: the wheel{named} that pip got is not the one that is pinned, and was not installed",
            hint="take wheels as published: a mirror or wheelhouse has another file under this name",
        )
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    reason = errors[0] if errors else (lines[-1] if lines else "no reason given")
    where = f"{wheelhouse}: " if wheelhouse else ""
    return InputError(
        f"{where}{found.name} could not be installed: {reason}",
        hint=f"without a network: pip download --no-deps --require-hashes --ignore-requires-python -d DIR -r "
        f"{requirements(found.name)} on a machine like this one, then {command(found.name)} --wheelhouse DIR",
    )


def _works(found: Recipe, folder: Path) -> str | None:
    """None where the environment's packages can be imported, else the last thing that Python said."""
    argv = [str(interpreter(folder)), "-I", "-c", found.check]
    try:
        code, lines = _call(argv, _silent, CHECK_SECONDS)
    except (OSError, InputError) as error:
        return str(error)
    return None if code == 0 else (lines[-1] if lines else f"status {code}")


def _call(argv: Sequence[str], said: Callable[[str], object], seconds: float = SECONDS) -> tuple[int, list[str]]:
    """Run a program; (its status, its last lines). Raises InputError when it does not end in time."""
    environment = {key: value for key, value in os.environ.items() if key not in _STRAY}
    with tempfile.TemporaryDirectory(prefix="edgeship-") as work:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", cwd=work, start_new_session=True,
            env={**environment, "PIP_NO_COLOR": "1", "LC_ALL": "C.UTF-8", "TMPDIR": work},
        )  # fmt: skip
        lines: list[str] = []
        assert process.stdout is not None
        try:
            with _alarm(process, seconds) as rang:
                for line in process.stdout:
                    said(line.strip())
                    lines = [*lines, line.rstrip()][-_KEPT:]
                code = process.wait()
        except BaseException:  # Ctrl-C too: nothing is left running
            _end(process)
            process.wait()
            raise
        finally:
            process.stdout.close()
    if rang:
        raise InputError(
            f"{' '.join(argv[:5])} … did not end within {seconds:.0f} s and was stopped",
            hint="is the network slow? try edgeship setup NAME again",
        )
    return code, [line for line in lines if line.strip()]


def _end(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):  # it ended by itself
        os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def _alarm(process: subprocess.Popen[str], seconds: float) -> Iterator[list[bool]]:
    """End a process group when its time is over; the list is not empty then."""
    rang: list[bool] = []

    def end() -> None:
        rang.append(True)
        _end(process)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield rang
    finally:
        timer.cancel()
        timer.join()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One setup of an environment at a time. Raises ConversionError."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        file = (folder.parent / f".{folder.name}.lock").open("w")
    except OSError as error:
        raise ConversionError(
            f"{folder.parent}: cannot be written: {error.strerror}", hint="set XDG_DATA_HOME to a folder of yours"
        ) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _check_host(found: Recipe) -> None:
    if (refused := _refuses_host(found)) is not None:
        raise UsageError(f"{found.name}: {refused[0]}", hint=refused[1] or None)


def _refuses_host(found: Recipe) -> tuple[str, str] | None:
    """(why its packages are not for this host, what helps), or None."""
    if platform.system() != "Linux" or platform.machine() not in found.machines:
        machines = " and ".join(found.machines)
        here = f"{platform.system()} on {platform.machine()}"
        return f"its packages are pinned for Linux on {machines}; this is {here}", found.elsewhere
    first, last = found.versions
    if not first <= sys.version_info[:2] <= last:
        spans = f"{first[0]}.{first[1]}" + (f" to {last[0]}.{last[1]}" if last != first else "")
        return (
            f"this Python is {platform.python_version()}; its packages are there for {spans}",
            f"install edgeship in a Python {last[0]}.{last[1]} for this",
        )
    return None


def _folder(name: str) -> Path:
    return Path(platformdirs.user_data_dir("edgeship")) / "environments" / name


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
