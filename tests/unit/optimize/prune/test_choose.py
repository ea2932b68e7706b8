"""Which channels go: importance by its definition, and how many of each group."""

from __future__ import annotations

import numpy as np
import pytest

from edgeship.errors import ConversionError
from edgeship.optimize.prune import choose, cut
from edgeship.optimize.prune.channels import Channels, macs
from edgeship.optimize.prune.plan import Plan
from tests.simulators.networks import Net


def two_layers() -> tuple[Net, Channels]:
    """An expensive first layer of 32 channels and a cheap second one of 16."""
    net = Net()
    x = net.conv("first", net.input("image", 8, 8, 3), 32)
    x = net.layer("Conv2D", "second", x, out=(1, 1, 16), filters=16, kernel_size=[3, 3])
    x = net.layer("Flatten", "flat", x, out=(16,))
    return net, net.channels(net.dense("out", x, 10))


def group(found: Channels, maker: str) -> int:
    (number,) = (number for number, group in found.groups.items() if maker in group.makers)
    return number


def even(found: Channels) -> dict[int, np.ndarray]:
    return {number: np.arange(1.0, group.size + 1) for number, group in found.groups.items()}


@pytest.mark.parametrize(("size", "by"), [(1, 1), (4, 1), (7, 1), (8, 2), (16, 4), (24, 4), (32, 8), (64, 8), (512, 8)])
def test_channels_go_in_steps_that_kernels_are_made_for(size: int, by: int) -> None:
    assert choose.step(size) == by


def test_importance_is_the_first_order_change_of_the_loss() -> None:
    """Against its definition: the squared sum of gradient × weight over all that reads the channel, mean of batches."""
    _, found = two_layers()
    rng = np.random.default_rng(0)
    shapes = {("first", "kernel"): (3, 3, 3, 32), ("second", "kernel"): (3, 3, 32, 16), ("out", "kernel"): (16, 10)}
    products = {key: rng.normal(size=(5, *shape)) for key, shape in shapes.items()}
    scores = choose.importance(found, products)
    read = products["second", "kernel"]
    for channel in (0, 7, 31):
        expected = np.mean([read[batch, :, :, channel, :].sum() ** 2 for batch in range(5)])
        assert scores[group(found, "first")][channel] == pytest.approx(expected)
    assert scores[group(found, "second")][3] == pytest.approx(np.mean(products["out", "kernel"][:, 3].sum(axis=1) ** 2))


def test_readers_of_one_group_count_together() -> None:
    net = Net()
    x = net.dense("made", net.input("x", 3), 4)
    found = net.channels(net.dense("a", x, 1), net.dense("b", x, 1))
    products = {
        ("made", "kernel"): np.zeros((1, 3, 4)), ("a", "kernel"): np.full((1, 4, 1), 2.0),
        ("b", "kernel"): np.full((1, 4, 1), -2.0),
    }  # fmt: skip
    assert choose.importance(found, products)[group(found, "made")].tolist() == [0, 0, 0, 0]


def test_a_flattened_channel_is_read_at_every_place() -> None:
    net = Net()
    x = net.conv("made", net.input("image", 2, 1, 1), 2)
    found = net.channels(net.dense("out", net.layer("Flatten", "flat", x, out=(4,)), 1))
    products = {("made", "kernel"): np.zeros((1, 3, 3, 1, 2)), ("out", "kernel"): np.array([[[1.0], [2], [3], [4]]])}
    assert choose.importance(found, products)[group(found, "made")].tolist() == [16, 36]


@pytest.mark.parametrize(("amount", "first", "second"), [(0.5, 16, 8), (0.3, 24, 12), (0.05, 32, 16), (0.99, 8, 4)])
def test_an_amount_takes_the_same_share_everywhere_in_whole_steps(amount: float, first: int, second: int) -> None:
    _, found = two_layers()
    if (first, second) == (32, 16):
        with pytest.raises(ConversionError, match="removes no channel"):
            choose.choose(found, even(found), Plan(amount=amount))
        return
    kept = choose.choose(found, even(found), Plan(amount=amount))
    assert kept[group(found, "first")].tolist() == list(range(32 - first, 32))
    assert len(kept[group(found, "second")]) == second


