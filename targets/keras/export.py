"""Float TFLite and ONNX of a `.keras` file, and its own answers, from one TensorFlow child; kept by content.

TensorFlow takes seconds to import, so whatever is wanted of one model is done in one child: `prepare` makes everything
that a push will ask for, and later calls find it.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.dataset import Dataset
from edgeship.errors import ConversionError, MissingExtra
from edgeship.model import ModelFacts
from edgeship.targets import cache, child, feed
from edgeship.targets.base import versions_of

FloatArray = NDArray[np.float32]

_EXPORT, _ANSWERS = "keras-export/2", "keras-answers/2"  # raised when what the child makes changes
_FORMATS = ("tflite", "onnx")
_PERFORM = "edgeship.targets.keras.perform"


def versions() -> dict[str, str]:
    """Versions of what makes the float models. Raises MissingExtra."""
    return versions_of({"tensorflow-cpu|tensorflow": "tflite", "keras": "tflite", "tf2onnx": "tflite"})


def step(format: str) -> dict[str, Any]:  # noqa: A002 - the domain's word
    """How a recipe says it."""
    return {"do": "keras-export", "to": format, "batch": 1, "by": _EXPORT}


def exported(source: ModelFacts, format: str, folder: Path) -> Path:  # noqa: A002
    """The float model of a Keras source in a format.

    Raises:
        ConversionError: the converter refused the model; the message is its own.
        InputError: Keras cannot load the file.
        MissingExtra: TensorFlow is not installed.
    """
    key = _export_key(source, format)
    if (found := cache.lookup(folder, key)) is None:
        prepare(source, [], folder, need=format)
        found = cache.lookup(folder, key)
    assert found is not None
    return found.path(f"float.{format}")


def answers(source: ModelFacts, data: Dataset, folder: Path) -> dict[str, FloatArray]:
    """The Keras model's own answers: output name -> float32 [n, 1, …]. Raises as `exported`."""
    key = _answers_key(source, data)
    if (found := cache.lookup(folder, key)) is None:
        prepare(source, [data], folder, formats=())
        found = cache.lookup(folder, key)
    assert found is not None
    names = [str(output["name"]) for output in found.facts["outputs"]]
    return {
        name: np.load(found.path(f"{index}.npy"), mmap_mode="r", allow_pickle=False) for index, name in enumerate(names)
    }


def prepare(
    source: ModelFacts, data: Sequence[Dataset], folder: Path, *,
    formats: Sequence[str] = _FORMATS, need: str | None = None,
) -> None:  # fmt: skip
    """Make what is not there yet: both float models, and the answers to each of `data`, in one child.

    Args:
        source: a Keras model.
        data: samples that its answers are wanted for.
        folder: the cache of conversions.
        formats: float models to make where they are missing; one that fails is made again when it is needed.
        need: a format that must succeed.

    Raises:
        ConversionError: `need` failed, or the child died.
        InputError: Keras cannot load the file.
        MissingExtra: TensorFlow is not installed.
    """
    used = versions()
    wanted = [f for f in formats if cache.lookup(folder, _export_key(source, f)) is None]
    if "onnx" in wanted and importlib.util.find_spec("onnx") is None:
        if need == "onnx":
            raise MissingExtra("onnx", "onnx")
        wanted.remove("onnx")
    unanswered = {key: d for d in data if cache.lookup(folder, key := _answers_key(source, d)) is None}
    if not wanted and not unanswered:
        return
    with child.workspace() as work:
        request = {
            "path": str(source.path.resolve()), "inputs": [spec.name for spec in source.inputs], "formats": wanted,
            "answers": [feed.write(d, work, f"data{i}_") for i, d in enumerate(unanswered.values())],
        }  # fmt: skip
        result = child.run(_PERFORM, request, work, limits=child.CONVERT, subject=str(source.path))
        outcomes: Mapping[str, str | None] = result["formats"]
        for name in wanted:
            if outcomes[name] is None:
                file = f"float.{name}"
                _keep(folder, _export_key(source, name), [(work / file, file)], {"versions": used})
        for index, key in enumerate(unanswered):
            files = [(work / f"answer{index}_{j}.npy", f"{j}.npy") for j in range(len(result["outputs"]))]
            _keep(folder, key, files, {"outputs": result["outputs"]})
    if need is not None and (reason := outcomes.get(need)) is not None:
        raise ConversionError(
            f"{source.path}: it cannot be converted to {need}: {reason}",
            hint="try the other format, or replace the layer that the message names",
        )


def _keep(folder: Path, key: str, files: Sequence[tuple[Path, str]], facts: Mapping[str, Any]) -> None:
    def make(place: Path) -> Mapping[str, Any]:
        for path, name in files:
            shutil.copyfile(path, place / name)
        return facts

    cache.keep(folder, key, make)


def _export_key(source: ModelFacts, format: str) -> str:  # noqa: A002
    return cache.key_of(_EXPORT, source.sha256, format, versions())


def _answers_key(source: ModelFacts, data: Dataset) -> str:
    return cache.key_of(_ANSWERS, source.sha256, data.inputs_sha256, versions())
