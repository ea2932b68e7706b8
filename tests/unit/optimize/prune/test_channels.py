"""Which channels belong together: what each kind of layer does to them, and what holds them in place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeship.errors import ConversionError
from edgeship.optimize.prune import choose
from edgeship.optimize.prune.channels import Channels, macs
from tests.simulators.networks import Net, Tensor


def free(found: Channels) -> dict[tuple[str, ...], int]:
    """Makers of each group that may be pruned -> its size."""
    return {group.makers: group.size for group in found.free.values()}


def cuts(found: Channels, layer: str) -> dict[tuple[str, int], int]:
    """(weight, axis) of a layer -> length of what it follows."""
    sizes = found.sizes()
    return {(c.weight, c.axis): sum(sizes[n] for n in c.layout) for c in found.cuts if c.layer == layer}


def ended(net: Net, x: Tensor) -> Channels:
    """With a classifier at the end, which is an output."""
    return net.channels(net.dense("out", x, 10))


def test_a_channel_is_cut_where_it_is_made_normalized_and_read() -> None:
    net = Net()
    x = net.conv("conv", net.input("image", 8, 8, 3), 16)
    x = net.same("BatchNormalization", "bn", x, axis=-1)
    x = net.layer("GlobalAveragePooling2D", "pool", net.same("ReLU", "relu", x), out=(16,))
    found = ended(net, x)
    assert free(found) == {("conv",): 16}
    (group,) = found.free
    assert {(c.layer, c.weight, c.axis) for c in found.cuts if c.layout == (group,)} == {
        ("conv", "kernel", 3), ("conv", "bias", 0), ("out", "kernel", 0), ("bn", "gamma", 0), ("bn", "beta", 0),
        ("bn", "moving_mean", 0), ("bn", "moving_variance", 0),
    }  # fmt: skip
    assert [(c.layer, c.weight) for c in found.cuts if c.reads] == [("conv", "kernel"), ("out", "kernel")]
    assert [(e.layer, e.key) for e in found.edits if e.layout == (group,)] == [("conv", "filters")]


def test_inputs_and_outputs_are_never_touched() -> None:
    net = Net()
    found = ended(net, net.input("x", 7))
    assert free(found) == {}
    assert choose.why_held(found) == ["out: it is an output of the model"]


@pytest.mark.parametrize("use_bias", [True, False])
def test_what_an_addition_joins_goes_together(use_bias: bool) -> None:
    net = Net()
    a = net.conv("a", net.input("image", 8, 8, 3), 16, use_bias=use_bias)
    b = net.conv("b", net.conv("inner", a, 24), 16)
    found = ended(net, net.layer("Flatten", "flat", net.same("Add", "add", a, b), out=(1024,)))
    assert free(found) == {("a", "b"): 16, ("inner",): 24}
    assert (("bias", 0) in cuts(found, "a")) is use_bias


def test_a_chain_of_residuals_is_one_group() -> None:
    net = Net()
    x = net.conv("stem", net.input("image", 8, 8, 3), 16)
    for number in range(4):
        x = net.same("Add", f"add{number}", x, net.conv(f"c{number}", x, 16))
    assert free(ended(net, x)) == {("stem", "c0", "c1", "c2", "c3"): 16}


def test_a_depthwise_convolution_follows_its_input() -> None:
    net = Net()
    x = net.conv("conv", net.input("image", 8, 8, 3), 16)
    x = net.same("DepthwiseConv2D", "deep", x, kernel_size=[3, 3], depth_multiplier=1)
    found = ended(net, x)
    assert free(found) == {("conv",): 16}
    assert cuts(found, "deep") == {("kernel", 2): 16, ("bias", 0): 16}


def test_a_convolution_of_as_many_groups_as_channels_is_a_depthwise_one() -> None:
    net = Net()
    x = net.conv("deep", net.conv("conv", net.input("image", 8, 8, 3), 16), 16, groups=16)
    found = ended(net, x)
    assert free(found) == {("conv",): 16}
    assert cuts(found, "deep") == {("kernel", 3): 16, ("bias", 0): 16}
    assert {e.key for e in found.edits if e.layer == "deep"} == {"filters", "groups"}


def test_a_separable_convolution_reads_and_makes() -> None:
    net = Net()
    x = net.conv("conv", net.input("image", 8, 8, 3), 16)
    x = net.layer("SeparableConv2D", "sep", x, out=(8, 8, 32), filters=32, kernel_size=[3, 3])
    found = ended(net, x)
    assert free(found) == {("conv",): 16, ("sep",): 32}
    assert cuts(found, "sep") == {
        ("depthwise_kernel", 2): 16, ("pointwise_kernel", 2): 16, ("pointwise_kernel", 3): 32, ("bias", 0): 32,
    }  # fmt: skip


def test_a_transposed_convolution_has_its_axes_the_other_way_round() -> None:
    net = Net()
    x = net.conv("conv", net.input("image", 8, 8, 3), 16)
    x = net.layer("Conv2DTranspose", "up", x, out=(16, 16, 12), filters=12, kernel_size=[2, 2], strides=[2, 2])
    found = ended(net, x)
    assert cuts(found, "up") == {("kernel", 3): 16, ("kernel", 2): 12, ("bias", 0): 12}


def test_a_concatenation_keeps_its_parts_apart() -> None:
    net = Net()
    image = net.input("image", 8, 8, 3)
    a, b = net.conv("a", image, 8), net.conv("b", image, 16)
    x = net.layer("Concatenate", "join", a, b, out=(8, 8, 24), axis=-1)
    x = net.same("BatchNormalization", "bn", x, axis=3)
    found = ended(net, x)
    assert free(found) == {("a",): 8, ("b",): 16}
    (gamma,) = (c for c in found.cuts if (c.layer, c.weight) == ("bn", "gamma"))
    first, second = gamma.layout
    kept = {first: np.array([1, 2]), second: np.array([0, 15])}
    assert found.indices(gamma.layout, kept).tolist() == [1, 2, 8, 23]


def test_along_another_axis_channels_are_the_same() -> None:
    net = Net()
    image = net.input("image", 8, 8, 3)
    x = net.layer("Concatenate", "join", net.conv("a", image, 8), net.conv("b", image, 8), out=(16, 8, 8), axis=1)
    assert free(ended(net, x)) == {("a", "b"): 8}


def test_flatten_repeats_the_channels_at_every_place() -> None:
    net = Net()
    x = net.conv("conv", net.input("image", 2, 3, 1), 4)
    found = ended(net, net.layer("Flatten", "flat", x, out=(24,)))
    (kernel,) = (c for c in found.cuts if (c.layer, c.weight, c.axis) == ("out", "kernel", 0))
    (group,) = found.free
    assert kernel.layout == (group,) * 6
    indices = found.indices(kernel.layout, {group: np.array([0, 3])}).tolist()
    assert indices == [place * 4 + c for place in range(6) for c in (0, 3)]


def test_squeeze_and_excitation_scales_the_channels_that_it_reads() -> None:
    """A gate of shape [1, 1, C] is tied to what it multiplies; one of a single channel is stretched over all."""
    net = Net()
    x = net.conv("conv", net.input("image", 8, 8, 3), 16)
    gate = net.layer("GlobalAveragePooling2D", "pool", x, out=(16,))
    gate = net.layer("Reshape", "shape", gate, out=(1, 1, 16), target_shape=[1, 1, 16])
    gate = net.dense("gate", net.dense("squeeze", gate, 4), 16, activation="sigmoid")
    x = net.same("Multiply", "scale", x, gate)
    x = net.same("Multiply", "mask", x, net.conv("one", x, 1))
    found = ended(net, x)
    assert free(found) == {("conv", "gate"): 16, ("squeeze",): 4}
    assert [(e.layer, e.key, e.index) for e in found.edits if e.key == "target_shape"] == [("shape", "target_shape", 2)]


@pytest.mark.parametrize(
    ("kind", "out", "target", "repeats"),
    [("Reshape", (16, 8), [16, 8], 1), ("Reshape", (128,), [-1], 16), ("Reshape", (128,), [128], 16)],
)
def test_a_reshape_that_keeps_channels_last_or_flattens(
    kind: str, out: tuple[int, ...], target: list[int], repeats: int
) -> None:
    net = Net()
    x = net.layer(kind, "shape", net.conv("conv", net.input("image", 4, 4, 3), 8), out=out, target_shape=target)
    found = ended(net, x)
    assert free(found) == {("conv",): 8}
    (kernel,) = (c for c in found.cuts if (c.layer, c.weight, c.axis) == ("out", "kernel", 0))
    assert len(kernel.layout) == repeats


def test_python_operators_and_operations_are_understood() -> None:
    net = Net()
    a = net.conv("a", net.input("image", 8, 8, 3), 16)
    b = net.conv("b", a, 16)
    x = net.layer("Add", "sum", a, b, out=a.shape, module="keras.src.ops.numpy")
    x = net.layer("Multiply", "twice", x, out=a.shape, module="keras.src.ops.numpy", constant=2.0)
    x = net.layer("Relu", "relu", x, out=a.shape, module="keras.src.ops.nn")
    assert free(ended(net, x)) == {("a", "b"): 16}


def test_a_layer_that_is_called_twice_reads_and_makes_the_same_channels() -> None:
    net = Net()
    left, right = net.conv("left", net.input("l", 8, 8, 3), 8), net.conv("right", net.input("r", 8, 8, 3), 8)
    a, b = net.conv("shared", left, 16), net.conv("shared", right, 16)
    found = ended(net, net.layer("Concatenate", "join", a, b, out=(8, 8, 32)))
    assert free(found) == {("left", "right"): 8, ("shared",): 16}
    assert sum(work.layer == "shared" for work in found.works) == 2


def test_means_over_channels_are_remembered() -> None:
    net = Net()
    x = net.same("LayerNormalization", "norm", net.dense("dense", net.input("x", 7), 16), axis=[-1])
    found = ended(net, x)
    assert [(group.makers, group.normalized) for group in found.free.values()] == [(("dense",), True)]


@pytest.mark.parametrize(
    ("kind", "settings", "why"),
    [
        ("Mystery", {}, "Mystery is not understood"),
        ("Softmax", {"axis": -1}, "it mixes channels"),
        ("Activation", {"activation": "softmax"}, "it mixes channels"),
        ("BatchNormalization", {"axis": 1}, "it normalizes over the axes [1]"),
        ("LayerNormalization", {"axis": [1, 2, 3]}, "it normalizes over the axes [1, 2, 3]"),
        ("Conv2D", {"filters": 16, "kernel_size": [3, 3], "groups": 2}, "it is a grouped convolution"),
        ("DepthwiseConv2D", {"kernel_size": [3, 3], "depth_multiplier": 2}, "its depth multiplier is not 1"),
        ("MaxPooling2D", {"data_format": "channels_first"}, "its channels come first"),
        ("Reshape", {"target_shape": [8, 16, 8]}, "it moves channels to another axis"),
    ],
)
def test_what_is_not_understood_holds_what_it_touches_and_is_named(
    kind: str, settings: dict[str, Any], why: str
) -> None:
    net = Net()
    x = net.conv("before", net.input("image", 8, 8, 3), 16)
    x = net.layer(kind, "odd", x, out=(8, 16, 8) if kind == "Reshape" else x.shape, **settings)
    x = net.conv("after", x, 32)
    found = ended(net, x)
    assert free(found) == {("after",): 32}
    assert found.opaque == {"odd": why}
    assert f"before: odd: {why}" in choose.why_held(found)


def test_channels_that_an_addition_joins_otherwise_are_held() -> None:
    net = Net()
    image = net.input("image", 8, 8, 3)
    a, b, c = net.conv("a", image, 8), net.conv("b", image, 8), net.conv("c", image, 16)
    x = net.same("Add", "add", net.layer("Concatenate", "join", a, b, out=(8, 8, 16), axis=-1), c)
    found = ended(net, x)
    assert free(found) == {}
    assert "c: add joins channels that are composed differently" in choose.why_held(found)


def test_an_operation_with_a_constant_tensor_is_held() -> None:
    net = Net()
    x = net.conv("conv", net.input("image", 8, 8, 3), 16)
    constant = {"class_name": "__numpy__", "config": {"value": [0.0] * 16, "dtype": "float32"}}
    found = ended(net, net.layer("Add", "plus", x, out=x.shape, module="keras.src.ops.numpy", constant=constant))
    assert found.opaque == {"plus": "it is called with a constant"}


def test_a_softmax_inside_a_layer_holds_what_it_makes() -> None:
    net = Net()
    x = net.dense("attention", net.input("x", 7), 16, activation="softmax")
    found = ended(net, net.dense("inner", x, 8))
    assert free(found) == {("inner",): 8}
    assert "attention: the activation of attention mixes channels" in choose.why_held(found)


def test_arithmetic_is_counted_by_hand() -> None:
    net = Net()
    x = net.conv("conv", net.input("image", 8, 8, 3), 16)
    x = net.layer("DepthwiseConv2D", "deep", x, out=(4, 4, 16), kernel_size=[3, 3], strides=[2, 2])
    x = net.layer("Conv2D", "point", x, out=(4, 4, 32), filters=32, kernel_size=[1, 1])
    found = ended(net, net.layer("Flatten", "flat", x, out=(512,)))
    assert macs(found.works, found.sizes()) == 64 * 9 * 3 * 16 + 16 * 9 * 16 + 16 * 16 * 32 + 512 * 10
    half = {number: size // 2 if number in found.free else size for number, size in found.sizes().items()}
    assert macs(found.works, half) == 64 * 9 * 3 * 8 + 16 * 9 * 8 + 16 * 8 * 16 + 256 * 10


def test_calls_that_go_round_in_a_circle_are_no_network() -> None:
    net = Net()
    x = net.dense("a", Tensor("b", 0, (4,)), 4)
    x = net.dense("b", x, 4)
    with pytest.raises(ConversionError, match="a, b go round in a circle"):
        net.read(x)
