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
from edgeship.targets import answers
from edgeship.targets.base import Target, Variant
from edgeship.targets.build import read_facts
from edgeship.targets.keras import export
from edgeship.targets.onnx.target import OnnxTarget
from edgeship.targets.tflite.target import TfliteTarget

FloatArray = NDArray[np.float32]

_TARGETS: Mapping[str, Target] = MappingProxyType({"tflite": TfliteTarget(), "onnx": OnnxTarget()})


def targets() -> Mapping[str, Target]:
    """Format -> target, for everything that can be built."""
    return _TARGETS


def target(name: str) -> Target:
    """The target of a format. Raises UsageError that lists them."""
    if name not in _TARGETS:
        raise UsageError(f"no target builds the format {name!r}", hint=f"known are {', '.join(_TARGETS)}")
    return _TARGETS[name]


def inspect(path: Path) -> ModelFacts:
    """Read any model file, by what its bytes say.

    Raises:
        UsageError: no such file.
        InputError: empty, truncated, damaged, of no format that is known, or not to be served.
    """
    format_name = detect_format(path)
    if format_name == "keras":
        return read_facts(path, "edgeship.targets.keras.inspect")
    return target(format_name).inspect(path)


def prepare(source: ModelFacts, data: Sequence[Dataset], folder: Path) -> None:
    """Make in one go what a framework that is slow to start will be asked for: call it before `build` and the check.

    For a Keras source, one TensorFlow child makes both float models and the answers to each of `data`; for others there
    is nothing to do. Raises ConversionError, InputError, MissingExtra.
    """
    if source.format == "keras":
        export.prepare(source, data, folder)


def source_answers(
    source: ModelFacts, variant: Variant, data: Dataset, reporter: Reporter
) -> tuple[FloatArray, ...]:  # fmt: skip
    """The source model's own answers, real values.

    A Keras source answers in TensorFlow, once; a TFLite or ONNX source in the engine, as it is, with a batch of 1.

    Returns:
        One float32 array [n, *output.shape] an output, in the order and shapes of `variant.outputs`.

    Raises:
        ConversionError: the outputs of source and variant do not correspond, or the engine failed.
    """
    folder = variant.cache
    if source.format == "keras":
        named: Mapping[str, FloatArray] = export.answers(source, data, folder)
    else:
        plain = target(source.format).as_is(source, folder, reporter)
        arrays = answers.of_variant(plain, data, reporter=reporter)
        named = {spec.name: array for spec, array in zip(plain.outputs, arrays, strict=True)}
    return answers.align(named, variant.outputs, str(source.path))
