"""Calibration in bounded memory: what it collects, and that ONNX Runtime's own collectors say the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.dataset import Dataset
from edgeship.errors import ConversionError
from edgeship.targets import feed
from edgeship.targets.onnx import collect, prepare
from edgeship.targets.onnx.graph import shapes
from edgeship.targets.onnx.inspect import read
from edgeship.targets.ranges import AVERAGING, BINS
from edgeship.targets.scheme import RANGES
from tests.simulators import onnx_graphs as graphs

SETTINGS = {"symmetric": False, "levels": 256, "passes": 1}


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolutional net, prepared."""
    folder = tmp_path_factory.mktemp("net")
    path = graphs.convolutional(folder / "m.onnx")
    prepare.perform({"path": str(path), "from": "float32", "prepare": True}, folder)
    return folder / "model.onnx"


@pytest.fixture(scope="module")
def data() -> Dataset:
    return graphs.data("x", (3, 8, 8), 40)


def ours(path: Path, data: Dataset, folder: Path, ranges: str, **settings: Any) -> dict[str, Any]:
    model = read(path)
    samples = feed.Samples(feed.write(data, folder))
    chosen = {**SETTINGS, **settings}
    return collect.calibrate(model, samples, collect.tensors(model), ranges, folder=folder, **chosen)


def theirs(path: Path, data: Dataset, folder: Path, method: str, *, singly: bool = False, **options: Any) -> Any:
    """Ranges by ONNX Runtime's collector; `singly`: given one sample at a time."""
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    ((name, array),) = data.inputs.items()

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, rows: Any) -> None:
            self.rows = iter(rows)

        def get_next(self) -> Any:
            row = next(self.rows, None)
            return None if row is None else {name: row}

    calibrator = create_calibrator(
        path, None, str(folder / "theirs.onnx"), CalibrationMethod[method], extra_options=options
    )
    for part in ([row] for row in array) if singly else (array,):
        calibrator.collect_data(Reader(part))
    found = calibrator.compute_data()
    return {name: tuple(float(np.squeeze(v)) for v in found[name].range_value) for name in found}


def test_min_max_is_that_of_onnx_runtime(net: Path, data: Dataset, tmp_path: Path) -> None:
    found = ours(net, data, tmp_path, "min-max")["ranges"]
    expected = theirs(net, data, tmp_path, "MinMax")
    assert len(found) >= 6
    for name, range_ in found.items():
        assert tuple(range_) == expected[name], name


def test_symmetric_min_max_is_that_of_onnx_runtime(net: Path, data: Dataset, tmp_path: Path) -> None:
    found = ours(net, data, tmp_path, "min-max", symmetric=True)["ranges"]
    expected = theirs(net, data, tmp_path, "MinMax", symmetric=True)
    assert all(tuple(range_) == expected[name] for name, range_ in found.items())


def test_the_moving_average_is_that_of_onnx_runtime_sample_by_sample(net: Path, data: Dataset, tmp_path: Path) -> None:
    """Given all samples at once it takes a plain mean; one at a time it is the moving average that it says it is."""
    found = ours(net, data, tmp_path, "moving-average")["ranges"]
    expected = theirs(net, data, tmp_path, "MinMax", singly=True, moving_average=True, averaging_constant=AVERAGING)
    assert len(found) >= 6
    for name, range_ in found.items():
        assert np.allclose(range_, expected[name], rtol=1e-5, atol=1e-7), name


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("percent", [99.999, 99.0])
def test_two_pass_percentiles_are_those_of_onnx_runtime(
    net: Path, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, symmetric: bool, percent: float
) -> None:
    from edgeship.targets import ranges

    for choice in (ranges.percentile, ranges.percentile_of_magnitudes):
        monkeypatch.setattr(choice, "__defaults__", (percent,))
    found = ours(net, data, tmp_path, "percentile", symmetric=symmetric, passes=2)["ranges"]
    expected = theirs(
        net, data, tmp_path, "Percentile", symmetric=symmetric, num_bins=BINS, percentile=percent
    )  # fmt: skip
    assert len(found) >= 6
    for name, range_ in found.items():
        assert tuple(range_) == expected[name], name


