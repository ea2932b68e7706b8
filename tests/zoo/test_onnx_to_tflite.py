"""The real ONNX models of `test_onnx_real` as TFLite: by onnx2tf to float, and on to int8 in TFLite's own way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeship.dataset import Dataset
from edgeship.reporter import Reporter
from edgeship.targets import answers, registry
from edgeship.targets.build import read_facts
from edgeship.targets.scheme import Scheme
from tests.simulators import real_environment
from tests.zoo import test_onnx_real as zoo
from tests.zoo.test_onnx_real import wheels  # noqa: F401 - a fixture

pytestmark = zoo.pytestmark

#: Precision -> least cosine of all answers, for each model in the order of `zoo.MODELS` (measured, November 2026).
COSINES: dict[str, tuple[float, ...]] = {
    "float32": (0.9999, 0.9999, 0.9999, 0.9999),
    "int8-weights": (0.99, 0.99, 0.98, 0.97),
    "int8": (0.99, 0.96, 0.95, 0.93),
}


@pytest.mark.parametrize("name", zoo.MODELS)
def test_a_real_model_as_tflite(
    name: str, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch  # noqa: F811 - the fixture
) -> None:  # fmt: skip
    real_environment.use("onnx2tf", monkeypatch)
    shape = zoo.MODELS[name][2]
    given = {} if shape is None else {"shapes": {"x": list(shape)}}
    facts = read_facts(zoo.model(name, wheels, tmp_path), "edgeship.targets.onnx.inspect", given)
    spec = facts.inputs[0]
    array = zoo.sounds(6, spec.count) if shape is None else zoo.pictures(6, shape[2], shape[3])
    data = Dataset({spec.name: array.reshape(6, *spec.shape)})
    for precision, cosines in COSINES.items():
        least = cosines[list(zoo.MODELS).index(name)]
        variant = registry.target("tflite").build(facts, Scheme(precision), data, tmp_path / "c", Reporter())
        assert variant.int8_share == (precision != "float32")
        assert [(t.name, t.shape) for t in variant.inputs] == [(t.name, t.shape) for t in facts.inputs]
        wanted = registry.source_answers(facts, variant, data, Reporter())
        for a, b in zip(wanted, answers.of_variant(variant, data), strict=True):
            x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
            cosine = x @ y / np.sqrt((x @ x) * (y @ y))
            assert cosine >= least, (precision, cosine)
