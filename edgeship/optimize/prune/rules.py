"""What each kind of layer does to the channels that pass through it: one small function a kind.

A layer that stands in no table, or that is set in a way that its function does not know, is opaque: what goes in and
what comes out is held. `cut` weights are named by the layer's attribute.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from edgeship.optimize.prune import sequences
from edgeship.optimize.prune.channels import Layout, Spaces
from edgeship.optimize.prune.context import Context, Unknown, mixes
from edgeship.optimize.prune.network import Call, Layer, Network

Rule = Callable[[Context], Layout]


def apply(spaces: Spaces, network: Network, layer: Layer, call: Call, given: Sequence[Layout]) -> Layout:
    """The layout of a call's output."""
    context = Context(spaces, network, layer, call, given)
    try:
        rule = (_OPERATIONS if layer.is_operation else _LAYERS).get(layer.kind)
        if rule is None:
            raise Unknown(f"{layer.kind} is not understood")
        if layer.kind != "InputLayer" and not call.plain:
            raise Unknown("it is called with a constant")
        if layer.config.get("data_format", "channels_last") not in ("channels_last", None):
            raise Unknown("its channels come first")
        return rule(context)
    except Unknown as unknown:
        why = f"{layer.name}: {unknown}"
        spaces.opaque.setdefault(layer.name, str(unknown))
        for layout in given:
            spaces.hold(layout, why)
        spaces.hold_made(layer.name, why)
        shape = context.shape_out
        out = spaces.new(shape[-1] if shape and shape[-1] else 1)
        spaces.hold(out, why)
        return out


def _numbers(value: object) -> list[int]:
    return [int(v) for v in value] if isinstance(value, (list, tuple)) else [int(value)]  # type: ignore[call-overload]  # of a configuration


# ── layers ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _input(c: Context) -> Layout:
    size = c.shape_out[-1] if c.shape_out else None
    layout = c.spaces.new(size or 1)
    c.spaces.hold(layout, "it is an input of the model")
    return layout


def _same(c: Context) -> Layout:
    return c.one


def _activation(c: Context) -> Layout:
    if mixes(c.config.get("activation")):
        raise Unknown("it mixes channels")
    return c.one


def _softmax(_: Context) -> Layout:
    raise Unknown("it mixes channels")


def _rescaling(c: Context) -> Layout:
    if not all(isinstance(c.config.get(key, 0.0), (int, float)) for key in ("scale", "offset")):
        raise Unknown("it scales each channel by a number of its own")
    return c.one


def _conv(c: Context) -> Layout:
    if (groups := c.config.get("groups", 1)) != 1:
        return _conv_by_channel(c, groups)
    out, rank = c.made(c.config["filters"]), len(_numbers(c.config["kernel_size"]))
    c.cut("kernel", rank, c.one, reads=True)
    c.cut("kernel", rank + 1, out)
    if c.config.get("use_bias", True):
        c.cut("bias", 0, out)
    c.spaces.edit(c.layer.name, "filters", out)
    c.spaces.work(c.layer.name, c.positions() * math.prod(_numbers(c.config["kernel_size"])), c.one, out)
    return out


def _conv_by_channel(c: Context, groups: int) -> Layout:
    """A convolution of as many groups as channels is a depthwise one by another name."""
    size, kernel = c.spaces.size(c.one), _numbers(c.config["kernel_size"])
    if not groups == c.config["filters"] == size or mixes(c.config.get("activation")):
        raise Unknown("it is a grouped convolution")
    c.cut("kernel", len(kernel) + 1, c.one)
    if c.config.get("use_bias", True):
        c.cut("bias", 0, c.one)
    for key in ("filters", "groups"):
        c.spaces.edit(c.layer.name, key, c.one)
    c.spaces.work(c.layer.name, c.positions() * math.prod(kernel), c.one, None)
    return c.one


