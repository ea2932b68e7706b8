"""Loads a TFLite variant in the very runtime package that a device has, in an environment of its own.

Whether an old runtime takes a file is not to be told from the file: versions of operators differ from one converter to
the next. tflite-runtime 2.14 refuses dynamic int8 of TensorFlow 2.21 (FULLY_CONNECTED version 12), and takes what
ai-edge-quantizer makes of it. It needs numpy < 2 and conflicts with the rest, so it lives apart, and is called as a
child process.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeship import environments
from edgeship.errors import ConversionError, UsageError

SECONDS = 120.0  # of the wall clock, and of processor time
SCRIPT = Path(__file__).with_name("interpreter_script.py")

_NAME = "tflite-runtime"
_ENVIRONMENT = f"make the environment again: {environments.command(_NAME)}"


@dataclass(frozen=True)
class Environment:
    """A Python with an interpreter package."""

    python: Path
    package: str = "tflite_runtime"  # or ai_edge_litert


@dataclass(frozen=True)
class Tensor:
    """An input or output as the package sees it."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Loaded:
    """What a package says of a file that it loaded and ran."""

    package: str
    version: str
    numpy: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def environment() -> Environment:
    """The one that `edgeship setup tflite-runtime` makes. Raises UsageError whose hint is that command."""
    return Environment(environments.python(_NAME))


def load(environment: Environment, model: Path) -> Loaded:
    """Load a file and run it twice on zeros.

    Args:
        environment: where.
        model: a TFLite file.

    Raises:
        UsageError: there is no such environment, or the package cannot be used in it.
        ConversionError: the package refuses the file, dies of it, or does not end.
    """
    what = f"{model}: {environment.package}"
    if not os.access(environment.python, os.X_OK):
        raise UsageError(f"{environment.python}: no Python there", hint=_ENVIRONMENT)
    argv = [
        str(environment.python),
        "-I",
        str(SCRIPT),
        environment.package,
        str(model.resolve()),
        str(int(SECONDS) or 1),
    ]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise ConversionError(f"{what} did not end within {SECONDS:.0f} s") from error
    except OSError as error:
        raise UsageError(f"{environment.python}: cannot be run: {error.strerror}", hint=_ENVIRONMENT) from error
    if done.returncode < 0:
        raise ConversionError(
            f"{what} was killed by signal {-done.returncode} while it loaded or ran the file",
            hint="push another precision or format to devices with this runtime",
        )
    return _answer(environment, what, done.stdout, done.stderr)


def _answer(environment: Environment, what: str, out: bytes, log: bytes) -> Loaded:
    try:
        answer = json.loads(out.decode("utf-8", "replace").strip().splitlines()[-1])
        if answer.get("error") is None:
            return Loaded(
                str(answer["package"]), str(answer["version"]), str(answer["numpy"]),
                _tensors(answer["inputs"]), _tensors(answer["outputs"]),
            )  # fmt: skip
    except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        tail = " ".join(log.decode("utf-8", "replace").split())[-300:]
        raise UsageError(
            f"{environment.python}: no answer from {environment.package}: {tail}", hint=_ENVIRONMENT
        ) from error
    if answer.get("stage") in ("import", "environment"):
        raise UsageError(f"{environment.python}: {environment.package}: {answer['error']}", hint=_ENVIRONMENT)
    raise ConversionError(f"{what} refuses it: {reason(str(answer['error']))}", hint=hint(str(answer["error"])))


def _tensors(data: list[Mapping[str, Any]]) -> tuple[Tensor, ...]:
    return tuple(Tensor(tuple(map(int, item["shape"])), str(item["dtype"])) for item in data)


_VERSION = re.compile(r"builtin opcode '(\w+)' version '(\d+)'")


def reason(error: str) -> str:
    """The telling part of an interpreter's error: the operator and its version where that is the cause."""
    if (found := _VERSION.search(error)) is not None:
        return f"it knows no version {found[2]} of the operator {found[1]}"
    return error


def hint(error: str) -> str:
    """What to do next."""
    if _VERSION.search(error) is not None:
        return "the file is newer than the runtime: take a newer runtime for this profile, or push float32 or int8"
    return "push another precision or format to devices with this runtime"
