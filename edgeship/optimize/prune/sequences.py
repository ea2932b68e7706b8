"""What layers over sequences do to channels: recurrent ones and attention, beside the others in `rules`.

The gates of a recurrent layer stand one after the other on the last axis of its weights, each of as many channels as
the layer makes: the layout of that axis is the layer's own, once a gate. What it makes it reads again at the next step.
Attention makes heads, which go or stay whole, and reads what its three kernels read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from edgeship.optimize.prune.channels import Layout
from edgeship.optimize.prune.context import Context, Unknown, mixes
from edgeship.optimize.prune.network import Shape

GATES = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}


def recurrent(c: Context) -> Layout:
    """LSTM, GRU, SimpleRNN."""
    return _cell(c, c.layer.kind, c.config, "cell", "units", c.layer.name)


def bidirectional(c: Context) -> Layout:
    """One recurrent layer for each direction, whose outputs stand side by side or are taken together."""
    both = []
    for side, key in (("forward", "layer"), ("backward", "backward_layer")):
        inner = c.config.get(key)
        if not isinstance(inner, Mapping) or inner.get("class_name") not in GATES:
            raise Unknown("it is not of two recurrent layers of Keras")
        place, name = f"{side}_layer.cell", f"{c.layer.name} ({side})"
        both.append(_cell(c, inner["class_name"], inner["config"], place, f"{key}.config.units", name))
    mode = c.config.get("merge_mode")
    if mode == "concat":
        return both[0] + both[1]
    if mode is None:
        raise Unknown("it has two outputs")
    c.spaces.tie(both[0], both[1], c.layer.name)
    return both[0]


def _cell(c: Context, kind: str, config: Mapping[str, Any], place: str, units: str, name: str) -> Layout:
    if config.get("return_state"):
        raise Unknown("it hands on its state")
    if mixes(config.get("activation")) or mixes(config.get("recurrent_activation")):
        raise Unknown("its activation mixes channels")
    given, gates, steps = c.one, GATES[kind], c.shape_in[1]
    if steps is None:
        raise Unknown("the length of its sequences is not fixed")
    out = c.spaces.made(name, int(config["units"]))
    c.cut(f"{place}.kernel", 0, given, reads=True)
    c.cut(f"{place}.kernel", 1, out * gates)
    c.cut(f"{place}.recurrent_kernel", 0, out, reads=True)
    c.cut(f"{place}.recurrent_kernel", 1, out * gates)
    if config.get("use_bias", True):  # of a GRU two, for inputs and for what it reads again
        c.cut(f"{place}.bias", 1 if kind == "GRU" and config.get("reset_after", True) else 0, out * gates)
    c.spaces.edit(c.layer.name, units, out)
    c.spaces.work(c.layer.name, steps * gates, given, out)
    c.spaces.work(c.layer.name, steps * gates, out, out)
    return out


def attention(c: Context) -> Layout:
    """MultiHeadAttention of Keras: kernels [channels, heads, size], and [heads, size, channels] at its end."""
    if c.call.keywords or len(c.given) not in (2, 3):
        raise Unknown("it is called with more than query, value and key")
    axes = c.config.get("attention_axes")  # a layer that was built says all of them
    if axes is not None and list(axes) != list(range(1, len(c.shape_in) - 1)):
        raise Unknown("it attends over axes of its own")
    query, value = c.given[0], c.given[1]
    key = c.given[2] if len(c.given) == 3 else value
    size = int(c.config["key_dim"])
    width = int(c.config.get("value_dim") or size)
    asked = c.config.get("output_shape")
    if isinstance(asked, (list, tuple)):
        if len(asked) != 1:
            raise Unknown("its output has axes of its own")
        asked = asked[0]
    bias = c.config.get("use_bias", True)
    heads = c.spaces.made(f"{c.layer.name} (heads)", int(c.config["num_heads"]))
    out = c.spaces.made(c.layer.name, int(asked or c.spaces.size(query)))
    for part, given in (("query", query), ("key", key), ("value", value)):
        c.cut(f"{part}_dense.kernel", 0, given, reads=True)
        c.cut(f"{part}_dense.kernel", 1, heads)
        if bias:
            c.cut(f"{part}_dense.bias", 0, heads)
    c.cut("output_dense.kernel", 0, heads, reads=True)
    c.cut("output_dense.kernel", 2, out)
    if bias:
        c.cut("output_dense.bias", 0, out)
    c.spaces.edit(c.layer.name, "num_heads", heads)
    c.spaces.edit(c.layer.name, "output_shape", out)
    asking, asked_of = _places(c.call.shapes[0]), _places(c.call.shapes[1])
    for each, one, other in (
        (asking * size, query, heads), (asked_of * size, key, heads), (asked_of * width, value, heads),
        (asking * asked_of * (size + width), heads, None), (asking * width, heads, out),
    ):  # fmt: skip
        c.spaces.work(c.layer.name, each, one, other)
    return out


def _places(shape: Shape) -> int:
    if any(d is None for d in shape[1:-1]):
        raise Unknown("the length of its sequences is not fixed")
    return math.prod(d or 1 for d in shape[1:-1])


def embedding(c: Context) -> Layout:
    """A table that is looked up: it makes channels and multiplies nothing."""
    if c.config.get("lora_rank") or c.config.get("quantization_config"):
        raise Unknown("it has a low-rank or quantized table")
    out = c.made(c.config["output_dim"])
    c.cut("embeddings", 1, out)
    c.spaces.edit(c.layer.name, "output_dim", out)
    return out
