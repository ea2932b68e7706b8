"""Trials: parts of a model and variants of it are built, each in children that may fail, crash or hang."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.dataset import Dataset
from edgeship.errors import EdgeshipError, UsageError
from edgeship.model import ModelFacts
from edgeship.optimize.compare.graph import Graph
from edgeship.optimize.doctor import failure
from edgeship.optimize.doctor.bisect import Cut, LimitReachedError, beginning
from edgeship.optimize.doctor.failure import Failure
from edgeship.reporter import Reporter, Step
from edgeship.targets import child, feed, registry
from edgeship.targets.base import Variant
from edgeship.targets.scheme import Scheme

SAMPLES = 8  # that a part of a model is tried with


@dataclass
class Clock:
    """Counts the trials of one diagnosis against its limits, and tells of them."""

    most: int
    seconds: float
    reporter: Reporter
    step: Step
    done: int = 0
    started: float = field(default_factory=time.monotonic)

    def tick(self) -> None:
        """One more trial. Raises LimitReachedError."""
        if self.done >= self.most or time.monotonic() - self.started > self.seconds:
            raise LimitReachedError
        self.count()

    def count(self) -> None:
        """One more trial, whatever the limits: what was asked for is tried, however long its first stage took."""
        self.done += 1
        self.reporter.progress(self.step, self.done, self.most)


def build(
    facts: ModelFacts, format: str, scheme: Scheme, data: Dataset | None, folder: Path  # noqa: A002 - the domain's word
) -> Variant | Failure:  # fmt: skip
    """A variant, or why there is none. Raises UsageError for what makes no sense as asked."""
    calibration = data if scheme.needs_data and facts.precision != scheme.precision else None
    try:
        return registry.target(format).build(facts, scheme, calibration, folder, Reporter())
    except UsageError:
        raise
    except EdgeshipError as error:
        return failure.of(error)


@dataclass(frozen=True)
class Part:
    """A part of a model on the disk, with samples for its inputs."""

    path: Path
    facts: ModelFacts
    data: Dataset | None
    nodes: tuple[Mapping[str, Any], ...]  # {"name", "operator", "node", "attributes"}


@dataclass(frozen=True)
class Bench:
    """A model that fails, and how its parts are tried."""

    path: Path  # of the format
    format: str
    graph: Graph
    scheme: Scheme
    wanted: Failure
    samples: Dataset | None
    folder: Path  # of variants
    work: Path  # of parts
    clock: Clock

    def fails(self, cut: Cut) -> bool:
        """Whether a part fails as the whole did; one that cannot be made or read does not. Raises LimitReachedError."""
        self.clock.tick()
        try:
            part = self.part(cut)
            scheme = self.scheme if part.facts.precision != "int8" else Scheme(part.facts.precision)
            if scheme.precision == self.scheme.precision and scheme.calibrated and part.data is None:
                return False
            made = build(part.facts, self.format, dataclasses.replace(scheme, keep=()), part.data, self.folder)
        except EdgeshipError:
            return False
        return isinstance(made, Failure) and made.same(self.wanted, {layer.operator for layer in self.graph.layers})

    def part(self, cut: Cut) -> Part:
        """Write a part, with samples where it can be run. Raises EdgeshipError."""
        place = self.work / f"part{len(list(self.work.iterdir()))}"
        place.mkdir()
        arrays, seen = self._inputs(cut, place)
        request = {
            "format": self.format, "path": str(self.path.resolve()), "layers": list(cut.layers),
            "inputs": list(cut.inputs), "outputs": list(cut.outputs), "seen": seen, "name": "",
        }  # fmt: skip
        made = child.run(
            "edgeship.targets.extract", request, place, limits=child.CONVERT, subject=f"{self.path.name}, a part"
        )
        path = place / str(made["file"])
        facts = registry.inspect(path)
        data = None if arrays is None else Dataset({s.name: arrays[s.name] for s in facts.inputs})
        return Part(path, facts, data, tuple(made["nodes"]))

    def _inputs(self, cut: Cut, place: Path) -> tuple[dict[str, NDArray[Any]] | None, dict[str, Any]]:
        """Values of the inputs of a part, and their dtypes and shapes; None and {} where nothing before it can run."""
        if self.samples is None:
            return None, {}
        arrays: dict[str, NDArray[Any]] = {n: self.samples.inputs[n] for n in cut.inputs if n in self.samples.inputs}
        given = {name: {"dtype": a.dtype.name, "shape": list(a.shape[1:])} for name, a in arrays.items()}
        inner = [name for name in cut.inputs if name not in arrays]
        if not inner:
            return arrays, given
        if any(name not in self.graph.by_tensor for name in inner):
            return None, {}
        last = max(self.graph.layers.index(self.graph.by_tensor[name]) for name in inner)
        for path in (self.path, None):
            tap = place / ("whole" if path else "before")
            tap.mkdir()
            try:
                got = self._tap(path or self._before(last, tap), inner, tap)
            except EdgeshipError:
                continue
            seen = {name: {"dtype": a.dtype.name, "shape": list(a.shape[1:])} for name, a in got.items()}
            return arrays | got, given | seen
        return None, {}

    def _before(self, last: int, place: Path) -> Path:
        """The beginning of the model that what is wanted comes out of."""
        cut = beginning(self.graph, last)
        request = {
            "format": self.format, "path": str(self.path.resolve()), "layers": list(cut.layers),
            "inputs": list(cut.inputs), "outputs": list(cut.outputs), "seen": {}, "name": "",
        }  # fmt: skip
        made = child.run("edgeship.targets.extract", request, place, limits=child.CONVERT, subject=self.path.name)
        return place / str(made["file"])

    def _tap(self, path: Path, names: list[str], place: Path) -> dict[str, NDArray[Any]]:
        assert self.samples is not None
        inputs = {name: name for name in self.samples.inputs}
        request = {
            "model": {"format": self.format, "path": str(path.resolve()), "inputs": inputs}, "reads": names,
            "samples": feed.write(self.samples, place),
        }  # fmt: skip
        found = child.run("edgeship.targets.tap", request, place, limits=child.RUN, subject=self.path.name)
        if not all(found["finite"]):
            return {}
        return {name: np.load(place / f"tap{i}.npy", allow_pickle=False) for i, name in enumerate(names)}


def mended(facts: ModelFacts, repair: Mapping[str, Any], place: Path) -> Path | None:
    """The ONNX source with a repair, or None where there was nothing to repair. Raises EdgeshipError."""
    place.mkdir(parents=True, exist_ok=True)
    made = child.run(
        "edgeship.targets.mend", {**repair, "path": str(facts.path.resolve())}, place, limits=child.CONVERT,
        subject=str(facts.path),
    )  # fmt: skip
    return place / "mended.onnx" if made["changed"] else None


def save(part: Part, output: Path) -> tuple[Path, ...]:
    """Copy a part and its samples into a folder for a bug report; returns the files."""
    output.mkdir(parents=True, exist_ok=True)
    model = output / f"part{part.path.suffix}"
    shutil.copyfile(part.path, model)
    if part.data is None:
        return (model,)
    samples = output / "part.npz"
    arrays: dict[str, Any] = dict(part.data.inputs)
    np.savez_compressed(samples, allow_pickle=False, **arrays)
    return model, samples