def _conv_transpose(c: Context) -> Layout:
    out, kernel = c.made(c.config["filters"]), _numbers(c.config["kernel_size"])
    c.cut("kernel", len(kernel) + 1, c.one, reads=True)
    c.cut("kernel", len(kernel), out)
    if c.config.get("use_bias", True):
        c.cut("bias", 0, out)
    c.spaces.edit(c.layer.name, "filters", out)
    c.spaces.work(c.layer.name, math.prod(d or 1 for d in c.shape_in[1:-1]) * math.prod(kernel), c.one, out)
    return out


def _depthwise(c: Context) -> Layout:
    if c.config.get("depth_multiplier", 1) != 1:
        raise Unknown("its depth multiplier is not 1")
    if mixes(c.config.get("activation")):
        raise Unknown("its activation mixes channels")
    kernel = _numbers(c.config["kernel_size"])
    c.cut("kernel", len(kernel), c.one)
    if c.config.get("use_bias", True):
        c.cut("bias", 0, c.one)
    c.spaces.work(c.layer.name, c.positions() * math.prod(kernel), c.one, None)
    return c.one


def _separable(c: Context) -> Layout:
    if c.config.get("depth_multiplier", 1) != 1:
        raise Unknown("its depth multiplier is not 1")
    out, kernel = c.made(c.config["filters"]), _numbers(c.config["kernel_size"])
    rank = len(kernel)
    c.cut("depthwise_kernel", rank, c.one)
    c.cut("pointwise_kernel", rank, c.one, reads=True)
    c.cut("pointwise_kernel", rank + 1, out)
    if c.config.get("use_bias", True):
        c.cut("bias", 0, out)
    c.spaces.edit(c.layer.name, "filters", out)
    c.spaces.work(c.layer.name, c.positions() * math.prod(kernel), c.one, None)
    c.spaces.work(c.layer.name, c.positions(), c.one, out)
    return out


def _dense(c: Context) -> Layout:
    out = c.made(c.config["units"])
    if c.config.get("lora_rank") or c.config.get("quantization_config"):
        raise Unknown("it has a low-rank or quantized kernel")
    c.cut("kernel", 0, c.one, reads=True)
    c.cut("kernel", 1, out)
    if c.config.get("use_bias", True):
        c.cut("bias", 0, out)
    c.spaces.edit(c.layer.name, "units", out)
    c.spaces.work(c.layer.name, c.positions(), c.one, out)
    return out


def _last_axis(c: Context) -> None:
    axes = _numbers(c.config.get("axis", -1))
    if axes not in ([-1], [len(c.shape_in) - 1]):
        raise Unknown(f"it normalizes over the axes {axes}")


def _batch_norm(c: Context) -> Layout:
    _last_axis(c)
    weights = ["moving_mean", "moving_variance"]
    weights += ["gamma"] * bool(c.config.get("scale", True)) + ["beta"] * bool(c.config.get("center", True))
    for weight in weights:
        c.cut(weight, 0, c.one)
    return c.one


def _layer_norm(c: Context) -> Layout:
    _last_axis(c)
    for weight, setting in (("gamma", "scale"), ("beta", "center")):
        if c.config.get(setting, True):
            c.cut(weight, 0, c.one)
    c.spaces.normalize(c.one)
    return c.one


def _normalization(c: Context) -> Layout:
    """Numbers of its own for each channel, which are no weights; most often of the model's input."""
    c.spaces.hold(c.one, f"{c.layer.name} has numbers for each channel that are no weights")
    return c.one


def _layer_scale(c: Context) -> Layout:
    c.cut("gamma", 0, c.one)
    c.spaces.edit(c.layer.name, "projection_dim", c.one)
    return c.one


def _prelu(c: Context) -> Layout:
    rank = len(c.shape_in) - 1
    shared = _numbers(c.config.get("shared_axes") or [])
    if rank not in shared and -1 not in shared:
        c.cut("alpha", rank - 1, c.one)
    return c.one


