"""A benchmark on this host, by the device's own code: the worker out of the agent's zipapp, as a child process.

The host plays the supervisor's part: two socket pairs, `load`, then the protocol. So a difference between host and
device is one of the machines, not of two harnesses.
"""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeship import __version__, scratch, wording
from edgeship.bench import protocol
from edgeship.bench.machine import conditions, place
from edgeship.bench.protocol import BenchOptions, Subject
from edgeship.bench.record import Identity, Quality, Record, Software
from edgeship.dataset import Dataset
from edgeship.errors import InputError
from edgeship.libraries import Library
from edgeship.runtime.errors import ProtocolError
from edgeship.runtime.manifest import FileRef, Golden, RuntimeRef, TensorSpec, VariantRef
from edgeship.runtime.wire import json_frame, read_json
from edgeship.targets.base import quantize_input

SAMPLES = 4  # inputs: of a golden file the worker runs the first four in turn (`runtime.probe.bench`)
SEED = 20261122
LOAD_SECONDS = 60.0


@dataclass(frozen=True)
class HostModel:
    """A model file that an engine can run."""

    name: str
    path: Path
    format: str  # tflite | onnx
    precision: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    sha256: str
    bytes: int
    recipe: str | None = None
    quality: Quality | None = None


class Worker:
    """A worker of the agent on this host; the other end of its control channel."""

    def __init__(self, zipapp: Path) -> None:
        self._control, control = socket.socketpair()
        self._serve, serve = socket.socketpair()
        with control, serve, tempfile.TemporaryFile() as log:
            argv = [sys.executable, "-I", str(zipapp), "worker"]
            fds = (control.fileno(), serve.fileno())
            words = ["--control", str(fds[0]), "--serve", str(fds[1])]
            self._log = os.dup(log.fileno())
            self._process = subprocess.Popen(
                [*argv, *words], pass_fds=fds, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log,
                env={**os.environ, "MALLOC_ARENA_MAX": "1"},  # as the supervisor starts it
            )  # fmt: skip
        self._number = 0
        self.end_after = 5.0  # seconds to end by itself

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def request(self, op: str, fields: Mapping[str, Any], *, seconds: float) -> dict[str, Any]:
        """Ask and wait. Raises InputError where the worker refuses or dies: it is about the model that it was given."""
        self._number += 1
        self._control.settimeout(seconds)
        try:
            self._control.sendall(json_frame({"id": self._number, "op": op, **fields}))
            answer = read_json(self._control.recv)
        except TimeoutError as error:
            raise InputError(
                f"the model did not answer {op!r} within {seconds:.0f} s",
                hint="edgeship model doctor MODEL finds the layer that hangs",
            ) from error
        except (OSError, ProtocolError) as error:
            raise InputError(
                f"the worker died during {op!r}{self._last_words()}",
                hint="edgeship model doctor MODEL finds the layer that the runtime library dies of",
            ) from error
        if answer is None:
            raise InputError(
                f"the worker died during {op!r}{self._last_words()}",
                hint="edgeship model doctor MODEL finds the layer that the runtime library dies of",
            )
        if answer.get("ok") is not True:
            failure = answer.get("error")
            message = failure.get("message") if isinstance(failure, dict) else answer
            raise InputError(f"the model cannot be run: {message}", hint="edgeship model inspect MODEL")
        result = answer.get("result")
        return dict(result) if isinstance(result, dict) else {}

    def _last_words(self) -> str:
        raw = os.pread(self._log, 1 << 16, max(0, os.fstat(self._log).st_size - (1 << 16)))
        lines = [line for line in raw.decode("utf-8", "replace").splitlines() if line.strip()]
        return f": {lines[-1].strip()}" if lines else ""

    def close(self) -> None:
        """End it: a closed control channel is its end; it is killed when it does not take that."""
        self._control.close()
        self._serve.close()
        try:
            self._process.wait(self.end_after)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._log)


