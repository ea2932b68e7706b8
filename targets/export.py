"""Float models of a source that only its own framework can read, and its own answers, from one child; kept by content.

A framework takes seconds to import, so whatever is wanted of one model is done in one child: `prepare` makes everything
that will be asked for, and later calls find it. Keras, SavedModel and PyTorch differ in the step alone.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.dataset import Dataset
from edgeship.errors import ConversionError, MissingExtra
from edgeship.model import ModelFacts, unchanged
from edgeship.targets import cache, child, feed, shapes
from edgeship.targets.base import versions_of

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Exporter:
    """How the sources of one format are exported.

    Attributes:
        source: their format.
        perform: the step; its request is {"path", "inputs": names, "signature", "shapes", "formats", "answers": feeds}.
            It writes float.<format> and answer<i>_<j>.npy, and returns {"formats": {format: null or why it failed},
            "outputs": [{"name", "shape"}]}.
        formats: that it can make.
        packages: package -> extra, of the tools.
        version: of the step; raised when what it makes changes.
    """

    source: str
    perform: str
    formats: tuple[str, ...]
    packages: Mapping[str, str]
    version: int

    def versions(self) -> dict[str, str]:
        """Versions of what makes the float models. Raises MissingExtra."""
        return versions_of(self.packages)

    def step(self, source: ModelFacts, format: str) -> dict[str, Any]:  # noqa: A002 - the domain's word
        """How a recipe says it."""
        step = {"do": f"{self.source}-export", "to": format, "batch": 1, "by": f"{self.source}-export/{self.version}"}
        return step | _chosen(source)

    def exported(self, source: ModelFacts, format: str, folder: Path) -> Path:  # noqa: A002
        """The float model of a source in a format.

        Raises:
            ConversionError: the converter refused the model; the message is its own.
            InputError: the framework cannot load the file.
            MissingExtra: the framework is not installed.
        """
        key = self._export_key(source, format)
        if (found := cache.lookup(folder, key)) is None:
            self.prepare(source, [], folder, need=format)
            found = cache.lookup(folder, key)
        assert found is not None
        return found.path(f"float.{format}")

    def answers(self, source: ModelFacts, data: Dataset, folder: Path) -> dict[str, FloatArray]:
        """The source's own answers: output name -> float32 [n, 1, …]. Raises as `exported`."""
        key = self._answers_key(source, data)
        if (found := cache.lookup(folder, key)) is None:
            self.prepare(source, [data], folder, formats=())
            found = cache.lookup(folder, key)
        assert found is not None
        names = [str(output["name"]) for output in found.facts["outputs"]]
        return {
            name: np.load(found.path(f"{index}.npy"), mmap_mode="r", allow_pickle=False)
            for index, name in enumerate(names)
        }

    def prepare(
        self, source: ModelFacts, data: Sequence[Dataset], folder: Path, *,
        formats: Sequence[str] | None = None, need: str | None = None,
    ) -> None:  # fmt: skip
        """Make what is not there yet: the float models, and the answers to each of `data`, in one child.

        Args:
            source: a model of this exporter's format.
            data: samples that its answers are wanted for.
            folder: the cache of conversions.
            formats: float models to make where they are missing, by default all; one that fails is made again when it
                is needed.
            need: a format that must succeed.

        Raises:
            ConversionError: `need` failed, or the child died.
            InputError: the framework cannot load the file, or it changed since it was inspected.
            MissingExtra: the framework is not installed.
        """
        used = self.versions()
        asked = self.formats if formats is None else formats
        wanted = [f for f in asked if cache.lookup(folder, self._export_key(source, f)) is None]
        if "onnx" in wanted and importlib.util.find_spec("onnx") is None:
            if need == "onnx":
                raise MissingExtra("onnx", "onnx")
            wanted.remove("onnx")
        unanswered = {key: d for d in data if cache.lookup(folder, key := self._answers_key(source, d)) is None}
        if not wanted and not unanswered:
            return
        with child.workspace() as work:
            request = {
                "path": str(source.path.resolve()), "inputs": [spec.name for spec in source.inputs],
                "formats": wanted, **_chosen(source),
                "answers": [feed.write(d, work, f"data{i}_") for i, d in enumerate(unanswered.values())],
            }  # fmt: skip
            with unchanged(source):
                result = child.run(self.perform, request, work, limits=child.CONVERT, subject=str(source.path))
            outcomes: Mapping[str, str | None] = result["formats"]
            for name in wanted:
                if outcomes[name] is None:
                    file = f"float.{name}"
                    _keep(folder, self._export_key(source, name), [(work / file, file)], {"versions": used})
            for index, key in enumerate(unanswered):
                files = [(work / f"answer{index}_{j}.npy", f"{j}.npy") for j in range(len(result["outputs"]))]
                _keep(folder, key, files, {"outputs": result["outputs"]})
        if need is not None and (reason := outcomes.get(need)) is not None:
            raise ConversionError(
                f"{source.path}: it cannot be converted to {need}: {reason}",
                hint="try the other format, or replace the layer that the message names",
            )

    def _export_key(self, source: ModelFacts, format: str) -> str:  # noqa: A002
        return cache.key_of(self.step(source, format), source.sha256, self.versions())

    def _answers_key(self, source: ModelFacts, data: Dataset) -> str:
        tag = f"{self.source}-answers/{self.version}"
        return cache.key_of(tag, _chosen(source), source.sha256, data.inputs_sha256, self.versions())


def _chosen(source: ModelFacts) -> dict[str, Any]:
    """The signature and the shapes of inputs that were chosen, where the format has such things."""
    signature, given = source.details.get("signature"), shapes.given(source)
    return ({"signature": str(signature)} if signature else {}) | ({"shapes": given} if given else {})


def _keep(folder: Path, key: str, files: Sequence[tuple[Path, str]], facts: Mapping[str, Any]) -> None:
    def make(place: Path) -> Mapping[str, Any]:
        for path, name in files:
            shutil.copyfile(path, place / name)
        return facts

    cache.keep(folder, key, make)
