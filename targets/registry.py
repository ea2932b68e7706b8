"""Which target makes which format, and which reader reads which file; what a push asks this layer for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from edgeship.dataset import Dataset
from edgeship.errors import InputError, UsageError
from edgeship.model import ModelFacts, detect_format
from edgeship.reporter import Reporter
from edgeship.targets import answers, routes
from edgeship.targets.base import Target, Variant
from edgeship.targets.build import read_facts
from edgeship.targets.onnx.target import OnnxTarget
from edgeship.targets.tflite.target import TfliteTarget

FloatArray = NDArray[np.float32]

#: Format -> the step that reads it.
_READERS: Mapping[str, str] = MappingProxyType(
    {name: f"edgeship.targets.{name}.inspect" for name in ("keras", "savedmodel", "torch", "onnx", "tflite")}
)

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
        shapes: of inputs that leave more than the batch open: the whole shape, with the batch of 1.

    Raises:
        UsageError: no such file, or no such signature.
        InputError: empty, truncated, damaged, of no format that is known, or not to be served.
    """
    format_name = detect_format(path)
    if signature is not None and format_name != "savedmodel":
        raise UsageError(
            f"{path}: a signature is chosen in a SavedModel; this is {format_name}", hint="leave --signature out"
        )
    if shapes and format_name == "torch":
        raise UsageError(f"{path}: a PyTorch program gets its shapes at its export", hint="export it with fixed ones")
    if shapes or format_name not in _TARGETS:
        request = {"signature": signature, "shapes": {name: list(shape) for name, shape in (shapes or {}).items()}}
        facts = read_facts(path, _READERS[format_name], request)
    else:
        facts = target(format_name).inspect(path)
    if not facts.inputs:
        raise InputError(
            f"{path}: the model has no inputs: it gives the same answer always",
            hint="export the model with its inputs, not with example data in their place",
        )
    return facts


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
