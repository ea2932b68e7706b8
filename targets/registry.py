"""Which target makes which format, and which reader reads which file; what a push asks this layer for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from edgeship.dataset import Dataset
from edgeship.errors import UsageError
from edgeship.model import ModelFacts, detect_format
from edgeship.reporter import Reporter
from edgeship.targets import answers, routes
from edgeship.targets.base import Target, Variant
from edgeship.targets.build import read_facts
from edgeship.targets.onnx.target import OnnxTarget
from edgeship.targets.tflite.target import TfliteTarget

FloatArray = NDArray[np.float32]

#: Formats that are sources alone -> the step that reads them.
_READERS: Mapping[str, str] = MappingProxyType(
    {
        "keras": "edgeship.targets.keras.inspect",
        "savedmodel": "edgeship.targets.savedmodel.inspect",
        "torch": "edgeship.targets.torch.inspect",
    }
)  # fmt: skip

_TARGETS: Mapping[str, Target] = MappingProxyType({"tflite": TfliteTarget(), "onnx": OnnxTarget()})


def targets() -> Mapping[str, Target]:
    """Format -> target, for everything that can be built."""
    return _TARGETS


def target(name: str) -> Target:
    """The target of a format. Raises UsageError that lists them."""
    if name not in _TARGETS:
        raise UsageError(f"no target builds the format {name!r}", hint=f"known are {', '.join(_TARGETS)}")
    return _TARGETS[name]


def inspect(
    path: Path, signature: str | None = None, shapes: Mapping[str, Sequence[int]] | None = None
) -> ModelFacts:  # fmt: skip
    """Read any model, by what its bytes say.

    Args:
        path: a file, or the folder of a SavedModel.
        signature: which one of a SavedModel, by default serving_default.
        shapes: of inputs of an ONNX model that leaves more than its batch open: the whole shape, with the batch of 1.

    Raises:
        UsageError: no such file, or no such signature.
        InputError: empty, truncated, damaged, of no format that is known, or not to be served.
    """
    format_name = detect_format(path)
    if signature is not None and format_name != "savedmodel":
        raise UsageError(f"{path}: a signature is chosen in a SavedModel; this is {format_name}")
    if shapes and format_name != "onnx":
        raise UsageError(f"{path}: shapes are given for ONNX models; this is {format_name}")
    if shapes:
        return read_facts(path, "edgeship.targets.onnx.inspect", {"shapes": {k: list(v) for k, v in shapes.items()}})
    if format_name in _READERS:
        return read_facts(path, _READERS[format_name], {"signature": signature})
    return target(format_name).inspect(path)


def prepare(source: ModelFacts, data: Sequence[Dataset], folder: Path) -> None:
    """As `routes.prepare`."""
    routes.prepare(source, data, folder)


def source_answers(
    source: ModelFacts, variant: Variant, data: Dataset, reporter: Reporter
) -> tuple[FloatArray, ...]:  # fmt: skip
    """The source model's own answers (`routes.answers`), in the order and shapes of `variant.outputs`.

    Returns:
        One float32 array [n, *output.shape] an output.

    Raises:
        ConversionError: the outputs of source and variant do not correspond, or the engine failed.
    """
    named = routes.answers(source, data, variant.cache, reporter)
    return answers.align(named, variant.outputs, str(source.path))