def test_entropy_with_as_many_bins_as_levels_is_the_whole_range_as_in_onnx_runtime(
    net: Path, data: Dataset, tmp_path: Path
) -> None:
    """Its default of 128 bins for 128 levels has one candidate: 3 GB for min-max."""
    from edgeship.targets import ranges

    whole = ours(net, data, tmp_path, "min-max")["ranges"]
    expected = theirs(net, data, tmp_path, "Entropy", num_bins=128, num_quantized_bins=128)
    for name, (low, high) in whole.items():
        top = max(-low, high)
        edges = np.linspace(-top, top, 129)
        assert np.allclose(ranges.entropy(np.ones(128), edges, (low, high), 128), (low, high))
        assert np.allclose(expected[name], (low, high))


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("ranges", RANGES)
def test_what_is_no_number_in_one_sample_has_no_range(tmp_path: Path, ranges: str, first: bool, passes: int) -> None:
    """A root of −1: whichever way ranges are chosen, its tensor and what comes of it stay in float."""
    import onnx
    from onnx import helper, numpy_helper

    tensors = {name: helper.make_tensor_value_info(name, 1, [1, 64]) for name in ("x", "r", "y")}
    nodes = [helper.make_node("Sqrt", ["x"], ["r"], name="r"), helper.make_node("MatMul", ["r", "w"], ["y"], name="y")]
    weights = numpy_helper.from_array(np.eye(64, dtype=np.float32), "w")
    graph = helper.make_graph(nodes, "g", [tensors["x"]], [tensors["y"]], [weights], value_info=[tensors["r"]])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(tmp_path / "m.onnx"))
    x = np.random.default_rng(0).uniform(0.1, 1, (6, 1, 64)).astype(np.float32)
    fine = ours(tmp_path / "m.onnx", Dataset({"x": x}), tmp_path, ranges, passes=passes)
    assert (fine["unbounded"], sorted(fine["ranges"])) == ([], ["r", "y"])
    x[0 if first else -1, 0, 5] = -1  # one of 64: a smallest value passes over it
    found = ours(tmp_path / "m.onnx", Dataset({"x": x}), tmp_path, ranges, passes=passes)
    assert (found["unbounded"], found["ranges"]) == (["r", "y"], {})


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("ranges", ["percentile", "entropy", "mse"])
def test_one_pass_lies_within_one_bin_of_two(
    net: Path, data: Dataset, tmp_path: Path, ranges: str, symmetric: bool
) -> None:
    one = ours(net, data, tmp_path, ranges, symmetric=symmetric)
    two = ours(net, data, tmp_path, ranges, symmetric=symmetric, passes=2)
    extents = ours(net, data, tmp_path, "min-max")["ranges"]
    assert one["ranges"].keys() == two["ranges"].keys()
    for name, range_ in one["ranges"].items():
        bin_ = 2 * max(-extents[name][0], extents[name][1]) / BINS
        steps = 1.01 if ranges != "mse" else 0.01 * BINS / 2  # mse looks at hundredths of the range
        assert np.abs(np.subtract(range_, two["ranges"][name])).max() <= steps * bin_, name


def test_the_order_and_grouping_of_samples_do_not_matter(
    net: Path, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = ours(net, data, tmp_path, "entropy")
    monkeypatch.setattr(collect.groups, "__defaults__", (1,))
    model = read(net)
    assert len(collect.groups(model, collect.tensors(model))) == len(collect.tensors(model))
    turned = Dataset({name: array[::-1].copy() for name, array in data.inputs.items()})
    assert ours(net, turned, tmp_path, "entropy") == found


def test_what_a_relu_or_clip_follows_is_not_collected(net: Path) -> None:
    model = read(net)
    names = collect.tensors(model)
    assert {"r1", "r2", "sum", "y"} <= set(names)
    assert collect.before_clipping(model)
    assert not set(collect.before_clipping(model)) & set(names)


def test_groups_hold_no_more_than_their_limit(net: Path) -> None:
    model = read(net)
    names = collect.tensors(model)
    sizes = {name: 4 * int(np.prod(shape)) for name, (_, shape) in shapes(model).items() if shape}
    grouped = collect.groups(model, names, 5000)
    assert [name for group in grouped for name in group] == names
    assert len(grouped) > 1
    assert all(sum(sizes[name] for name in group) <= 5000 for group in grouped if len(group) > 1)


def test_values_that_are_not_finite_are_named_and_get_no_range(tmp_path: Path) -> None:
    path = graphs.masked(tmp_path / "m.onnx")
    prepare.perform({"path": str(path), "from": "float32", "prepare": True}, tmp_path)
    for ranges, passes in (("min-max", 1), ("percentile", 1), ("percentile", 2)):
        found = ours(tmp_path / "model.onnx", graphs.data("x", (8, 16)), tmp_path, ranges, passes=passes)
        assert found["unbounded"] == ["hidden"]
        assert "hidden" not in found["ranges"]
        assert np.isfinite(np.array(list(found["ranges"].values()))).all()


def test_no_samples_are_an_error(net: Path) -> None:
    with pytest.raises(ConversionError, match="no calibration samples"):
        feed.Samples([])


def test_of_what_a_run_gave_nothing_is_held(net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime's memory is not Python's: what is counted is the values that are alive when a run ends."""
    import weakref

    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    most: list[float] = []

    def session(model: Any, folder: Path) -> Any:
        made = real(model, folder)

        class Counting:
            get_outputs, get_inputs = made.get_outputs, made.get_inputs

            def run_with_ort_values(self, names: Any, values: Any) -> Any:
                out = made.run_with_ort_values(names, values)
                alive.update(out)
                most.append(len(alive) / len(out))
                return out

        return Counting()

    real = collect._session
    monkeypatch.setattr(collect, "_session", session)
    for ranges, passes in (("min-max", 1), ("moving-average", 1), ("percentile", 1), ("percentile", 2), ("mse", 2)):
        ours(net, graphs.data("x", (3, 8, 8), 12), tmp_path, ranges, passes=passes)
    assert len(most) == 12 * 7
    assert max(most) <= 2


def test_memory_does_not_grow_with_the_number_of_samples(net: Path, tmp_path: Path) -> None:
    """Samples are read one at a time: what is traced stays the same from 20 to 400."""
    import tracemalloc

    def peak(n: int) -> int:
        folder = tmp_path / str(n)
        folder.mkdir()
        files = feed.write(graphs.data("x", (3, 8, 8), n), folder)
        model = read(net)
        tracemalloc.start()
        try:
            collect.calibrate(
                model, feed.Samples(files), collect.tensors(model), "percentile", symmetric=False, levels=256,
                passes=1, folder=folder,
            )  # fmt: skip
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few, many = peak(20), peak(400)
    assert many < 1.05 * few
