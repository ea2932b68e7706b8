"""A student's configuration out of a teacher's: width and depth."""

from __future__ import annotations

from typing import Any

import pytest

from edgeship.errors import ConversionError, UsageError
from edgeship.optimize.distill import student
from edgeship.optimize.distill.plan import Plan, feature_pair
from edgeship.optimize.prune import network
from tests.simulators.networks import Net, Tensor


def residual(net: Net, name: str, x: Tensor, filters: int) -> Tensor:
    """A basic block whose first convolution changes the channels where they differ."""
    skip = x if x.shape[-1] == filters else net.conv(f"{name}_skip", x, filters)
    inner = net.same("ReLU", f"{name}_relu", net.conv(f"{name}_1", x, filters))
    return net.same("ReLU", f"{name}_out", net.same("Add", f"{name}_add", skip, net.conv(f"{name}_2", inner, filters)))


def resnet(*stages: tuple[int, int]) -> tuple[Net, Tensor]:
    """(filters, blocks) of each stage."""
    net = Net()
    x = net.same("ReLU", "stem_relu", net.conv("stem", net.input("image", 8, 8, 3), stages[0][0]))
    for number, (filters, blocks) in enumerate(stages):
        for block in range(blocks):
            x = residual(net, f"s{number}b{block}", x, filters)
    x = net.layer("GlobalAveragePooling2D", "pool", x, out=(x.shape[-1],))
    return net, net.dense("out", x, 10, activation="softmax")


def stages(net: Net, out: Tensor) -> list[list[list[str]]]:
    return [[[call.layer for call in unit.calls] for unit in units] for units in student.repeats(net.read(out))]


def names(config: dict[str, Any]) -> list[str]:
    return [layer["name"] for layer in config["config"]["layers"]]


def rebuilt(config: dict[str, Any]) -> network.Network:
    """Read again: every tensor that is used is made, in an order that works."""
    found = network.read(config, [[None, 10]])
    made = {call.output for call in found.calls}
    assert all(ref in made for call in found.calls for ref in call.inputs)
    assert all(ref in made for ref in found.outputs)
    return found


def test_blocks_of_a_residual_net_are_found_stage_by_stage() -> None:
    net, out = resnet((16, 3), (32, 3))
    found = stages(net, out)
    assert [len(units) for units in found] == [3, 2], "the first block of a wider stage has another shape"
    assert set(found[0][0]) == {"s0b0_1", "s0b0_relu", "s0b0_2", "s0b0_add", "s0b0_out"}
    assert {layer for unit in found[1] for layer in unit} >= {"s1b1_1", "s1b2_1"}


@pytest.mark.parametrize(
    ("depth", "left"), [(0.34, {"s0b0", "s1b0", "s1b1"}), (0.67, {"s0b0", "s0b1", "s1b0", "s1b1"})]
)
def test_depth_keeps_the_first_blocks_of_a_stage(depth: float, left: set[str]) -> None:
    net, out = resnet((16, 3), (32, 3))
    new, dropped = student.shallower(net.config(out), net.read(out), depth)
    rebuilt(new)
    assert {name[:4] for name in names(new) if name.startswith("s") and name[1].isdigit()} == left
    assert not set(dropped) & set(names(new))
    assert len(dropped) + len(names(new)) == len(net.layers)


def test_the_last_normalization_of_a_transformer_is_no_part_of_its_last_block() -> None:
    net = Net()
    x = net.dense("tokens", net.input("text", 16, 8), 32)
    for number in range(2):
        inner = net.same("LayerNormalization", f"norm{number}", x, axis=[-1])
        inner = net.dense(f"narrow{number}", net.dense(f"wide{number}", inner, 64), 32)
        x = net.same("Add", f"add{number}", x, inner)
    out = net.dense("out", net.same("LayerNormalization", "last", x, axis=[-1]), 10)
    (units,) = stages(net, out)
    assert units == [[f"{name}{number}" for name in ("norm", "wide", "narrow", "add")] for number in (0, 1)]
    new, dropped = student.shallower(net.config(out), net.read(out), 0.5)
    rebuilt(new)
    assert dropped == ["add1", "narrow1", "norm1", "wide1"]
    assert "last" in names(new)


