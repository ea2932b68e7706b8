"""Ranges of activations: what they are, that they are what the quantizer's own would be, and that memory stays flat."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeship.errors import ConversionError
from edgeship.targets import ranges as choose
from edgeship.targets.histogram import Histogram
from edgeship.targets.scheme import RANGES, Scheme
from edgeship.targets.tflite import calibrate
from edgeship.targets.tflite.inspect import default_signature
from edgeship.targets.tflite.reader import read
from tests.simulators.tflite_file import Float
from tests.simulators.tflite_graphs import branches, mlp, number, recurrent, samples

pytestmark = pytest.mark.filterwarnings("ignore:Warning. Enabling:UserWarning")


def each(name: str, x: Float) -> Iterator[dict[str, Float]]:
    return ({name: np.asarray(sample)} for sample in x)


def ranges(path: Path, x: Float, choice: str = "min-max") -> dict[str, tuple[float, float]]:
    data = path.read_bytes()
    structure = read(data)
    return calibrate.ranges(data, structure, default_signature(structure), each("x", x), Scheme("int8", ranges=choice))


def test_every_activation_has_the_extremes_of_all_samples(tmp_path: Path) -> None:
    x = samples(30).inputs["x"]
    found = ranges(mlp(tmp_path / "m.tflite"), x)
    assert set(found) == {"x", "dense_a", "dense_b", "dense_c"}
    assert found["x"] == (float(x.min()), float(x.max()))
    assert found["dense_a"][0] == 0.0


def test_a_number_without_dimensions_goes_in(tmp_path: Path) -> None:
    x = np.linspace(-2, 3, 20, dtype=np.float32)  # each sample is one number
    assert ranges(number(tmp_path / "m.tflite"), x)["x"] == (-2.0, 3.0)


def test_every_sample_begins_at_a_state_of_zero(tmp_path: Path) -> None:
    """A variable tensor outlives a run: without a reset, what is seen would depend on the order of the samples."""
    x = np.random.default_rng(0).normal(size=(20, 1, 5, 4)).astype(np.float32)
    path = recurrent(tmp_path / "m.tflite", "LSTM")
    assert ranges(path, x) == ranges(path, x[::-1]) == ranges(path, np.concatenate([x, x]))


def test_they_are_those_of_the_quantizers_own_calibrator(tmp_path: Path) -> None:
    from ai_edge_quantizer import calibrator, recipe, recipe_manager
    from ai_edge_quantizer.utils import qsv_utils

    path, x = mlp(tmp_path / "m.tflite"), samples(20).inputs["x"]
    manager = recipe_manager.RecipeManager()
    manager.load_quantization_recipe(recipe.static_wi8_ai8())
    own = calibrator.Calibrator(bytearray(path.read_bytes()), qsv_update_func=qsv_utils.min_max_update)
    own.calibrate({"serving_default": [{"x": sample} for sample in x]}, manager)
    expected = {
        name: (float(seen["min"].item()), float(seen["max"].item())) for name, seen in own.get_model_qsvs().items()
    }
    found = ranges(path, x)
    assert set(found) == set(expected)
    for name, (low, high) in expected.items():
        assert found[name] == pytest.approx((low, high), rel=1e-5, abs=1e-6)


def test_a_moving_average_forgets(tmp_path: Path) -> None:
    x = np.ones((3, 1, 12), np.float32) * np.array([1, 1, 21], np.float32)[:, None, None]
    assert ranges(mlp(tmp_path / "m.tflite"), x, "moving-average")["x"] == pytest.approx((1.2, 1.2))
    assert ranges(mlp(tmp_path / "m.tflite"), x)["x"] == (1.0, 21.0)


def test_thresholds_are_those_of_one_histogram_of_all_values(tmp_path: Path) -> None:
    """As many bins as there are make the 99.999th percentile of 24,000 values the largest but one bin."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2000, 1, 12)).astype(np.float32)
    x[7, 0, 3] = 400.0  # one outlier
    path = mlp(tmp_path / "m.tflite")
    found = {choice: ranges(path, x, choice)["x"] for choice in RANGES}
    assert found["min-max"][1] == 400.0
    for choice in ("percentile", "mse"):
        histogram = Histogram()
        histogram.add(x)
        assert found[choice] == choose.of_histogram(choice, histogram, False, 256)
    assert found["percentile"][1] == 400.0  # 24,000 values: a hundred-thousandth is none of them
    assert found["entropy"][1] < 100.0
    assert found["mse"][1] > 100.0  # cutting it off costs more than coarser steps
    assert found["moving-average"][1] < 20.0


def test_symmetric_ranges_are_centred(tmp_path: Path) -> None:
    path, x = mlp(tmp_path / "m.tflite"), np.abs(samples(64).inputs["x"])
    data = path.read_bytes()
    structure = read(data)
    for choice in ("min-max", "moving-average"):  # the others lie within what was seen
        for scheme in (Scheme("int8", ranges=choice, symmetric=True), Scheme("int16x8", ranges=choice)):
            found = calibrate.ranges(data, structure, default_signature(structure), each("x", x), scheme)
            assert found["x"][0] == -found["x"][1] < 0


def test_branches_have_no_ranges_and_do_no_harm(tmp_path: Path) -> None:
    found = ranges(branches(tmp_path / "m.tflite"), samples(5).inputs["x"])
    assert set(found) == {"x", "first", "mean", "chosen", "last"}


def test_padding_is_no_signal() -> None:
    assert calibrate.span(np.array([-np.inf, -1.0, 2.0, 3.3e38])) == (-1.0, 2.0)
    assert calibrate.span(np.array([-np.inf, np.inf])) is None
    assert calibrate.span(np.zeros((0, 3))) is None


def test_numbers_that_are_none_are_an_error_that_names_the_tensor(tmp_path: Path) -> None:
    x = samples(5).inputs["x"].copy()
    x[3, 0, 0] = np.nan
    with pytest.raises(ConversionError, match="computes NaN in 'x' on the calibration samples"):
        ranges(mlp(tmp_path / "m.tflite"), x)


def test_samples_that_lack_an_input_are_refused(tmp_path: Path) -> None:
    data = mlp(tmp_path / "m.tflite").read_bytes()
    structure = read(data)
    with pytest.raises(ConversionError, match="the calibration samples lack x"):
        calibrate.ranges(
            data, structure, default_signature(structure), each("y", samples(2).inputs["x"]), Scheme("int8")
        )


@pytest.mark.parametrize("choice", RANGES)
def test_memory_does_not_grow_with_the_samples(tmp_path: Path, choice: str) -> None:
    path, peaks = mlp(tmp_path / "m.tflite"), []
    for count in (50, 5000):
        x = samples(count).inputs["x"]
        tracemalloc.start()
        ranges(path, x, choice)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + 65536
