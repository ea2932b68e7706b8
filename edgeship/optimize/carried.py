"""Models that carry their own state: an output of one run is an input of the next.

Sample by sample, with the state that the data holds, such a model may look right though its state is lost or drifts. So
it is run over the samples in their order as an application runs it: the state starts at 0 and is handed on.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship import child, libraries
from edgeship.dataset import Dataset
from edgeship.errors import ConversionError
from edgeship.reporter import Reporter
from edgeship.runtime import engine
from edgeship.runtime.errors import EngineError
from edgeship.runtime.manifest import TensorSpec
from edgeship.targets import cache, feed
from edgeship.targets.base import Variant, dequantize_output, quantize_input
from edgeship.targets.child import RUN

RUNS = 64  # samples that are run in a row

FloatArray = NDArray[np.float32]

_WORDS = re.compile(r"(?:^|_)(?:in|out|input|output|new|next|prev|previous|old|cur|current)(?=_|$)")


def pairs(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> dict[str, str]:
    """Input -> output that is its next value: of one shape, and of one name but for words such as in, out, new, n.

    Only where another input and another output are left: a model from image to image carries nothing.
    """
    found: dict[str, str] = {}
    for one in inputs:
        stem = _stem(one.name)
        fits = [o.name for o in outputs if stem and o.shape == one.shape and _stem(o.name) in (stem, f"{stem}n")]
        if len(fits) == 1:
            found[one.name] = fits[0]
    alone = len(found) < len(inputs) and len(set(found.values())) < len(outputs)
    return found if alone and len(set(found.values())) == len(found) else {}


def _stem(name: str) -> str:
    plain = name.partition(":")[0].removeprefix("serving_default_").lower()
    return _WORDS.sub("", plain).strip("_")


def answers(
    variant: Variant, data: Dataset, state: Mapping[str, str], *, threads: int = 1, reporter: Reporter | None = None
) -> tuple[FloatArray, ...]:  # fmt: skip
    """A model's answers to the first `RUNS` samples, one after the other, its state handed on.

    Args:
        variant: the model.
        data: samples; what they hold of the state is not looked at.
        state: see `pairs`.
        threads: of the engine.
        reporter: is told when the runtime library has to be fetched.

    Returns:
        One float32 array [n, *output.shape] an output, in the order of `variant.outputs`.

    Raises:
        ConversionError: the engine failed.
    """
    library = libraries.for_host(variant.format, reporter=reporter)
    some = data.select(np.arange(min(RUNS, len(data))))

    def make(place: Path) -> Mapping[str, Any]:
        with child.workspace() as work:
            request = {
                "format": variant.format, "path": str(variant.path.resolve()), "library": str(library.path),
                "threads": threads, "samples": feed.write(some, work), "state": dict(state),
            }  # fmt: skip
            child.run("edgeship.optimize.carried", request, work, limits=RUN, subject=str(variant.path))
            for index in range(len(variant.outputs)):
                shutil.copyfile(work / f"answer{index}.npy", place / f"{index}.npy")
        return {}

    key = cache.key_of("carried/1", variant.sha256, some.inputs_sha256, library.sha256, dict(state))
    entry = cache.keep(variant.cache, key, make)
    return tuple(np.load(entry.path(f"{i}.npy"), allow_pickle=False) for i in range(len(variant.outputs)))


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The step: run a model over samples with its state handed on.

    Args:
        request: "format", "path", "library", "threads", "samples": a feed, "state": input -> output.
        folder: gets answer<j>.npy, float32 [n, *output.shape].
    """
    data, state = feed.read(request["samples"]), request["state"]
    try:
        model = engine.load(request["format"], request["library"], request["path"], threads=int(request["threads"]))
        try:
            held: dict[str, NDArray[Any]] = {s.name: np.zeros(s.shape) for s in model.inputs if s.name in state}
            rows: list[list[FloatArray]] = []
            for index in range(len(next(iter(data.values())))):
                given = [quantize_input(held.get(s.name, data[s.name][index]), s) for s in model.inputs]
                outs = [dequantize_output(r, s) for r, s in zip(model.run(*given), model.outputs, strict=True)]
                named = dict(zip((s.name for s in model.outputs), outs, strict=True))
                held = {name: named[output] for name, output in state.items()}
                rows.append(outs)
        finally:
            model.close()
    except EngineError as error:
        raise ConversionError(
            f"the engine refuses the model: {error}", hint="edgeship model doctor MODEL finds the layer"
        ) from error
    for number, answers_of_one in enumerate(zip(*rows, strict=True)):
        np.save(folder / f"answer{number}.npy", np.stack(answers_of_one), allow_pickle=False)
    return {}
