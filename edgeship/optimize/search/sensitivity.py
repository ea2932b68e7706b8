"""What quantizing each layer alone costs: the ranking that mixed precision starts from.

For each layer in turn the float model is quantized in that layer only and run over a few samples. Its cost is the
relative squared error of the outputs, ‖y − ŷ‖² / ‖y − mean y‖², the largest over the outputs: errors of different
layers add up in it as long as they are small and independent, which is what HAWQ-V2 ranks by too (Z. Dong et al., 2020,
arXiv:1911.03852, with curvature in place of a measurement). One child calibrates once
and does all layers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeship.dataset import Dataset
from edgeship.errors import ConversionError
from edgeship.model import ModelFacts
from edgeship.optimize.search.candidate import Candidate
from edgeship.reporter import Reporter
from edgeship.targets import cache, child, feed, fitting, registry
from edgeship.targets.base import QUANTIZERS, Layer, calibration_of, versions_of
from edgeship.targets.scheme import Scheme

CALIBRATION = 64  # samples that ranges are taken from
SAMPLES = 16  # samples that errors are measured on
SEED = 0
_VERSION = "sensitivity/9"  # raised when what the steps measure changes
_FILE = "layers.json"


@dataclass(frozen=True)
class Cost:
    """One layer, and the relative squared error of the outputs when it alone is quantized; no numbers count as 1e30."""

    layer: Layer
    error: float
    place: int = 0  # among the layers, in the order in which they run
    weights_error: float = 0.0  # when its weights alone are int8, and computed with in float

    @property
    def work(self) -> int:
        """About how many multiplications: each weight once for each place of the output; without weights its size."""
        size = math.prod(self.layer.shape)
        if not self.layer.weights:
            return size
        axis = 1 if self.layer.operator.startswith("Conv") else -1  # ONNX has the channels before the places
        channels = self.layer.shape[axis] if len(self.layer.shape) > 1 else size
        return max(self.layer.weights, self.layer.weights * size // max(channels, 1))


def rank(
    source: ModelFacts, candidate: Candidate, calibration: Dataset, folder: Path, reporter: Reporter
) -> tuple[Cost, ...]:  # fmt: skip
    """Layers of the candidate's float model, the costliest first.

    Args:
        source: the model.
        candidate: its scheme says how a layer is quantized, int8 or int8-weights.
        calibration: representative data.
        folder: the cache.
        reporter: is told of what takes long.

    Returns:
        one entry a layer that the quantizer can keep in float; () where the format has no such step.

    Raises:
        ConversionError: the float model cannot be made or quantized.
    """
    data = Dataset(calibration.take(CALIBRATION, SEED).inputs)
    plain = registry.target(candidate.format).build(source, Scheme("float32"), None, folder, reporter)
    scheme = candidate.scheme.encode()
    key = cache.key_of(
        _VERSION, plain.sha256, versions_of(QUANTIZERS[candidate.format]), scheme, data.inputs_sha256, SAMPLES,
        calibration_of(calibration)[0].inputs_sha256 if candidate.scheme.rounding == "fitted" else None,
    )  # fmt: skip

    def make(place: Path) -> Mapping[str, Any]:
        fitted = None
        if candidate.scheme.rounding == "fitted":  # to the samples that a variant is
            samples = calibration_of(calibration)[0]
            fitted = str(fitting.fitted(plain, candidate.scheme, samples, str(source.path)).resolve())
        with child.workspace() as work:
            request = {
                "path": str(plain.path.resolve()), "scheme": scheme, "measured": SAMPLES, "fitted": fitted,
                "samples": feed.write(data, work),
            }  # fmt: skip
            step = f"edgeship.targets.{candidate.format}.sensitivity"
            result = child.run(step, request, work, limits=child.CONVERT, subject=f"{source.path}: {candidate.name}")
        (place / _FILE).write_text(json.dumps(result["layers"]), encoding="utf-8")
        return {"layers": len(result["layers"])}

    entry = cache.keep(folder, key, make)
    layers = json.loads(entry.path(_FILE).read_text(encoding="utf-8"))
    try:
        costs = [
            Cost(Layer.parse(item), float(item["error"]), place, float(item["weights_error"]))
            for place, item in enumerate(layers)
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ConversionError(f"{source.path}: the ranking of layers cannot be read: {error}") from error
    return tuple(sorted(costs, key=lambda cost: (-cost.error, -cost.layer.weights, cost.layer.name)))
