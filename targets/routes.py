"""How a source of any format reaches a float model of TFLite or ONNX, and how it answers by itself.

One table says which source reaches which format by which tool; targets, the registry and whoever builds ask here and
know nothing of the frameworks behind it. To add a route, add a line to `ROUTES`; to add a source that answers in a
framework of its own, add a line to `FRAMEWORKS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.dataset import Dataset
from edgeship.errors import UsageError
from edgeship.model import ModelFacts
from edgeship.reporter import Reporter
from edgeship.runtime.wire import TEXT
from edgeship.targets import answers as engine
from edgeship.targets import shapes
from edgeship.targets.base import Variant
from edgeship.targets.export import Exporter
from edgeship.targets.keras import export as keras
from edgeship.targets.onnx import plain as onnx_plain
from edgeship.targets.onnx2tf import route as onnx2tf
from edgeship.targets.savedmodel import export as savedmodel
from edgeship.targets.tflite import plain as tflite_plain
from edgeship.targets.torch import export as torch

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Route:
    """One way from a source format to a format.

    Attributes:
        steps: what a recipe says of it; () where the file is taken as it is.
        versions: package -> version of the tools that it uses. Raises MissingExtra.
        make: (source, folder, reporter) -> the model file, kept in `folder`. Raises ConversionError, InputError,
            MissingExtra.
        via: the format that the source becomes on the way; "" where it becomes the format at once.
        missing: why the route cannot be taken on this host, and what to type; None where it can.
        remedy: what helps then: what to type, or where.
    """

    steps: Callable[[ModelFacts], Sequence[Mapping[str, Any]]]
    versions: Callable[[], Mapping[str, str]]
    make: Callable[[ModelFacts, Path, Reporter], Path]
    via: str = ""
    missing: Callable[[], str | None] = lambda: None
    remedy: Callable[[], str] = lambda: ""


def _exported(exporter: Exporter, format: str) -> Route:  # noqa: A002 - the domain's word
    return Route(
        lambda source: (exporter.step(source, format),),
        exporter.versions,
        lambda source, folder, reporter: exporter.exported(source, format, folder),  # noqa: ARG005
    )


def _own(steps: Callable[[ModelFacts], Sequence[Mapping[str, Any]]]) -> Route:
    """A source that is of the format already: its own file, but for shapes that were chosen."""
    return Route(steps, dict, lambda source, folder, reporter: shapes.closed(source, folder))  # noqa: ARG005


#: (source format, format) -> route. The order within a format is that of its messages.
ROUTES: Mapping[tuple[str, str], Route] = MappingProxyType(
    {
        ("keras", "tflite"): _exported(keras.EXPORTER, "tflite"),
        ("savedmodel", "tflite"): _exported(savedmodel.EXPORTER, "tflite"),
        ("tflite", "tflite"): _own(tflite_plain.steps),
        ("onnx", "tflite"): Route(
            onnx2tf.steps, onnx2tf.versions, onnx2tf.made, missing=onnx2tf.missing, remedy=onnx2tf.remedy
        ),
        ("torch", "tflite"): Route(
            onnx2tf.steps_of_torch,
            onnx2tf.versions_of_torch,
            onnx2tf.made_of_torch,
            via="onnx",
            missing=onnx2tf.missing,
            remedy=onnx2tf.remedy,
        ),
        ("keras", "onnx"): _exported(keras.EXPORTER, "onnx"),
        ("savedmodel", "onnx"): _exported(savedmodel.EXPORTER, "onnx"),
        ("torch", "onnx"): _exported(torch.EXPORTER, "onnx"),
        ("onnx", "onnx"): _own(shapes.steps),
    }
)

#: Source format -> what answers for it in its framework; the others answer in the engine.
FRAMEWORKS: Mapping[str, Exporter] = MappingProxyType(
    {exporter.source: exporter for exporter in (keras.EXPORTER, savedmodel.EXPORTER, torch.EXPORTER)}
)

#: Formats that the engine runs -> the source as the engine can run it.
_PLAIN: Mapping[str, Callable[[ModelFacts, Path, Reporter], Variant]] = MappingProxyType(
    {"tflite": tflite_plain.as_is, "onnx": onnx_plain.as_is}
)


def sources(format: str) -> tuple[str, ...]:  # noqa: A002
    """Source formats that reach a format."""
    return tuple(source for source, reached in ROUTES if reached == format)


def unreachable(source_format: str, format: str) -> str | None:  # noqa: A002
    """None where there is a route that can be taken here, else why not."""
    if (found := ROUTES.get((source_format, format))) is not None:
        return found.missing()
    return f"no conversion from {source_format} to {format}: it is built from {', '.join(sources(format))}"


def route(source_format: str, format: str) -> Route:  # noqa: A002
    """The route. Raises UsageError where there is none, or it cannot be taken here."""
    if reason := unreachable(source_format, format):
        found = ROUTES.get((source_format, format))
        raise UsageError(reason, hint=found.remedy() if found is not None else None)
    return ROUTES[source_format, format]


def text_refused(source: ModelFacts, format: str) -> str | None:  # noqa: A002
    """None where inputs of text, if there are any, can be served in a format, else why not."""
    texts = [spec.name for spec in source.inputs if spec.dtype == TEXT]
    return f"input {texts[0]!r} is text, which only ONNX models may take" if texts and format != "onnx" else None


def remedy(source_format: str, formats: Sequence[str]) -> str | None:
    """What to type so that a route to one of the formats can be taken here; None where nothing helps."""
    found = [ROUTES[source_format, name] for name in formats if (source_format, name) in ROUTES]
    return next((words for each in found if each.missing() is not None and (words := each.remedy())), None)


def told(refused: Sequence[tuple[str, str]]) -> str:
    """(what, why not) for people: each reason once, behind all that it is the reason for."""
    by_reason: dict[str, list[str]] = {}
    for what, reason in refused:
        by_reason.setdefault(reason, []).append(what)
    return "; ".join(f"{', '.join(whats)}: {reason}" for reason, whats in by_reason.items())


def float_model(source: ModelFacts, format: str, folder: Path, reporter: Reporter) -> Path:  # noqa: A002
    """The model file of a format that a quantizer starts from.

    Args:
        source: any source; one of `format` already is taken as it is, whatever its precision.
        format: tflite or onnx.
        folder: the cache of conversions.
        reporter: is told of what takes long.

    Returns:
        A file in `folder`, or the source's own. Its batch may be open, its external data beside it.

    Raises:
        ConversionError: the converter refused the model; the message is its own.
        InputError: the framework cannot load the source.
        MissingExtra: a tool is not installed.
        UsageError: there is no route.
    """
    return route(source.format, format).make(source, folder, reporter)


def _first(source_format: str, format: str) -> str:  # noqa: A002
    """What a source is exported to, to reach a format."""
    found = ROUTES.get((source_format, format))
    return found.via or format if found is not None else format


def prepares(source: ModelFacts) -> bool:
    """Whether `prepare` has anything to do: the source needs a framework that is slow to start."""
    return source.format in FRAMEWORKS


def prepare(
    source: ModelFacts, data: Sequence[Dataset], folder: Path, formats: Sequence[str] | None = None
) -> None:  # fmt: skip
    """Make in one go what a framework that is slow to start will be asked for: call it before `build` and the check.

    One child makes the float models of `formats`, by default all, and the answers to each of `data`; where the engine
    runs the source there is nothing to do. Raises ConversionError, InputError, MissingExtra.
    """
    if (framework := FRAMEWORKS.get(source.format)) is not None:
        wanted = None
        if formats is not None:
            on_the_way = {_first(source.format, name) for name in formats}
            wanted = [name for name in framework.formats if name in on_the_way]
        framework.prepare(source, data, folder, formats=wanted)


def answers(source: ModelFacts, data: Dataset, folder: Path, reporter: Reporter) -> dict[str, FloatArray]:
    """The source's own answers, real values: in its framework, once; TFLite and ONNX in the engine with a batch of 1.

    Returns:
        Output name -> float32 [n, 1, …], in the order of the source's outputs; mapped from the disk.

    Raises:
        ConversionError: the engine failed.
        InputError: the framework cannot load the source.
        MissingExtra: the framework is not installed.
    """
    if (framework := FRAMEWORKS.get(source.format)) is not None:
        return dict(framework.answers(source, data, folder))
    plain = _PLAIN[source.format](source, folder, reporter)
    arrays = engine.of_variant(plain, data, reporter=reporter, what=str(source.path))
    return {spec.name: array for spec, array in zip(plain.outputs, arrays, strict=True)}
