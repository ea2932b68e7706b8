"""What layers over sequences do to channels: which of their weights follow what, and what holds them."""

from __future__ import annotations

from typing import Any

import pytest

from edgeship.optimize.prune import choose
from edgeship.optimize.prune.channels import Channels, macs
from tests.simulators.networks import Net, Tensor


def cuts(found: Channels, layer: str) -> dict[tuple[str, int], int]:
    """(weight, axis) of a layer -> length of what it follows."""
    sizes = found.sizes()
    return {(c.weight, c.axis): sum(sizes[n] for n in c.layout) for c in found.cuts if c.layer == layer}


def free(found: Channels) -> dict[tuple[str, ...], int]:
    return {group.makers: group.size for group in found.free.values()}


def ended(net: Net, x: Tensor) -> Channels:
    return net.channels(net.dense("out", x, 3))


@pytest.mark.parametrize(
    ("kind", "gates", "bias"), [("LSTM", 4, 0), ("GRU", 3, 1), ("SimpleRNN", 1, 0)]
)  # fmt: skip
def test_each_gate_of_a_recurrent_layer_follows_what_it_makes(kind: str, gates: int, bias: int) -> None:
    net = Net()
    x = net.layer(kind, "rnn", net.input("x", 5, 6), out=(16,), units=16)
    found = ended(net, x)
    assert free(found) == {("rnn",): 16}
    assert cuts(found, "rnn") == {
        ("cell.kernel", 0): 6, ("cell.kernel", 1): 16 * gates, ("cell.recurrent_kernel", 0): 16,
        ("cell.recurrent_kernel", 1): 16 * gates, ("cell.bias", bias): 16 * gates,
    }  # fmt: skip
    assert [(c.layer, c.weight) for c in found.cuts if c.reads and c.layout in [(n,) for n in found.free]] == [
        ("rnn", "cell.recurrent_kernel"), ("out", "kernel"),
    ]  # fmt: skip
    assert macs(found.works, found.sizes()) == 5 * gates * (6 * 16 + 16 * 16) + 16 * 3


def test_directions_that_are_summed_go_together_and_side_by_side_they_do_not() -> None:
    both: dict[str, Any] = {key: {"class_name": "LSTM", "config": {"units": 8}} for key in ("layer", "backward_layer")}
    for mode, groups in (
        ("concat", {("b (forward)",): 8, ("b (backward)",): 8}), ("sum", {("b (forward)", "b (backward)"): 8}),
    ):  # fmt: skip
        net = Net()
        width = 16 if mode == "concat" else 8
        x = net.layer("Bidirectional", "b", net.input("x", 5, 6), out=(width,), merge_mode=mode, **both)
        found = ended(net, x)
        assert free(found) == groups
        assert cuts(found, "out")["kernel", 0] == width
        assert {e.key for e in found.edits if e.layer == "b"} == {"layer.config.units", "backward_layer.config.units"}


def test_attention_makes_heads_and_what_it_is_added_to() -> None:
    net = Net()
    x = net.dense("first", net.input("x", 5, 6), 16)
    h = net.layer("MultiHeadAttention", "mha", x, x, out=(5, 16), num_heads=4, key_dim=8, value_dim=2,
                  output_shape=None, attention_axes=[1])  # fmt: skip
    found = ended(net, net.same("Add", "add", x, h))
    assert free(found) == {("first", "mha"): 16, ("mha (heads)",): 4}
    assert cuts(found, "mha") == {
        **{(f"{part}_dense.kernel", 0): 16 for part in ("query", "key", "value")},
        **{(f"{part}_dense.kernel", 1): 4 for part in ("query", "key", "value")},
        **{(f"{part}_dense.bias", 0): 4 for part in ("query", "key", "value")},
        ("output_dense.kernel", 0): 4, ("output_dense.kernel", 2): 16, ("output_dense.bias", 0): 16,
    }  # fmt: skip
    projected = 5 * 16 * 4 * (8 + 8 + 2 + 2)
    assert macs(found.works, found.sizes()) == 5 * 6 * 16 + projected + 5 * 5 * 4 * (8 + 2) + 5 * 16 * 3


def test_key_and_value_go_by_their_names_in_whatever_order_they_were_given() -> None:
    """Keras writes keyword arguments in the order of the call; the second tensor need not be the value."""
    for order in (("query", "key", "value"), ("query", "value", "key"), ("value", "query", "key")):
        net = Net()
        given = {name: net.dense(name, net.input(f"{name}_in", 5, 6), size)
                 for name, size in (("query", 8), ("value", 16), ("key", 32))}  # fmt: skip
        h = net.layer("MultiHeadAttention", "mha", out=(5, 8), num_heads=4, key_dim=8, output_shape=None,
                      named={name: given[name] for name in order})  # fmt: skip
        found = ended(net, h)
        reads = {part: cuts(found, "mha")[f"{part}_dense.kernel", 0] for part in given}
        assert reads == {"query": 8, "value": 16, "key": 32}


def test_a_table_makes_channels_and_multiplies_nothing() -> None:
    net = Net()
    x = net.layer("Embedding", "table", net.input("ids", 5), out=(5, 16), input_dim=100, output_dim=16)
    found = ended(net, x)
    assert free(found) == {("table",): 16}
    assert cuts(found, "table") == {("embeddings", 1): 16}
    assert macs(found.works, found.sizes()) == 5 * 16 * 3


@pytest.mark.parametrize(
    ("kind", "config", "words"),
    [
        ("LSTM", {"units": 8, "return_state": True}, "it hands on its state"),
        ("GRU", {"units": 8, "activation": "softmax"}, "its activation mixes channels"),
        ("Bidirectional", {"merge_mode": "concat", "layer": {"class_name": "ConvLSTM1D", "config": {}}},
         "it is not of two recurrent layers"),
        ("Bidirectional", {"merge_mode": None, **{key: {"class_name": "GRU", "config": {"units": 8}}
                                                  for key in ("layer", "backward_layer")}}, "it has two outputs"),
        ("MultiHeadAttention", {"num_heads": 2, "key_dim": 4}, "more than query, value and key"),
    ],
)  # fmt: skip
def test_what_is_set_otherwise_is_held(kind: str, config: dict[str, Any], words: str) -> None:
    net = Net()
    x = net.dense("first", net.input("x", 5, 16), 16)
    found = ended(net, net.layer(kind, "it", x, out=(5, 16), **config))
    assert words in found.opaque["it"]
    assert not found.free
    assert any(f"it: {words}" in line or words in line for line in choose.why_held(found))


def test_a_mask_is_no_key() -> None:
    """A tensor by another name may have the shape of one."""
    net = Net()
    x = net.dense("first", net.input("x", 5, 16), 16)
    mask = net.input("mask", 5, 5)
    h = net.layer("MultiHeadAttention", "mha", x, x, out=(5, 16), num_heads=2, key_dim=4,
                  named={"attention_mask": mask})  # fmt: skip
    found = ended(net, h)
    assert "more than query, value and key" in found.opaque["mha"]


def test_numbers_of_a_normalization_stay_and_those_of_a_layer_scale_go_along() -> None:
    net = Net()
    x = net.same("Normalization", "norm", net.input("x", 5, 16), axis=[-1])
    x = net.same("LayerScale", "scale", net.dense("first", x, 16), projection_dim=16)
    found = ended(net, x)
    assert free(found) == {("first",): 16}
    assert cuts(found, "scale") == {("gamma", 0): 16}
    assert not found.opaque
    net = Net()
    inner = net.same("Normalization", "norm", net.dense("first", net.input("x", 5, 16), 16), axis=[-1])
    assert not free(ended(net, inner))
