"""The ONNX target: decides the recipe, has it performed in a child, keeps the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeship.dataset import Dataset
from edgeship.model import ModelFacts
from edgeship.reporter import Reporter
from edgeship.targets import child, routes
from edgeship.targets.base import Recipe, Variant, calibration_of, check_request, needs_calibration, versions_of
from edgeship.targets.build import Made, make, read_facts
from edgeship.targets.onnx import plain
from edgeship.targets.scheme import Scheme

OPSET = 17
_INSPECT = "edgeship.targets.onnx.inspect"
_BY = "onnxruntime.quantization/2"  # raised when what the step makes changes
_UNSUPPORTED = {
    "float16": "ONNX Runtime runs float16 on a processor by casting every operator to float32 and back",
    "int8-weights": "edgeship does not make it for ONNX yet",
    "int16x8": "edgeship does not make it for ONNX yet",
    "dynamic": "dynamic int8 makes convolutions slower than float; int8 with calibration data is there",
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

        def perform(work: Path) -> Made:
            float_model = routes.float_model(source, "onnx", folder, reporter)
            return Made(
                plain.PERFORM,
                {"path": str(float_model.resolve()), "scheme": scheme.encode(), "from": source.precision,
                 "prepare": True},
                data, work, child.CONVERT,
            )  # fmt: skip

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
        steps.append({"do": "prepare", "batch": 1, "opset": OPSET, "simplify": "onnxsim"})
        versions = {**route.versions(), **versions_of({"onnx": "onnx", "onnxsim": "onnx"})}
        data, used = None, None
        if scheme.precision != source.precision:
            step: dict[str, Any] = {"do": "quantize", "to": scheme.encode(), "by": _BY}
            if needs_calibration(source, scheme):
                assert calibration is not None
                data, used = calibration_of(calibration)
                step |= {
                    "ranges": "min-max", "weights": "int8 per channel", "activations": "int8", "format": "QDQ",
                }  # fmt: skip
            steps.append(step)
            versions |= versions_of({"onnxruntime": "onnx", "sympy": "onnx"})
        return data, Recipe(source.sha256, source.format, "onnx", scheme.precision, tuple(steps), used, versions)
