"""Whether a variant loads and runs in the very runtime library that a board has, and answers there as it does here.

Rules this module keeps:

* A library that releases carry is the one that variants are judged in; where a board has another version of it, that
  one is loaded too.
* A runtime package that a board has by itself (`tflite-runtime-2.14.0`) is tried in the environment that
  `edgeship setup` makes of it. Where the environment is not there nothing is guessed: the trial says that it was not
  made, and what makes it possible.
* To load is not enough: tflite-runtime 2.14 loads files that it then answers with zeros. A few samples are answered in
  both, and compared as after any step; without data it is noise, which both must answer alike too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeship import environments, libraries
from edgeship.dataset import Dataset
from edgeship.errors import ConversionError
from edgeship.optimize import gate
from edgeship.reporter import Reporter
from edgeship.targets import answers, cache
from edgeship.targets.base import Variant
from edgeship.targets.tflite import loadtest

SAMPLES = 8
_VERSION = "board/1"  # raised when what is tried changes


@dataclass(frozen=True)
class Trial:
    """What became of a variant in a board's runtime. One that the runtime refuses is an error and no trial."""

    runtime: str
    checked: bool
    said: str  # one line: how it did, or why it was not tried

    def encode(self) -> dict[str, Any]:
        """To what `json.dumps` takes."""
        return {"runtime": self.runtime, "checked": self.checked, "said": self.said}


def unchecked(runtime: str, format: str) -> str | None:  # noqa: A002 - the domain's word
    """Why nothing can be tried in this runtime on this host, and what makes it possible; None where it can."""
    arches = [pin.arch for pin in libraries.pins() if (pin.name, pin.format) == (runtime, format)]
    if arches:
        here = libraries.host_arch()
        return None if here in arches else f"{runtime} is not made for {here}"
    if (name := environments.of_runtime(runtime)) is not None:
        return environments.missing(name)
    known = sorted({pin.name for pin in libraries.pins()} | set(environments.runtimes()))
    return f"edgeship has no {runtime} to try it in; it has {', '.join(known)}"


def check(variant: Variant, runtime: str, data: Dataset | None, reporter: Reporter, *, what: str) -> Trial:
    """Load a variant in a board's runtime and run it.

    Args:
        variant: the model.
        runtime: of the board, as its profile names it.
        data: what it answers, `SAMPLES` of it; None: noise.
        reporter: is told when a library has to be fetched.
        what: the variant, for messages.

    Raises:
        ConversionError: the runtime refuses the file, dies of it, or computes something else.
        UsageError: the environment does not work.
        InputError: a library cannot be had.
    """
    if (why := unchecked(runtime, variant.format)) is not None:
        return Trial(runtime, False, f"not tried in {runtime}: {why}")
    samples = gate.noise(variant.inputs, SAMPLES) if data is None else Dataset(data.take(SAMPLES, 0).inputs)
    name = environments.of_runtime(runtime)
    if name is None:
        return _in_library(variant, runtime, samples, reporter, what)

    def make(place: Path) -> Mapping[str, Any]:  # noqa: ARG001 - it leaves no file
        return {"said": _in_package(variant, runtime, samples, what)}

    here = libraries.for_host(variant.format, reporter=reporter).sha256  # whose answers it is compared with
    key = cache.key_of(_VERSION, runtime, environments.packages(name), variant.sha256, samples.inputs_sha256, here)
    return Trial(runtime, True, str(cache.keep(variant.cache, key, make).facts["said"]))


def _in_library(variant: Variant, runtime: str, samples: Dataset, reporter: Reporter, what: str) -> Trial:
    library = libraries.fetch(runtime, libraries.host_arch(), reporter=reporter)
    if variant.library != library.sha256:  # else it was loaded and run in it when it was made
        answers.load(variant.format, variant.path, f"{what}: {runtime}", reporter, library=library)
    if library.sha256 == libraries.for_host(variant.format).sha256:
        return Trial(runtime, True, f"loads and runs in {runtime}")
    given = answers.of_variant(variant, samples, reporter=reporter, library=library)
    return Trial(runtime, True, _compared(variant, runtime, samples, given, what))


def _in_package(variant: Variant, runtime: str, samples: Dataset, what: str) -> str:
    asked = loadtest.Samples(samples, variant.inputs, variant.outputs)
    loaded = loadtest.load(loadtest.environment(), variant.path, asked, what=f"{what}: {runtime}")
    if loaded.answers is None:
        return f"loads and runs in {runtime}; it calls inputs and outputs otherwise, so answers were not compared"
    return _compared(variant, runtime, samples, loaded.answers, what)


def _compared(
    variant: Variant, runtime: str, samples: Dataset, given: tuple[answers.FloatArray, ...], what: str
) -> str:  # fmt: skip
    """The answers of a runtime against those of the engine here. Raises ConversionError."""
    kind = "conversion" if variant.precision in ("float32", "float16") else "quantization"
    verdict = gate.judge(answers.of_variant(variant, samples), given, variant.outputs, kind)
    if not verdict.passed:
        raise ConversionError(
            f"{what}: {runtime} computes something else from it than the runtime library of this host: "
            f"{verdict.reason}",
            hint="another precision or format for this board",
        )
    return f"loads and runs in {runtime}, with the answers that it gives here ({verdict.reason})"
