"""Runs models over data in the engine that devices use; answers are kept by content.

Models run in a child process like everything that reads one. The engine is the device's (`edgeship.runtime.engine`), on
x86 with the setting that keeps int8 from saturating, so what is measured here is what an Arm board answers.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship import libraries
from edgeship.dataset import Dataset
from edgeship.errors import ConversionError
from edgeship.libraries import Library
from edgeship.reporter import Reporter
from edgeship.runtime.manifest import TensorSpec
from edgeship.targets import cache, child, feed
from edgeship.targets.base import Variant

FloatArray = NDArray[np.float32]

_ANSWERS = "engine-answers/1"  # raised when how a model is run changes


@dataclass(frozen=True)
class Loaded:
    """What the engine says of a model that it loaded and ran once."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    notes: tuple[str, ...]
    library: str = ""  # sha256 of the runtime library that it was


def load(
    format: str, path: Path, what: str, reporter: Reporter | None = None, *,  # noqa: A002 - the domain's word
    library: Library | None = None,
) -> Loaded:  # fmt: skip
    """Load a model in the engine and run it once on zeros: shapes are taken from a run, not from what is declared.

    Args:
        format: of the file.
        path: the file.
        what: the model, for messages.
        reporter: is told when the runtime library has to be fetched.
        library: to run it; by default the one that this host measures with.

    Raises:
        ConversionError: the engine refuses it or dies of it.
    """
    library = library or libraries.for_host(format, reporter=reporter)
    with child.workspace() as work:
        result = _run(library, format, path, None, work, 1, what)
    return Loaded(
        tuple(TensorSpec.parse(t) for t in result["inputs"]), tuple(TensorSpec.parse(t) for t in result["outputs"]),
        tuple(map(str, result["notes"])), library.sha256,
    )  # fmt: skip


def of_variant(
    variant: Variant, data: Dataset, *, threads: int = 1, reporter: Reporter | None = None,
    library: Library | None = None, what: str | None = None,
) -> tuple[FloatArray, ...]:  # fmt: skip
    """A variant's answers, real values.

    Args:
        variant: the model; its answers are kept in `variant.cache`.
        data: samples.
        threads: of the engine.
        reporter: is told when the runtime library has to be fetched.
        library: as `load`.
        what: likewise; by default the variant's file, which lies in the cache under the name of its recipe.

    Returns:
        One float32 array [n, *output.shape] an output, in the order of `variant.outputs`; mapped from the disk.

    Raises:
        ConversionError: the engine failed.
    """
    used = library or libraries.for_host(variant.format, reporter=reporter)
    count = len(variant.outputs)

    def make(place: Path) -> Mapping[str, Any]:
        with child.workspace() as work:
            _run(used, variant.format, variant.path, data, work, threads, what or str(variant.path))
            for index in range(count):
                shutil.copyfile(work / f"answer{index}.npy", place / f"{index}.npy")
        return {"outputs": count}

    key = cache.key_of(_ANSWERS, variant.sha256, data.inputs_sha256, used.sha256)
    entry = cache.keep(variant.cache, key, make)
    return tuple(np.load(entry.path(f"{i}.npy"), mmap_mode="r", allow_pickle=False) for i in range(count))


def align(
    named: Mapping[str, FloatArray], outputs: tuple[TensorSpec, ...], what: str
) -> tuple[FloatArray, ...]:  # fmt: skip
    """Arrays [n, …] by name in the order and shapes of `outputs`: by name, else by position where sizes agree.

    Raises:
        ConversionError: their sizes are not those of the outputs; `what` is named.
    """
    arrays = list(named.values())
    if all(spec.name in named for spec in outputs):
        arrays = [named[spec.name] for spec in outputs]
    sizes = [int(np.prod(array.shape[1:], dtype=np.int64)) for array in arrays]
    if sizes != [spec.count for spec in outputs]:
        raise ConversionError(
            f"{what}: its outputs {dict(zip(named, sizes, strict=True))} do not correspond to those of the variant: "
            f"{ {spec.name: spec.count for spec in outputs} }",
            hint="edgeship model inspect shows the outputs of both; was the model changed on its way?",
        )
    return tuple(array.reshape(len(array), *spec.shape) for array, spec in zip(arrays, outputs, strict=True))


def _run(
    library: Library, format: str, path: Path, data: Dataset | None, work: Path, threads: int, what: str  # noqa: A002
) -> dict[str, Any]:  # fmt: skip
    request = {
        "format": format, "path": str(path.resolve()), "library": str(library.path), "threads": threads,
        "samples": None if data is None else feed.write(data, work),
    }  # fmt: skip
    return child.run("edgeship.targets.run", request, work, limits=child.RUN, subject=what)
