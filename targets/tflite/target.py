"""The TFLite target: decides the recipe, has it performed in a child, keeps the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeship.dataset import Dataset
from edgeship.errors import UsageError
from edgeship.model import ModelFacts
from edgeship.reporter import Reporter
from edgeship.targets import child, fitting, routes
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
from edgeship.targets.scheme import PRECISIONS, Scheme
from edgeship.targets.tflite import plain

_INSPECT = "edgeship.targets.tflite.inspect"
_BY = "ai-edge-quantizer/13"  # raised when what the step makes changes


class TfliteTarget:
    """Builds `.tflite` files from every source that has a route to TFLite."""

    name = "tflite"

    def inspect(self, path: Path) -> ModelFacts:
        """Facts of a `.tflite` file. Raises InputError, UsageError."""
        return read_facts(path, _INSPECT)

    def reachable(self, source_format: str, precision: str) -> str | None:
        """None where it can be built, else why not."""
        if reason := routes.unreachable(source_format, "tflite"):
            return reason
        return None if precision in PRECISIONS else f"there is no precision {precision!r}"

    def build(
        self, source: ModelFacts, scheme: Scheme, calibration: Dataset | None, folder: Path, reporter: Reporter
    ) -> Variant:
        """Make a variant or take it from `folder`. Raises UsageError, ConversionError, InputError, MissingExtra."""
        if reason := routes.text_refused(source, "tflite"):
            raise UsageError(f"{source.path}: {reason}", hint="stay with ONNX")
        routes.route(source.format, "tflite")  # says what to type where only a tool is missing
        check_request(self, source, scheme, calibration)
        data, recipe = self.plan(source, scheme, calibration)

        def perform(work: Path) -> Made:
            float_model = routes.float_model(source, "tflite", folder, reporter)
            request: dict[str, Any] = {
                "path": str(float_model.resolve()), "scheme": scheme.encode(), "from": source.precision
            }  # fmt: skip
            if data is not None and scheme.rounding == "fitted":
                start = self.build(source, Scheme("float32"), None, folder, reporter)
                request["fitted"] = str(fitting.fitted(start, scheme, data, str(source.path)).resolve())
            return Made(plain.PERFORM, request, data, work, child.CONVERT)

        return make(recipe, source, "model.tflite", perform, folder, reporter)

    def as_is(self, source: ModelFacts, folder: Path, reporter: Reporter) -> Variant:
        """The source itself, with nothing changed but an open batch. Raises ConversionError, InputError."""
        return plain.as_is(source, folder, reporter)

    def plan(
        self, source: ModelFacts, scheme: Scheme, calibration: Dataset | None
    ) -> tuple[Dataset | None, Recipe]:  # fmt: skip
        """The samples to calibrate with and the recipe; nothing is touched."""
        route = routes.route(source.format, "tflite")
        steps = [dict(step) for step in route.steps(source)]
        if source.format != self.name:
            steps.append({"do": "make-runnable", "by": plain.BY})
        versions = {**route.versions(), **(versions_of(plain.TOOLS) if steps else {})}
        data, used = None, None
        if scheme.precision != source.precision:
            step: dict[str, Any] = {"do": "quantize", "to": scheme.encode(), "by": _BY}
            if needs_calibration(source, scheme):
                assert calibration is not None
                data, used = calibration_of(calibration)
                if scheme.calibrated:
                    step |= {"ranges": scheme.ranges}
                if scheme.rounding == "fitted":
                    steps.append(fitting.step())
            steps.append(step)
            versions |= versions_of(QUANTIZERS["tflite"])
        return data, Recipe(source.sha256, source.format, "tflite", scheme.precision, tuple(steps), used, versions)
