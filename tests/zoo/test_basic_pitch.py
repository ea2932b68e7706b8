"""basic-pitch as TFLite int8: lost as a whole, right with its spectral front end in float, as `optimize` finds it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from edgeship.dataset import Dataset
from edgeship.optimize import quality
from edgeship.optimize.search.evaluate import Limits
from edgeship.reporter import Reporter
from edgeship.targets import registry
from edgeship.targets.scheme import Scheme
from edgeship.targets.tflite.layers import layers
from tests.zoo import inputs
from tests.zoo.test_onnx_real import wheels  # noqa: F401 - a fixture

FRONT = ("cq_t2010v2", "normalized_log")  # the constant-Q transform, its decibels


@pytest.mark.timeout(600)
def test_with_its_front_end_in_float_it_plays_the_same_notes(
    wheels: Path, tmp_path: Path  # noqa: F811 - the fixture
) -> None:  # fmt: skip
    (wheel,) = wheels.glob("basic_pitch-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        path = tmp_path / "nmp.tflite"
        path.write_bytes(archive.read("basic_pitch/saved_models/icassp_2022/nmp.tflite"))
    facts, tflite = registry.inspect(path), registry.target("tflite")
    name, length = facts.inputs[0].name, facts.inputs[0].count
    seen, fresh = (Dataset({name: inputs.notes(n, length, seed)[:, None, :, None]}) for n, seed in ((24, 3), (16, 103)))
    front = tuple(layer.name for layer in layers(path) if layer.source_name.startswith(FRONT))
    found = []
    for keep in ((), front):
        variant = tflite.build(facts, Scheme("int8", keep=keep), seen, tmp_path / "c", Reporter())
        found.append((variant, quality.check(facts, variant, fresh, Limits())))
    (_, plain), (mixed, mended) = found
    assert plain.agreement == 0
    assert plain.gate is not None
    assert not plain.gate.passed
    assert mended.passed
    assert mended.agreement == 1
    assert 0.45 < mixed.int8_share < 0.6  # the net itself, which does nine tenths of the work
    assert mixed.bytes < 0.8 * path.stat().st_size
