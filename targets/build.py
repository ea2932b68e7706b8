"""How a target's recipe becomes a variant: perform in a child, judge, load in the engine, keep.

What every target does alike stands here; what differs is its recipe and its step.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeship.dataset import Dataset
from edgeship.errors import ConversionError, InputError
from edgeship.model import ModelFacts, check_file, companion_folder, digest, saved_model_files, unchanged
from edgeship.reporter import Reporter
from edgeship.runtime.manifest import TensorSpec
from edgeship.targets import answers, cache, child, feed
from edgeship.targets.base import Recipe, Variant, check_share

RECIPE = "recipe.json"


@dataclass(frozen=True)
class Made:
    """A step to run: the child fills in its folder."""

    step: str
    request: Mapping[str, Any]
    samples: Dataset | None  # to calibrate with
    folder: Path
    limits: child.Limits

    def run(self, subject: str) -> dict[str, Any]:
        """Run it; returns what the step does."""
        files = None if self.samples is None else feed.write(self.samples, self.folder)
        return child.run(
            self.step, {**self.request, "samples": files}, self.folder, limits=self.limits, subject=subject
        )


def read_facts(path: Path, step: str, request: Mapping[str, Any] | None = None) -> ModelFacts:
    """Facts of a model file or folder, read in a child.

    Args:
        path: the model.
        step: its reader.
        request: what the reader is told beside the path.

    Raises:
        InputError: it is damaged, or cannot be served.
        UsageError: there is none, or the request does not fit it.
    """
    files = saved_model_files(path) if path.is_dir() else []
    if not files:
        check_file(path)
    names = [file.relative_to(path).as_posix() for file in files]
    with child.workspace() as work:
        data = child.run(
            step, {"path": str(path.resolve()), **(request or {})}, work, limits=child.INSPECT, subject=str(path),
            failure=InputError,
        )  # fmt: skip
    companions = [str(name) for name in data.get("companions", [])] or names
    base = companion_folder(path, str(data.get("format")))
    sha, size = digest([path, *(base / name for name in companions)])
    return ModelFacts.parse(path, {**data, "sha256": sha, "bytes": size, "companions": companions})


def make(
    recipe: Recipe, source: ModelFacts, file: str, plan: Callable[[Path], Made], folder: Path, reporter: Reporter
) -> Variant:
    """The variant of a recipe, made where it is not there yet.

    Args:
        recipe: decides everything; its key names the variant's folder.
        source: where it starts.
        file: name of the variant's file that the step writes.
        plan: the step to run in a folder.
        folder: the cache of conversions.
        reporter: is told what the engine has to say.

    Raises:
        ConversionError: the step failed, left weights in float that should be int8, or the engine refuses the result.
        InputError: the source changed since it was inspected.
    """
    what = f"{source.path}: {recipe.format} {recipe.precision}"

    def perform(place: Path) -> Mapping[str, Any]:
        with unchanged(source), child.workspace() as work:
            facts = plan(work).run(str(source.path))
            shutil.copyfile(work / file, place / file)
        if recipe.precision != source.precision:  # else no number was to change
            _check_share(facts, recipe.precision, what)
        loaded = answers.load(recipe.format, place / file, what, reporter)
        measured = facts.get("measured") if source.format == recipe.format else None  # declared shapes may lie
        _check_outputs(measured or [t.shape for t in source.outputs], loaded.outputs, what)
        (place / RECIPE).write_bytes(recipe.canonical())
        sha, size = digest([place / file])
        return {
            "inputs": [t.encode() for t in loaded.inputs], "outputs": [t.encode() for t in loaded.outputs],
            "notes": [*facts.get("decided", []), *loaded.notes], "int8_share": facts["int8_share"],
            "sha256": sha, "bytes": size, "library": loaded.library,
        }  # fmt: skip

    entry = cache.keep(folder, recipe.key, perform)
    variant = _variant(entry, recipe, file)
    for note in variant.notes:
        reporter.note(f"{what}: {note}")
    return variant


def _variant(entry: cache.Entry, recipe: Recipe, file: str) -> Variant:
    facts = entry.facts
    return Variant(
        path=entry.path(file), recipe=recipe, recipe_path=entry.path(RECIPE),
        inputs=tuple(TensorSpec.parse(t) for t in facts["inputs"]),
        outputs=tuple(TensorSpec.parse(t) for t in facts["outputs"]),
        bytes=int(facts["bytes"]), sha256=str(facts["sha256"]), int8_share=float(facts["int8_share"]),
        notes=tuple(map(str, facts["notes"])), cached=entry.cached, library=str(facts.get("library", "")),
    )  # fmt: skip


def _check_share(facts: Mapping[str, Any], precision: str, what: str) -> None:
    """Refuse what a quantizer left as it was. Raises ConversionError."""
    details = facts.get("details", {})
    share = float(details.get("float16_share", 1.0) if precision == "float16" else facts["int8_share"])
    share += float(facts.get("kept_share", 0.0))  # of layers that were to stay in float
    check_share(share, precision, what, map(str, details.get("left_in_float", [])))


def _check_outputs(expected: Sequence[Sequence[int]], outputs: tuple[TensorSpec, ...], what: str) -> None:
    """A conversion keeps the number and sizes of outputs. Raises ConversionError."""
    if expected and sorted(t.count for t in outputs) != sorted(math.prod(shape) for shape in expected):
        raise ConversionError(
            f"{what}: its outputs are {[list(t.shape) for t in outputs]}, those of the source "
            f"{[list(shape) for shape in expected]}",
            hint="edgeship model doctor MODEL finds the layer that changes its shape",
        )