def test_a_speedup_is_reached_and_prefers_what_is_cheap_to_lose() -> None:
    _, found = two_layers()
    scores = even(found)
    scores[group(found, "second")] *= 1e6
    kept = choose.choose(found, scores, Plan(speedup=1.5))
    before, after = choose.costs(found, kept)
    assert before / after >= 1.5
    assert list(kept) == [group(found, "first")]
    scores[group(found, "second")] *= 1e-12
    assert group(found, "second") in choose.choose(found, scores, Plan(speedup=1.5))


def test_operations_are_counted_on_as_groups_shrink() -> None:
    """Against counting everything again: a group that is read and made by one layer, and one that is read twice."""
    net = Net()
    x = net.conv("a", net.input("image", 8, 8, 3), 16)
    x = net.same("Add", "add", x, net.conv("b", x, 16))
    x = net.layer("Concatenate", "join", x, net.conv("c", x, 8), x, out=(8, 8, 40), axis=-1)
    found = net.channels(net.dense("out", x, 10))
    costs, counts = choose.Costs(found), found.sizes()
    for maker, by in (("a", 4), ("c", 2), ("a", 4)):
        number = group(found, maker)
        before = macs(found.works, counts)
        counts[number] -= by
        assert costs.saved(number, by) == before - macs(found.works, counts)
        costs.remove(number, by)


def test_a_speedup_out_of_reach_says_what_is_within() -> None:
    _, found = two_layers()
    with pytest.raises(ConversionError, match=r"a speedup of 1000 is out of reach: with the narrowest layers it is \d"):
        choose.choose(found, even(found), Plan(speedup=1000.0))


def test_where_nothing_may_go_the_reasons_are_named() -> None:
    net = Net()
    found = net.channels(net.dense("out", net.input("x", 7), 10))
    with pytest.raises(ConversionError, match="no channels can be pruned: out: it is an output") as caught:
        choose.choose(found, even(found), Plan())
    assert "distill" in str(caught.value.hint)


def test_cutting_configuration_and_weights() -> None:
    net, found = two_layers()
    x = net.layers
    config = {"class_name": "Functional", "config": {"layers": x}, "build_config": {"input_shape": None}}
    first, second = group(found, "first"), group(found, "second")
    kept = {first: np.array([0, 31]), second: np.array([5])}
    new = cut.configuration(config, found, kept)
    by_name = {layer["name"]: layer for layer in new["config"]["layers"]}
    assert (by_name["first"]["config"]["filters"], by_name["second"]["config"]["filters"]) == (2, 1)
    assert by_name["out"]["config"]["units"] == 10
    assert not any("build_config" in layer for layer in by_name.values())
    assert x[1]["config"]["filters"] == 32, "what was given is not changed"
    rng = np.random.default_rng(0)
    old = {
        ("first", "kernel"): rng.normal(size=(3, 3, 3, 32)), ("first", "bias"): rng.normal(size=32),
        ("second", "kernel"): rng.normal(size=(3, 3, 32, 16)), ("second", "bias"): rng.normal(size=16),
        ("out", "kernel"): rng.normal(size=(16, 10)), ("out", "bias"): rng.normal(size=10),
    }  # fmt: skip
    weights = cut.weights(old, found, kept)
    assert np.array_equal(weights["second", "kernel"], old["second", "kernel"][:, :, [0, 31]][..., [5]])
    assert np.array_equal(weights["out", "kernel"], old["out", "kernel"][[5]])
    assert np.array_equal(weights["out", "bias"], old["out", "bias"])
    silent = cut.silenced(old, found, kept)
    assert silent["second", "kernel"].shape == (3, 3, 32, 16)
    assert np.flatnonzero(np.abs(silent["second", "kernel"]).sum(axis=(0, 1, 3))).tolist() == [0, 31]
    assert np.array_equal(silent["first", "bias"], old["first", "bias"])
