"""Weights rounded by what their layer reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import helper

from edgeship.targets import rounding
from edgeship.targets.onnx.weights import quantized
from edgeship.targets.rounding import Fitted, Layer, Moments, in_memory, load, rows, same, save
from tests.simulators import onnx_graphs as graphs

Float = NDArray[np.float32]


def correlated(n: int, inputs: int, seed: int = 0) -> Float:
    """Rows whose numbers go together, about a mean that is not 0: what layers read is no noise."""
    rng = np.random.default_rng(seed)
    out: Float = (
        rng.normal(size=(n, 4)) @ rng.normal(size=(4, inputs)) + 0.1 * rng.normal(size=(n, inputs)) + 1
    ).astype(np.float32)
    return out


def nearest(weight: Float) -> Float:
    steps, scale = quantized(weight, 0)
    return np.asarray(steps * scale[:, None], np.float32)


def fit(layer: Layer, data: Float) -> Fitted:
    moments = Moments(layer)
    moments.add(data)
    return moments.fit()


@pytest.mark.parametrize(("bias", "times"), [(False, 5), (True, 10)])
def test_answers_are_far_closer_than_with_the_nearest_steps_on_data_that_was_not_seen(bias: bool, times: float) -> None:
    weight, data = graphs.weights((16, 32), 3), correlated(2000, 32)
    item = fit(Layer("a", weight, bias=bias), data[:1000])
    fresh = data[1000:]
    exact = fresh @ weight.T
    shift = np.zeros(16, np.float32) if item.shift is None else item.shift
    error = np.square(fresh @ item.weight.T + shift - exact).mean()
    assert (item.shift is not None) == bias
    assert error < np.square(fresh @ nearest(weight).T - exact).mean() / times


def test_a_quantizer_that_takes_scales_from_the_largest_weight_finds_the_same_numbers() -> None:
    weight = graphs.weights((16, 32), 3)
    made = fit(Layer("a", weight), correlated(500, 32)).weight
    assert np.abs(made - weight).max() > 0
    assert np.array_equal(nearest(made), made)
    assert np.allclose(np.abs(made).max(axis=1), np.abs(weight).max(axis=1), rtol=1e-6)


def test_the_shift_takes_away_what_answers_are_off_by_on_average() -> None:
    weight, data = graphs.weights((8, 4), 1), correlated(800, 4)  # few weights: little cancels
    item = fit(Layer("a", weight, bias=True), data)
    assert item.shift is not None
    off = (data @ item.weight.T + item.shift - data @ weight.T).mean(axis=0)
    assert np.abs(off).max() < 1e-5


def test_without_data_or_with_numbers_that_are_none_the_nearest_steps_stay() -> None:
    weight = graphs.weights((4, 8), 2)
    moments = Moments(Layer("a", weight))
    moments.add(np.full((3, 8), np.nan, np.float32))
    assert moments.count == 0
    assert np.allclose(moments.fit().weight, nearest(weight))


def test_inputs_that_are_always_zero_do_no_harm() -> None:
    weight, data = graphs.weights((4, 8), 2), correlated(100, 8)
    data[:, 3:] = 0
    weight[2] = 0
    made = fit(Layer("a", weight, bias=True), data)
    assert np.isfinite(made.weight).all()
    assert not made.weight[2].any()


@pytest.mark.parametrize(
    ("shape", "groups", "strides", "dilations", "pads"),
    [
        ((6, 4, 3, 3), 1, (1, 1), (1, 1), (1, 1, 1, 1)),
        ((6, 2, 3, 5), 2, (2, 1), (1, 2), (0, 3, 2, 1)),
        ((8, 1, 3, 3), 4, (2, 2), (2, 1), (1, 0, 1, 2)),  # depthwise, two outputs a channel
        ((5, 4, 3), 1, (2,), (2,), (2, 1)),
    ],
)
def test_rows_are_what_a_convolution_multiplies_its_kernel_with(
    shape: tuple[int, ...], groups: int, strides: tuple[int, ...], dilations: tuple[int, ...], pads: tuple[int, ...]
) -> None:
    places = len(shape) - 2
    x = np.random.default_rng(0).normal(size=(1, 4, *(11, 13)[:places])).astype(np.float32)
    weight = graphs.weights(shape, 1)
    [wanted] = convolved(x, weight, group=groups, strides=strides, dilations=dilations, pads=pads)
    pairs = tuple(zip(pads[:places], pads[places:], strict=True))
    found = rows(Layer("a", weight, groups, strides, dilations, pads=pairs), x)
    got = np.einsum("gnk,gok->gon", found, weight.reshape(groups, shape[0] // groups, -1)).reshape(shape[0], -1)
    assert np.allclose(got, wanted.reshape(shape[0], -1), atol=1e-5)


def test_of_many_places_some_are_looked_at_and_of_few_all() -> None:
    dense = Layer("a", graphs.weights((2, 8), 1))
    assert rows(dense, np.zeros((1, 300, 8), np.float32)).shape == (1, 300, 8)
    kernel = Layer("a", graphs.weights((2, 3, 1, 1), 1), 1, (1, 1), (1, 1), ((0, 0), (0, 0)))
    x = np.arange(3 * 100 * 100, dtype=np.float32).reshape(1, 3, 100, 100)
    seen = rows(kernel, x)
    assert seen.shape == (1, rounding.POSITIONS, 3)
    assert (seen[0, 0, 0], seen[0, -1, 0]) == (0, 9999)  # from the first to the last
    assert rows(kernel, x, 7).shape == (1, 7, 3)


def test_of_many_samples_fewer_places_are_looked_at() -> None:
    assert rounding.positions(1) == rounding.positions(24) == rounding.POSITIONS
    assert rounding.positions(rounding.SAMPLES) * rounding.SAMPLES == rounding.ROWS
    assert rounding.positions(5000) == rounding.positions(rounding.SAMPLES)  # no more are looked at


@pytest.mark.parametrize("upper", [True, False])
@pytest.mark.parametrize(("size", "kernel", "stride", "dilation"), [(9, 3, 2, 1), (10, 4, 3, 1), (8, 2, 1, 1)])
def test_same_pads_as_the_runtime_does(size: int, kernel: int, stride: int, dilation: int, upper: bool) -> None:
    x = np.random.default_rng(0).normal(size=(1, 2, size)).astype(np.float32)
    weight = graphs.weights((3, 2, kernel), 1)
    mode = "SAME_UPPER" if upper else "SAME_LOWER"
    [wanted] = convolved(x, weight, strides=[stride], dilations=[dilation], auto_pad=mode)
    pads = (same(size, kernel, stride, dilation, upper=upper),)
    found = rows(Layer("a", weight, 1, (stride,), (dilation,), pads), x)
    assert np.allclose(found[0] @ weight.reshape(3, -1).T, wanted[0].T, atol=1e-5)


def test_what_is_collected_at_once_fits_a_limit_and_what_is_too_wide_is_left() -> None:
    small = [Layer(name, graphs.weights((2, 16), 1)) for name in "abc"]
    wide = Layer("wide", np.zeros((1, rounding.MOST_INPUTS + 1), np.float32))
    lots = list(in_memory([*small, wide], limit=2 * 4 * 16 * 16))
    assert [[layer.name for layer in lot] for lot in lots] == [["a", "b"], ["c"]]
    broken = Layer("nan", np.full((2, 4), np.nan, np.float32))
    assert not list(in_memory([broken]))


def test_it_comes_back_from_the_disk_as_it_was(tmp_path: Path) -> None:
    items = {
        "a/b:0": Fitted(graphs.weights((2, 3), 1), np.array([1, 2], np.float32)),
        "c": Fitted(graphs.weights((2, 3, 1, 1), 2), None),
    }
    save(items, tmp_path)
    found = load(tmp_path)
    assert [*found] == [*items]
    assert all(np.array_equal(found[name].weight, items[name].weight) for name in items)
    assert found["a/b:0"].shift is not None
    assert found["c"].shift is None


def convolved(x: Float, weight: Float, **settings: Any) -> Any:
    node = helper.make_node("Conv", ["x", "w"], ["y"], **settings)
    graph = helper.make_graph(
        [node], "g", [graphs.value("x", x.shape), graphs.value("w", weight.shape)], [graphs.value("y", None)]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x, "w": weight})


@pytest.mark.parametrize("levels", [0, 256])
def test_weights_of_inputs_that_never_change_are_not_driven_off(levels: int) -> None:
    """Whatever such a weight is, the bias makes up for it; but what is rounded comes out multiplied by it."""
    weight, data = graphs.weights((16, 32), 3), correlated(2000, 32)
    data[:, 16:] = np.linspace(3, 9, 16)
    moments = Moments(Layer("a", weight, bias=True), levels=levels)
    moments.add(data[:1000])
    item = moments.fit()
    step = np.abs(weight).max(axis=1, keepdims=True) / 127
    assert np.abs((item.weight - weight) / step).max() < 8
    rounded = np.rint(data[1000:] / 0.05) * 0.05
    exact = data[1000:] @ weight.T
    assert item.shift is not None
    error, usual = (np.square(rounded @ w.T + b - exact).mean() for w, b in ((item.weight, item.shift), (weight, 0)))
    assert error < 1.5 * usual


def test_the_noise_of_rounded_inputs_keeps_weights_closer_to_the_exact_ones() -> None:
    weight, data = graphs.weights((16, 32), 3), correlated(40, 32)
    moved = []
    for levels in (0, 1 << 16, 256):
        moments = Moments(Layer("a", weight, bias=True), levels=levels)
        moments.add(data)
        moved.append(np.square(moments.fit().weight - weight).mean())
    assert moved[2] < moved[1] <= moved[0]