@contextmanager
def worker(agent: bytes, folder: Path) -> Iterator[Worker]:
    """A worker out of a zipapp, which is written to `folder`; it ends with the block."""
    path = folder / "agent.pyz"
    path.write_bytes(agent)
    started = Worker(path)
    try:
        yield started
    finally:
        started.close()


def run(
    model: HostModel, library: Library, agent: bytes, options: BenchOptions, *, threads: int = 1,
    samples: Dataset | None = None,
) -> Record:  # fmt: skip
    """Measure a model file on this host.

    Args:
        model: what.
        library: the host's runtime library for its format.
        agent: the zipapp, as devices get it.
        options: how often.
        threads: of the runtime library.
        samples: real inputs; None: random ones from a seed, which is said in the record.

    Raises:
        InputError: the model cannot be run.
    """
    with scratch.folder("edgeship-bench-") as folder, worker(agent, folder) as child:
        golden = folder / "golden.bin"
        count, source = write_inputs(golden, model, samples)
        fields = load_fields(model, library, golden, count, threads)
        loaded = child.request("load", fields, seconds=LOAD_SECONDS)
        subject = Subject(
            Identity(model.name, model.format, model.precision, model.sha256, model.bytes, recipe=model.recipe),
            place(), software(library, agent, threads, loaded.get("notes")), model.quality,
            load_us=_number(loaded, "load_us"), first_us=_number(loaded, "first_us"),
        )  # fmt: skip
        seconds = options.max_seconds + LOAD_SECONDS
        return protocol.measure(
            lambda op, asked: child.request(op, asked, seconds=seconds), subject, options, conditions, source=source
        )


def _number(data: Mapping[str, Any], key: str) -> float | None:
    value = data.get(key)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def write_inputs(path: Path, model: HostModel, samples: Dataset | None) -> tuple[int, str]:
    """Write a golden file whose inputs are the samples. Its expected outputs are zeros: nothing is probed here.

    Returns:
        The number of samples and where they came from, in words.
    """
    if samples is None:
        count, source = SAMPLES, f"{SAMPLES} random samples, seed {SEED}"
        rng = np.random.default_rng(SEED)
        arrays = [rng.random((count, *spec.shape), dtype=np.float32) for spec in model.inputs]
    else:
        count = min(SAMPLES, len(samples))
        source = f"{wording.counted(count, 'sample')} of the evaluation data"
        arrays = [samples.inputs[spec.name][:count] for spec in model.inputs]
    parts = [
        b"".join(quantize_input(np.reshape(sample, spec.shape), spec) for sample in array)
        for spec, array in zip(model.inputs, arrays, strict=True)
    ]
    labels = np.full(count, -1, "<i4").tobytes()
    outputs = bytes(4 * count * sum(spec.count for spec in model.outputs))
    path.write_bytes(b"".join([*parts, labels, outputs]))
    return count, source


def load_fields(model: HostModel, library: Library, golden: Path, count: int, threads: int) -> dict[str, Any]:
    """What the worker's `load` takes. Pure but for the hash of the golden file."""
    raw = golden.read_bytes()
    reference = FileRef(hashlib.sha256(raw).hexdigest(), len(raw))
    variant = VariantRef(
        profiles=("host",), format=model.format, precision=model.precision, file=FileRef(model.sha256, model.bytes),
        runtimes=(RuntimeRef(library.name, library.arch, FileRef(library.sha256, library.bytes)),),
        recipe=FileRef(model.recipe or "0" * 64, 0), inputs=model.inputs, outputs=model.outputs,
        golden=Golden(reference, count, 0.0, 0.0), threads=threads, task="other",
    )  # fmt: skip
    return {
        "variant": variant.encode(), "model": str(model.path.resolve()), "library": str(library.path),
        "golden": str(golden), "library_sha256": library.sha256, "name": model.name, "version": "1",
    }  # fmt: skip


def software(library: Library, agent: bytes, threads: int, notes: Any) -> Software:
    """What runs the model."""
    said: Sequence[Any] = notes if isinstance(notes, list) else ()
    digest = hashlib.sha256(agent).hexdigest()
    return Software(__version__, digest, library.name, library.sha256, threads, tuple(str(note) for note in said))
