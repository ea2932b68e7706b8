"""The lines of a push."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgeship.push.perform import converted
from edgeship.targets import registry
from edgeship.targets.base import Variant
from tests.simulators.models import tiny_tflite
from tests.simulators.searched import candidate, variant


def made(size: int, *, samples: int | None = None) -> Variant:
    one = variant(candidate("tflite int8"), size)
    calibration = None if samples is None else {"samples": samples, "of": 5000, "seed": 0}
    return replace(one, recipe=replace(one.recipe, calibration=calibration))


def test_a_conversion_tells_the_samples_that_were_looked_at_and_the_sizes(tmp_path: Path) -> None:
    source = replace(registry.inspect(_model(tmp_path)), bytes=1_310_000)
    assert converted(source, made(113_000, samples=1000)) == (
        "tflite → tflite int8 (1,000 calibration samples)   1.3 → 0.11 MB"
    )
    assert converted(source, made(113_000)) == "tflite → tflite int8   1.3 → 0.11 MB"


def test_what_goes_as_it_is_was_neither_converted_nor_calibrated(tmp_path: Path) -> None:
    source = registry.inspect(_model(tmp_path))
    same = replace(made(113_000), sha256=source.sha256)
    assert converted(source, same) == "tflite int8, as it is   0.11 MB"


def _model(folder: Path) -> Path:
    path = folder / "m.tflite"
    tiny_tflite(path, "float32")
    return path
