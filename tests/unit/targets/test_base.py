"""Recipes are data; values become bytes and come back; what cannot be built is refused with the way out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeship.dataset import Dataset
from edgeship.errors import ConversionError, MissingExtra, ReleaseError, UsageError
from edgeship.model import ModelFacts
from edgeship.runtime.manifest import TensorSpec
from edgeship.targets import base, registry
from edgeship.targets.base import Recipe, Variant, dequantize_output, quantize_input
from edgeship.targets.scheme import Scheme

RECIPE = Recipe(
    "a" * 64, "keras", "tflite", "int8", ({"do": "keras-export", "batch": 1}, {"do": "quantize"}),
    {"sha256": "b" * 64, "samples": 200, "of": 200, "seed": 0}, {"keras": "3.15"},
)  # fmt: skip
FLOAT = TensorSpec("x", "float32", (1, 4))
INT8 = TensorSpec("x", "int8", (1, 4), 0.5, -3)
SOURCE = ModelFacts(Path("m.keras"), "keras", "a" * 64, 1, "float32", (FLOAT,), (FLOAT,), {}, 1)
DATA = Dataset({"x": np.zeros((3, 1, 4), np.float32)})


def test_a_recipe_survives_its_file() -> None:
    assert Recipe.parse(RECIPE.canonical()) == RECIPE
    plain = replace(RECIPE, calibration=None)
    assert Recipe.parse(plain.canonical()) == plain


def test_the_key_follows_everything_that_decides() -> None:
    others = [
        replace(RECIPE, source_sha256="c" * 64), replace(RECIPE, precision="float16"), replace(RECIPE, steps=()),
        replace(RECIPE, calibration=None), replace(RECIPE, versions={"keras": "3.16"}), replace(RECIPE, format="onnx"),
    ]  # fmt: skip
    assert len({RECIPE.key, *(other.key for other in others)}) == 7
    assert replace(RECIPE, versions=dict(RECIPE.versions)).key == RECIPE.key


@pytest.mark.parametrize("raw", [b"", b"{}", b'{"schema": "edgeship.recipe/v1"}', b'{"schema": "edgeship.recipe/v9"}'])
def test_what_is_no_recipe_is_refused(raw: bytes) -> None:
    with pytest.raises(ReleaseError, match="not a recipe"):
        Recipe.parse(raw)


def test_a_variant_has_its_recipes_format_and_precision() -> None:
    variant = Variant(Path("/c/k/model.tflite"), RECIPE, Path("/c/k/recipe.json"), (INT8,), (INT8,), 1, "d" * 64)
    assert (variant.format, variant.precision, variant.cache) == ("tflite", "int8", Path("/c"))


def test_real_values_are_rounded_and_clipped_to_the_dtype() -> None:
    raw = quantize_input(np.array([0.0, 0.26, -1000.0, 1000.0], np.float32), INT8)
    assert np.frombuffer(raw, np.int8).tolist() == [-3, -2, -128, 127]
    assert dequantize_output(raw, INT8).tolist() == [[0.0, 0.5, -62.5, 65.0]]


def test_float_tensors_are_little_endian_bytes() -> None:
    values = np.array([1.5, -2.0, 0.0, 3.0], np.float64)
    raw = quantize_input(values, FLOAT)
    assert raw == values.astype("<f4").tobytes()
    assert dequantize_output(raw, FLOAT).tolist() == [values.tolist()]


def test_a_round_trip_is_within_half_a_step() -> None:
    spec = TensorSpec("x", "uint8", (64,), 1 / 255, 0)
    values = np.random.default_rng(0).random(64).astype(np.float32)
    assert np.abs(dequantize_output(quantize_input(values, spec), spec) - values).max() <= 0.5 / 255 + 1e-6


def test_integers_without_a_scale_pass_as_they_are() -> None:
    spec = TensorSpec("tokens", "int32", (3,))
    raw = quantize_input(np.array([1, 2, 3], np.int32), spec)
    assert dequantize_output(raw, spec).tolist() == [1.0, 2.0, 3.0]


def test_another_number_of_elements_is_refused() -> None:
    with pytest.raises(ValueError, match="takes 4 elements, got 3"):
        quantize_input(np.zeros(3, np.float32), INT8)
    with pytest.raises(ValueError, match="has 4 elements, got 3"):
        dequantize_output(b"abc", INT8)


def test_no_calibration_data_no_int8() -> None:
    with pytest.raises(UsageError, match="needs calibration data") as caught:
        base.check_request(registry.target("tflite"), SOURCE, Scheme("int8"), None)
    assert caught.value.exit_code == 2
    assert "--calibration" in str(caught.value.hint)
    base.check_request(registry.target("tflite"), SOURCE, Scheme("int8"), DATA)
    base.check_request(registry.target("tflite"), SOURCE, Scheme("float16"), None)


def test_what_is_int8_already_needs_none_and_becomes_nothing_else() -> None:
    source = replace(SOURCE, format="tflite", precision="int8")
    base.check_request(registry.target("tflite"), source, Scheme("int8"), None)
    with pytest.raises(UsageError, match="int8 already"):
        base.check_request(registry.target("tflite"), source, Scheme("float32"), None)


def test_unknown_and_unreachable_precisions_are_refused() -> None:
    with pytest.raises(UsageError, match="unknown precision 'int3'"):
        base.check_request(registry.target("tflite"), SOURCE, Scheme("int3"), None)
    with pytest.raises(UsageError, match="cannot be built: ONNX Runtime runs float16"):
        base.check_request(registry.target("onnx"), SOURCE, Scheme("float16"), None)


def test_calibration_is_a_seeded_draw_of_at_most_a_thousand_without_labels() -> None:
    data = Dataset({"x": np.arange(3000, dtype=np.float32).reshape(3000, 1, 1)}, np.zeros(3000, np.int32))
    chosen, said = base.calibration_of(data)
    assert (len(chosen), said["samples"], said["of"]) == (1000, 1000, 3000)
    assert chosen.labels is None
    assert base.calibration_of(data)[1]["sha256"] == said["sha256"]
    assert (np.diff(chosen.inputs["x"].ravel()) > 0).all()


def test_the_recipe_says_how_samples_were_prepared() -> None:
    prepared = Dataset({"x": np.zeros((3, 1, 4), np.float32)}, preparation={"kind": "images", "resize": "crop"})
    chosen, says = base.calibration_of(prepared)
    assert says["preparation"] == {"kind": "images", "resize": "crop"}
    assert says["sha256"] == base.calibration_of(DATA)[1]["sha256"]
    assert "preparation" not in base.calibration_of(DATA)[1]
    assert len(chosen) == 3


def test_weights_left_in_float_are_a_failure_that_names_them() -> None:
    base.check_share(0.95, "int8", "m", [])
    base.check_share(0.0, "float32", "m", [])
    with pytest.raises(ConversionError, match="only 10% of the weights became float16"):
        base.check_share(0.1, "float16", "m", [])
    with pytest.raises(ConversionError, match=r"only 34% of the weights.*If_then/kernel"):
        base.check_share(0.34, "dynamic", "m", ["If_then/kernel (900 elements)"])


def test_versions_are_those_installed_and_a_missing_package_names_its_extra() -> None:
    assert base.versions_of({"numpy": "tflite"}) == {"numpy": np.__version__}
    assert list(base.versions_of({"no-such-package|numpy": "tflite"})) == ["numpy"]
    with pytest.raises(MissingExtra) as caught:
        base.versions_of({"no-such-package": "onnx"})
    assert caught.value.hint == "pip install 'edgeship[onnx]'"
