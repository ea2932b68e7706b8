"""One of the two models: as the engine runs it, its layers, and its answers."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.dataset import Dataset
from edgeship.errors import InputError, UsageError
from edgeship.model import ModelFacts, unchanged
from edgeship.optimize.compare.graph import Graph
from edgeship.reporter import Reporter
from edgeship.runtime.manifest import TensorSpec
from edgeship.targets import answers, cache, child, registry, routes
from edgeship.targets.base import Recipe, Variant

FloatArray = NDArray[np.float32]

_OPENED = "as-it-is/1"


@dataclass(frozen=True)
class Side:
    """A model of the comparison. `plain` is a file that the engine runs: fixed batch; of Keras its float export."""

    facts: ModelFacts
    plain: Variant
    graph: Graph


def side(facts: ModelFacts, format: str, folder: Path, reporter: Reporter) -> Side:  # noqa: A002 - the domain's word
    """Open a model for a look inside.

    Args:
        facts: of the file.
        format: tflite or onnx, that it is looked at in; its own, but for a source that no engine runs.
        folder: the cache of conversions.
        reporter: is told of what takes long.

    Raises:
        ConversionError: it cannot be converted, or the engine refuses it.
        InputError, UsageError: it cannot be read, or there is no route to the format.
    """
    file = routes.float_model(facts, format, folder, reporter)
    inner = facts if file == facts.path else registry.inspect(file)
    return Side(facts, opened(inner, folder, reporter), layers(format, inner.path))


def layers(format: str, path: Path) -> Graph:  # noqa: A002
    """The layers of a model file, read in a child. Raises InputError."""
    with child.workspace() as work:
        data = child.run(
            "edgeship.targets.layers", {"format": format, "path": str(path.resolve())}, work,
            limits=child.INSPECT, subject=str(path), failure=InputError,
        )  # fmt: skip
    return Graph.parse(data)


def opened(facts: ModelFacts, folder: Path, reporter: Reporter) -> Variant:
    """A file as the engine can run it, whatever became of its weights: here nothing is judged.

    Raises ConversionError, InputError.
    """
    if facts.open_shapes or facts.companions:
        return registry.target(facts.format).as_is(facts, folder, reporter)
    name = f"model.{facts.format}"

    def make(place: Path) -> Mapping[str, Any]:
        with unchanged(facts):
            shutil.copyfile(facts.path, place / name)
        loaded = answers.load(facts.format, place / name, str(facts.path), reporter)
        return {"inputs": [t.encode() for t in loaded.inputs], "outputs": [t.encode() for t in loaded.outputs]}

    entry = cache.keep(folder, cache.key_of(_OPENED, facts.sha256), make)
    inputs, outputs = (tuple(TensorSpec.parse(t) for t in entry.facts[key]) for key in ("inputs", "outputs"))
    recipe = Recipe(facts.sha256, facts.format, facts.format, facts.precision, ())
    return Variant(
        entry.path(name), recipe, entry.path(name), inputs, outputs, facts.bytes, facts.sha256, facts.int8_share,
        cached=entry.cached,
    )  # fmt: skip


def answers_of(one: Side, data: Dataset, reporter: Reporter) -> dict[str, FloatArray]:
    """Output -> answers float32 [n, …] of a model: in its own framework, else in the engine."""
    if routes.prepares(one.facts):
        return routes.answers(one.facts, data, one.plain.cache, reporter)
    arrays = answers.of_variant(one.plain, data, reporter=reporter)
    return {spec.name: array for spec, array in zip(one.plain.outputs, arrays, strict=True)}


def feeds(wanted: Sequence[TensorSpec], given: Sequence[TensorSpec], what: str) -> dict[str, str]:
    """Input of one model -> input of another that takes the same samples: by name, else by order and shape.

    Raises:
        UsageError: they do not correspond.
    """
    names = {spec.name: spec for spec in given}
    if len(wanted) == len(given):
        pairs = (
            [(spec, names[spec.name]) for spec in wanted]
            if all(spec.name in names for spec in wanted)
            else list(zip(wanted, given, strict=True))
        )
        if all(one.shape == other.shape for one, other in pairs):
            return {one.name: other.name for one, other in pairs}
    raise UsageError(
        f"{what}: its inputs {_shown(wanted)} do not correspond to {_shown(given)}",
        hint="compare models of the same inputs; where only the order of the axes differs, export with the same layout",
    )


def renamed(data: Dataset, names: Mapping[str, str]) -> Dataset:
    """The samples with the inputs named as another model names them (`feeds`)."""
    return dataclasses.replace(data, inputs={name: data.inputs[other] for name, other in names.items()})


def _shown(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.name} {list(spec.shape)}" for spec in specs)
