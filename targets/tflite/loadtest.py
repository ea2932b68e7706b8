"""Loads a TFLite variant in the very runtime package that a device has, in an environment of its own.

Whether an old runtime takes a file is not to be told from the file: versions of operators differ from one converter to
the next. tflite-runtime 2.14 refuses dynamic int8 whose dense layers have a scale for each row (FULLY_CONNECTED version
12), and takes it with one scale a weight. It needs numpy < 2 and conflicts with the rest, so it lives apart, and is
called as a child process. A file that loads may still compute something else there: it is run over samples too.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship import environments
from edgeship.dataset import Dataset
from edgeship.errors import ConversionError, UsageError
from edgeship.runtime.manifest import TensorSpec
from edgeship.targets import child
from edgeship.targets.base import dequantize_output, quantize_input
from edgeship.targets.tflite import versions

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
    answers: tuple[NDArray[np.float32], ...] | None = None  # [n, *shape] an output, real values; None: run on zeros


@dataclass(frozen=True)
class Samples:
    """What a file is run over, and what its inputs and outputs are to the engine."""

    data: Dataset
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def environment() -> Environment:
    """The one that `edgeship setup tflite-runtime` makes. Raises UsageError whose hint is that command."""
    return Environment(environments.python(_NAME))


def load(environment: Environment, model: Path, samples: Samples | None = None, *, what: str = "") -> Loaded:
    """Load a file, run it twice on zeros, and over the samples where there are some.

    Args:
        environment: where.
        model: a TFLite file.
        samples: to answer; where the package calls inputs and outputs otherwise than the engine, nothing is answered.
        what: the file and the runtime, for messages; its path and the package where not given.

    Raises:
        UsageError: there is no such environment, or the package cannot be used in it.
        ConversionError: the package refuses the file, dies of it, or does not end.
    """
    what = what or f"{model}: {environment.package}"
    if not os.access(environment.python, os.X_OK):
        raise UsageError(f"{environment.python}: no Python there", hint=_ENVIRONMENT)
    with child.workspace() as work:
        if samples is not None:
            _write(samples, work)
        done = _run(environment, model, work if samples is not None else None, what)
        loaded = _answer(environment, what, done.stdout, done.stderr)
        if samples is None or not (work / "answer0.npy").is_file():
            return loaded
        return dataclasses.replace(loaded, answers=_read(samples.outputs, work, what))


def _write(samples: Samples, folder: Path) -> None:
    """Samples as the script takes them: in the types of the file's inputs."""
    names = {"inputs": [t.name for t in samples.inputs], "outputs": [t.name for t in samples.outputs]}
    (folder / "names.json").write_text(json.dumps(names), encoding="utf-8")
    for j, spec in enumerate(samples.inputs):
        rows = [
            np.frombuffer(quantize_input(values, spec), dtype=np.dtype(spec.dtype).newbyteorder("<"))
            for values in samples.data.inputs[spec.name]
        ]
        np.save(folder / f"input{j}.npy", np.stack(rows).reshape(len(rows), *spec.shape), allow_pickle=False)


def _read(outputs: tuple[TensorSpec, ...], folder: Path, what: str) -> tuple[NDArray[np.float32], ...]:
    """What it answered, as real values. Raises ConversionError."""
    found: list[NDArray[np.float32]] = []
    for j, spec in enumerate(outputs):
        raw = np.load(folder / f"answer{j}.npy", allow_pickle=False)
        try:
            if raw.dtype != np.dtype(spec.dtype):
                raise ValueError(f"output {spec.name!r} is {raw.dtype} there and {spec.dtype} here")
            found.append(np.stack([dequantize_output(row.tobytes(), spec) for row in raw]))
        except ValueError as error:
            raise ConversionError(f"{what} answers in another shape: {error}", hint=hint("")) from error
    return tuple(found)


def _run(environment: Environment, model: Path, folder: Path | None, what: str) -> subprocess.CompletedProcess[bytes]:
    argv = [
        str(environment.python), "-I", str(SCRIPT), environment.package, str(model.resolve()), str(int(SECONDS) or 1),
        *([] if folder is None else [str(folder)]),
    ]  # fmt: skip
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise ConversionError(f"{what} did not end within {SECONDS:.0f} s", hint="another precision") from error
    except OSError as error:
        raise UsageError(f"{environment.python}: cannot be run: {error.strerror}", hint=_ENVIRONMENT) from error
    if done.returncode < 0:
        raise ConversionError(
            f"{what} was killed by signal {-done.returncode} while it loaded or ran the file",
            hint=hint(""),
        )
    return done


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
    found = _VERSION.search(error)
    if found is not None and found.groups() == ("FULLY_CONNECTED", str(versions.HYBRID_BY_ROW)):
        return (
            "int8 weights with a scale for each row, in a dense layer that computes in float, are newer than this "
            "runtime: edgeship model quantize MODEL --precision dynamic --per-tensor, or --precision int8"
        )
    if found is not None:
        return (
            "the file is newer than the runtime: another precision (edgeship model quantize), a newer runtime on the "
            "device, or convert again from the float model"
        )
    return "another precision or format for devices with this runtime"
