"""What pruning and distillation have in common outside of the child: run, keep by content, judge, hand over."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship import wording
from edgeship.dataset import Dataset
from edgeship.errors import InputError, ReleaseError, UsageError
from edgeship.model import ModelFacts, digest, unchanged
from edgeship.optimize import handover, metrics, quality
from edgeship.optimize.agreement import is_scores
from edgeship.optimize.tuning import fit, parts, samples
from edgeship.optimize.tuning.settings import Settings
from edgeship.reporter import Reporter, Step
from edgeship.runtime.manifest import TensorSpec
from edgeship.targets import cache, child
from edgeship.targets.base import Recipe, versions_of
from edgeship.targets.child import Limits

FloatArray = NDArray[np.float32]

#: Training takes what it takes; a hang still ends.
TRAIN = Limits(seconds=24 * 3600.0, cpu_seconds=8 * 24 * 3600, memory=64 << 30)

MODEL, RECIPE = "model.keras", "recipe.json"
_POLL = 0.5  # seconds between two looks at the child's progress


@dataclass(frozen=True)
class Order:
    """A training to be run in a child.

    Attributes:
        name: "prune" or "distill", for people and the recipe.
        step: module that performs it; it writes `file` and answers as `<stem>_<j>.npy` for each of `stems`.
        source: the model that it starts from, or a teacher; a recipe beside it is carried on.
        request: for the step, without data.
        made_by: what else decides the result, for the key and the recipe; JSON.
        settings: of the training.
        file: the model that the step writes.
        stems: answers to the evaluation samples that are kept.
        also: the model that is trained, where it is not the source: a given student. Its recipe is carried on then.
    """

    name: str
    step: str
    source: ModelFacts
    request: Mapping[str, Any]
    made_by: Mapping[str, Any]
    settings: Settings
    file: str
    stems: tuple[str, ...]
    also: ModelFacts | None = None


@dataclass(frozen=True)
class Tuned:
    """A `.keras` file that a training made, with what is known of it."""

    path: Path
    recipe: Recipe
    recipe_path: Path
    sha256: str
    facts: Mapping[str, Any]
    answers: Mapping[str, tuple[FloatArray, ...]]  # stem -> one float32 [n, …] an output, to the evaluation samples
    evaluation: Dataset
    cached: bool

    def judged(self, before: str, after: str, budget: quality.AccuracyBudget) -> quality.Verdict:
        """One set of answers against another.

        Top-1 where there are labels for it, else the mean error where there are targets for it, else agreement; each
        slice alone too.
        """
        expected, given = self.answers[before], self.answers[after]
        specs = [TensorSpec(f"output_{j}", "float32", (1, *out.shape[1:])) for j, out in enumerate(expected)]
        truth, targets = self.evaluation.labels, self.evaluation.targets
        if truth is not None and not (is_scores(specs[0]) or (specs[0].count == 1 and truth.max() <= 1)):
            truth = None
        if targets is not None and targets[0].size != specs[0].count:
            targets = None
        return quality.judge(
            expected, given, specs, budget, metric=metrics.default(truth, targets), truth=truth, targets=targets,
            labels=self.evaluation.classes, slices=self.evaluation.slices,
        )  # fmt: skip


def run(
    order: Order, data: Dataset, evaluation: Dataset | None, folder: Path, reporter: Reporter, what: str = "the data"
) -> Tuned:  # fmt: skip
    """Perform an order, or take what it made from `folder`.

    Args:
        order: what to do.
        data: samples to train on, with labels where there are some.
        evaluation: samples to judge on; None: a seeded fifth of `data` is held out.
        folder: the cache of conversions.
        reporter: is told of the epochs.
        what: the data's file, for errors.

    Raises:
        InputError: too few samples, labels that the model has no class for, a model that Keras cannot load.
        ConversionError: the step failed.
        UsageError: the step cannot do what was asked for.
        MissingExtra: TensorFlow is not installed.
    """
    divided = parts.divide(data, evaluation, order.settings.seed, what)
    _check_labels(order.source, divided, what, reporter)
    versions = versions_of({"tensorflow-cpu|tensorflow": "tflite", "keras": "tflite"})
    judged_by = divided.evaluation.sha256
    grown_from = order.also or order.source
    before = _ancestry(grown_from)
    preparation = None if data.preparation is None else dict(data.preparation)
    parted = [divided.train.sha256, divided.validation.sha256, judged_by]  # groups part the same data otherwise
    key = cache.key_of(
        order.name, 2, order.source.sha256, order.made_by, data.sha256, parted, preparation, before, versions
    )  # fmt: skip
    shown = Step(order.name, order.source.path.name)

    def make(place: Path) -> Mapping[str, Any]:
        with unchanged(order.source), unchanged(order.also or order.source), child.workspace() as work:
            request = {
                **order.request, "path": str(order.source.path.resolve()),
                "parts": {
                    name: samples.write(part, work, name)
                    for name, part in (
                        ("train", divided.train), ("validation", divided.validation), ("evaluation", divided.evaluation)
                    )
                },
            }  # fmt: skip
            with _watched(work, reporter, shown):
                facts = child.run(order.step, request, work, limits=TRAIN, subject=str(order.source.path))
            shutil.copyfile(work / order.file, place / MODEL)
            for stem in order.stems:
                for path in sorted(work.glob(f"{stem}_*.npy")):
                    shutil.copyfile(path, place / path.name)
        sha, _ = digest([place / MODEL])
        step = {"do": order.name, **order.made_by, "from": grown_from.sha256, "made": sha}
        says: dict[str, Any] = {
            "sha256": data.sha256, "samples": len(divided.train), "of": len(data), "seed": order.settings.seed,
            "evaluation_sha256": judged_by,
        }  # fmt: skip
        if preparation is not None:
            says["preparation"] = preparation
        steps = (*before, step)
        recipe = Recipe(order.source.sha256, order.source.format, "keras", "float32", steps, says, versions)
        (place / RECIPE).write_bytes(recipe.canonical())
        return {**facts, "sha256": sha, "recipe": recipe.encode()}

    reporter.started(shown)
    entry = cache.keep(folder, key, make)
    facts = entry.facts
    epochs = (
        "found, nothing done twice"
        if entry.cached
        else f"{wording.counted(facts['epochs'], 'epoch')}, best {facts['best_epoch']}"
    )
    reporter.finished(shown, epochs, {"epochs": facts["epochs"], "best_epoch": facts["best_epoch"]})
    return Tuned(
        entry.path(MODEL), Recipe.parse(json.dumps(facts["recipe"]).encode()), entry.path(RECIPE),
        str(facts["sha256"]), facts, {stem: _load(entry, stem) for stem in order.stems}, divided.evaluation,
        entry.cached,
    )  # fmt: skip


def _load(entry: cache.Entry, stem: str) -> tuple[FloatArray, ...]:
    count = sum(name.startswith(f"{stem}_") for name in entry.files)
    return tuple(np.load(entry.path(f"{stem}_{j}.npy"), mmap_mode="r", allow_pickle=False) for j in range(count))


def _check_labels(source: ModelFacts, divided: parts.Parts, what: str, reporter: Reporter) -> None:
    labels = divided.train.labels
    if labels is None:
        if divided.train.targets is None:
            reporter.note(f"{what} has no labels: the training follows the answers of {source.path.name} alone")
        return
    if source.outputs and is_scores(source.outputs[0]):
        highest = max(int(part.labels.max()) for part in (divided.train, divided.validation, divided.evaluation)
                      if part.labels is not None)  # fmt: skip
        if highest >= source.outputs[0].count:
            raise InputError(
                f"{what} has the label {highest}, the model has the classes 0 to {source.outputs[0].count - 1}",
                hint="labels count from 0; are they of this model?",
            )
    if len(np.unique(labels)) == 1:
        reporter.note(f"{what} holds one class only: nothing can be said about the others, nor learnt")


def _ancestry(source: ModelFacts) -> tuple[Mapping[str, Any], ...]:
    """The steps that made a source, where its recipe lies beside it and is of this very file."""
    with contextlib.suppress(OSError, ReleaseError):
        recipe = Recipe.parse(recipe_path(source.path).read_bytes())
        if recipe.steps and recipe.steps[-1].get("made") == source.sha256:
            return recipe.steps
    return ()


@contextlib.contextmanager
def _watched(work: Path, reporter: Reporter, step: Step) -> Iterator[None]:
    """Tell of the epochs that the child writes down."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(_POLL):
            with contextlib.suppress(OSError, ValueError, KeyError):
                state = json.loads((work / fit.PROGRESS).read_text(encoding="utf-8"))
                reporter.progress(step, int(state["done"]), int(state["total"]))

    watcher = threading.Thread(target=look, name="epochs", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


# ── hand over ────────────────────────────────────────────────────────────────────────────────────────────────────────


def recipe_path(model: Path) -> Path:
    """Where the recipe of a `.keras` file lies: beside it."""
    return model.with_name(f"{model.name}.recipe.json")


def check_output(output: Path, sources: Sequence[Path]) -> None:
    """Raise UsageError unless a model can be written there."""
    if output.suffix != ".keras":
        raise UsageError(f"{output}: the output is a Keras model", hint="a name that ends in .keras")
    if not output.parent.is_dir():
        raise UsageError(f"{output}: no such folder {output.parent}", hint=f"mkdir -p {output.parent}")
    if any(output.resolve() == source.resolve() for source in sources):
        raise UsageError(f"{output}: that is the model itself", hint="give another name to --output")


def deliver(tuned: Tuned, output: Path) -> None:
    """Write the model and its recipe, each whole or not at all. Raises ConversionError."""
    handover.copy(tuned.recipe_path, recipe_path(output))
    handover.copy(tuned.path, output)
