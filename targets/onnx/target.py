"""The ONNX target: decides the recipe, has it performed in children, keeps the result and what led to it.

Three steps, each kept by content: the prepared float model (which is the float32 variant), the ranges of its
activations over the data, the quantized model. Variants of one model share the first two.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeship.dataset import Dataset
from edgeship.model import ModelFacts
from edgeship.reporter import Reporter
from edgeship.targets import cache, child, fitting, routes
from edgeship.targets.base import (
    QUANTIZERS,
    Recipe,
    Variant,
    calibration_of,
    check_request,
    needs_calibration,
    versions_of,
)
from edgeship.targets.build import Made, make, read_facts
from edgeship.targets.onnx import plain
from edgeship.targets.scheme import Scheme

OPSET = 17
PASSES = 1  # of calibration over the data, where a histogram is needed
_INSPECT, _COLLECT = "edgeship.targets.onnx.inspect", "edgeship.targets.onnx.collect"
_QUANTIZE = "edgeship.targets.onnx.quantize"
# raised when what they make changes
_PREPARED, _COLLECTED, _BY = "onnx-prepare/6", "onnx-collect/3", "onnxruntime.quantization/10"
_RANGES = "ranges.json"
_UNSUPPORTED = {
    "float16": "ONNX Runtime runs float16 on a processor by casting every operator to float32 and back: half the file, "
    "and slower; int8-weights makes a quarter of the file",
}


class OnnxTarget:
    """Builds `.onnx` files from every source that has a route to ONNX."""

    name = "onnx"

    def inspect(self, path: Path) -> ModelFacts:
        """Facts of an `.onnx` file. Raises InputError, UsageError, MissingExtra."""
        versions_of({"onnx": "onnx"})
        return read_facts(path, _INSPECT)

    def reachable(self, source_format: str, precision: str) -> str | None:
        """None where it can be built, else why not."""
        return routes.unreachable(source_format, "onnx") or _UNSUPPORTED.get(precision)

    def build(
        self, source: ModelFacts, scheme: Scheme, calibration: Dataset | None, folder: Path, reporter: Reporter
    ) -> Variant:
        """Make a variant or take it from `folder`. Raises UsageError, ConversionError, InputError, MissingExtra."""
        check_request(self, source, scheme, calibration)
        data, recipe = self.plan(source, scheme, calibration)

        def prepare(work: Path) -> Made:
            path = routes.float_model(source, "onnx", folder, reporter)
            request = {"path": str(path.resolve()), "from": source.precision, "prepare": True}
            return Made(plain.PREPARE, request, None, work, child.CONVERT)

        def quantize(work: Path) -> Made:
            start = self.build(source, Scheme("float32"), None, folder, reporter)
            request: dict[str, Any] = {"path": str(start.path.resolve()), "scheme": scheme.encode(), "ranges": None}
            if data is not None and scheme.calibrated:
                request["ranges"] = str(_collected(start, scheme, data, str(source.path)).resolve())
            if data is not None and scheme.rounding == "fitted":
                request["fitted"] = str(fitting.fitted(start, scheme, data, str(source.path)).resolve())
            return Made(_QUANTIZE, request, None, work, child.CONVERT)

        perform = prepare if scheme.precision == source.precision else quantize
        return make(recipe, source, "model.onnx", perform, folder, reporter)

    def as_is(self, source: ModelFacts, folder: Path, reporter: Reporter) -> Variant:
        """The source itself, with nothing changed but an open batch. Raises ConversionError, InputError."""
        return plain.as_is(source, folder, reporter)

    def plan(
        self, source: ModelFacts, scheme: Scheme, calibration: Dataset | None
    ) -> tuple[Dataset | None, Recipe]:  # fmt: skip
        """The samples to calibrate with and the recipe; nothing is touched."""
        route = routes.route(source.format, "onnx")
        steps = [dict(step) for step in route.steps(source)]
        steps.append(
            {"do": "prepare", "batch": 1, "opset": OPSET, "simplify": "onnxsim", "optimize": "onnxruntime basic",
             "shapes": "as they run", "by": _PREPARED}
        )  # fmt: skip
        versions = {**route.versions(), **versions_of(QUANTIZERS["onnx"])}
        data, used = None, None
        if scheme.precision != source.precision:
            if needs_calibration(source, scheme):
                assert calibration is not None
                data, used = calibration_of(calibration)
                if scheme.calibrated:
                    steps.append({"do": "calibrate", **_calibration(scheme), "by": _COLLECTED})
                if scheme.rounding == "fitted":
                    steps.append(fitting.step())
            steps.append({"do": "quantize", "to": scheme.encode(), **_made(scheme), "by": _BY})
            versions |= versions_of({"sympy": "onnx"})
        return data, Recipe(source.sha256, source.format, "onnx", scheme.precision, tuple(steps), used, versions)


def _calibration(scheme: Scheme) -> dict[str, Any]:
    """What decides the ranges beside the model and the data."""
    wide = scheme.precision == "int16x8"
    return {
        "ranges": scheme.ranges, "symmetric": scheme.symmetric or wide, "levels": 1 << 16 if wide else 1 << 8,
        "passes": PASSES,
    }  # fmt: skip


def _made(scheme: Scheme) -> dict[str, Any]:
    """What a recipe says of the form of the result."""
    weights = "int8 per channel" if scheme.per_channel else "int8 per tensor"
    if scheme.calibrated:
        return {"format": "QDQ", "weights": weights, "activations": scheme.precision.split("x")[0], "tails": "by range"}
    return {"weights": weights, "activations": "uint8 dynamic" if scheme.precision == "dynamic" else "float32"}


def _collected(start: Variant, scheme: Scheme, data: Dataset, subject: str) -> Path:
    """The file of ranges of a prepared model over data, collected where it is not there yet. Raises ConversionError."""
    settings = _calibration(scheme)

    def collect(place: Path) -> Mapping[str, Any]:
        with child.workspace() as work:
            request = {"path": str(start.path.resolve()), **settings}
            facts = Made(_COLLECT, request, data, work, child.CONVERT).run(subject)
            shutil.copyfile(work / _RANGES, place / _RANGES)
        return facts

    key = cache.key_of(_COLLECTED, start.sha256, data.inputs_sha256, settings, start.recipe.versions)
    return cache.keep(start.cache, key, collect).path(_RANGES)