def _merge(c: Context) -> Layout:
    """Operands meet channel by channel; one with a single channel, or a number, is stretched over all."""
    wide = [layout for layout in c.given if c.spaces.size(layout) > 1]
    for other in wide[1:]:
        c.spaces.tie(wide[0], other, c.layer.name)
    return wide[0] if wide else c.given[0]


def _concatenate(c: Context) -> Layout:
    rank = len(c.shape_in)
    if int(c.config.get("axis", -1)) in (-1, rank - 1):
        return tuple(space for layout in c.given for space in layout)
    for other in c.given[1:]:
        c.spaces.tie(c.given[0], other, c.layer.name)
    return c.given[0]


def _flatten(c: Context) -> Layout:
    places = c.shape_in[1:-1]
    if any(d is None for d in places):
        raise Unknown("the shape of its input is not fixed")
    return c.one * math.prod(d or 1 for d in places)


def _reshape(c: Context) -> Layout:
    """Understood where channels stay last, or where it does what Flatten does."""
    given, wanted = c.shape_in, c.shape_out
    target = list(c.config["target_shape"])
    if wanted is None or any(d is None for d in (*given[1:], *wanted[1:])):
        raise Unknown("its shapes are not fixed")
    layout = c.one if given[-1] == wanted[-1] else _flatten(c) if len(wanted) == 2 else None
    if layout is None:
        raise Unknown("it moves channels to another axis")
    if target[-1] != -1:
        c.spaces.edit(c.layer.name, "target_shape", layout, len(target) - 1)
    return layout


_SAME = (
    "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "GaussianNoise", "GaussianDropout",
    "AlphaDropout", "ActivityRegularization", "Identity", "ReLU", "LeakyReLU", "ELU", "StochasticDepth",
    "MaxPooling1D", "MaxPooling2D", "MaxPooling3D", "AveragePooling1D", "AveragePooling2D", "AveragePooling3D",
    "GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling3D",
    "GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPooling3D",
    "ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D", "Cropping1D", "Cropping2D", "Cropping3D",
    "UpSampling1D", "UpSampling2D", "UpSampling3D",
)  # fmt: skip

_LAYERS: Mapping[str, Rule] = {
    "InputLayer": _input, "Activation": _activation, "Softmax": _softmax, "Rescaling": _rescaling,
    "Conv1D": _conv, "Conv2D": _conv, "Conv3D": _conv,
    "Conv1DTranspose": _conv_transpose, "Conv2DTranspose": _conv_transpose, "Conv3DTranspose": _conv_transpose,
    "DepthwiseConv1D": _depthwise, "DepthwiseConv2D": _depthwise,
    "SeparableConv1D": _separable, "SeparableConv2D": _separable, "Dense": _dense,
    "BatchNormalization": _batch_norm, "LayerNormalization": _layer_norm, "PReLU": _prelu,
    "Concatenate": _concatenate, "Flatten": _flatten, "Reshape": _reshape,
    "Normalization": _normalization, "LayerScale": _layer_scale, "Embedding": sequences.embedding,
    "MultiHeadAttention": sequences.attention, "Bidirectional": sequences.bidirectional,
    **dict.fromkeys(sequences.GATES, sequences.recurrent),
    **dict.fromkeys(("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"), _merge),
    **dict.fromkeys(_SAME, _same),
}  # fmt: skip

#: Operations on tensors, `x + y` and `keras.ops.relu(x)`.
_OPERATIONS: Mapping[str, Rule] = {
    **dict.fromkeys(("Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Maximum", "Minimum"), _merge),
    **dict.fromkeys(
        ("Relu", "Relu6", "Sigmoid", "Silu", "Swish", "HardSigmoid", "HardSilu", "HardSwish", "Gelu", "Tanh", "Elu",
         "LeakyRelu", "Softplus", "Softsign", "Selu", "Mish", "Square", "Sqrt", "Abs", "Absolute", "Negative"),
        _same,
    ),
}  # fmt: skip