def test_plain_repeats_lose_their_normalization_with_them() -> None:
    net = Net()
    x = net.conv("stem", net.input("image", 8, 8, 3), 16)
    for number in range(4):
        x = net.same("DepthwiseConv2D", f"deep{number}", x, kernel_size=[3, 3])
        x = net.same("BatchNormalization", f"deep_norm{number}", x)
        x = net.same("ReLU", f"relu{number}", net.layer("Conv2D", f"point{number}", x, out=x.shape, filters=16,
                                                       kernel_size=[1, 1]))  # fmt: skip
    out = net.dense("out", net.layer("Flatten", "flat", x, out=(1024,)), 10)
    (units,) = stages(net, out)
    assert units[1] == ["deep1", "deep_norm1", "point1", "relu1"]
    new, dropped = student.shallower(net.config(out), net.read(out), 0.5)
    assert dropped == sorted(units[2] + units[3])
    last = rebuilt(new)
    assert next(call for call in last.calls if call.layer == "flat").inputs == (("relu1", 0, 0),)


def test_a_last_block_that_is_an_output_hands_it_on() -> None:
    net = Net()
    x = net.dense("first", net.input("x", 10), 10)
    out = net.dense("second", x, 10)
    new, dropped = student.shallower(net.config(out), net.read(out), 0.5)
    assert dropped == ["second"]
    assert rebuilt(new).outputs == (("first", 0, 0),)


def test_what_repeats_nothing_cannot_be_made_shallower() -> None:
    net, out = resnet((16, 1), (32, 1))
    with pytest.raises(ConversionError, match="leaves out nothing: repeated blocks of this model are none") as caught:
        student.shallower(net.config(out), net.read(out), 0.5)
    assert "--student" in str(caught.value.hint)


def test_a_layer_that_is_called_again_is_no_repeat() -> None:
    net = Net()
    x = net.input("x", 8)
    for _ in range(3):
        x = net.dense("again", x, 8)
    with pytest.raises(ConversionError, match="leaves out nothing"):
        student.shallower(net.config(x), net.read(x), 0.5)


def test_width_shrinks_what_is_tied_alike_and_leaves_the_outputs() -> None:
    net, out = resnet((16, 2), (32, 2))
    new = student.narrower(net.config(out), net.channels(out), 0.5)
    sizes = {
        layer["name"]: layer["config"].get("filters", layer["config"].get("units"))
        for layer in new["config"]["layers"]
        if layer["class_name"] in ("Conv2D", "Dense")
    }
    assert {sizes[name] for name in sizes if name.startswith(("stem", "s0"))} == {8}
    assert {sizes[name] for name in sizes if name.startswith("s1")} == {16}
    assert sizes["out"] == 10


def test_width_and_depth_go_together() -> None:
    net, out = resnet((16, 3))
    narrow = student.narrower(net.config(out), net.channels(out), 0.25)
    new, _ = student.shallower(narrow, net.read(out), 0.3)
    assert [layer["config"]["filters"] for layer in new["config"]["layers"] if "filters" in layer["config"]] == [4] * 3


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"width": 0.0}, "a width of 0"), ({"width": 1.5}, "a width of 1.5"), ({"width": 0.5, "depth": 0.0}, "a depth"),
        ({"width": 1.0}, "the teacher again"), ({"depth": 0.5}, "of a derived student"),
    ],
)  # fmt: skip
def test_a_plan_that_makes_no_sense_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        Plan(**given)
    assert caught.value.hint


def test_a_plan_survives_json() -> None:
    import json

    plan = Plan(0.5, 0.5, (("a", "b"), ("c", "c")))
    assert Plan.parse(json.loads(json.dumps(plan.encode()))) == plan


def test_features_are_named_once_where_the_names_are_alike() -> None:
    assert feature_pair("conv") == ("conv", "conv")
    assert feature_pair("big:small") == ("big", "small")
    for wrong in ("", ":b", "a:"):
        with pytest.raises(UsageError, match="names no layers"):
            feature_pair(wrong)
