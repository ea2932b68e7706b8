"""Rounds weights to int8 by what their layer reads, so that its answers stay rather than each weight.

Rounded to the nearest step, each weight is off by up to half of one, and a sum of many such errors is what a layer's
answers are off by: e · x for a row of errors e and inputs x, on average over the data eᵀ C e, where C holds the means
of x xᵀ. Rounding some weights the other way makes these errors cancel. One weight after the other is set to the step
that is best while the others stay (K. Behdin et al., QuantEase, 2023, arXiv:2309.01885), from the nearest steps on, a
few times over. What the answers are off by on average goes to the layer's bias (M. Nagel et al., 2019,
arXiv:1906.04721), so where there is one, C is taken about the mean.

What a layer of an int8 model reads is rounded too. Weights of inputs that the data hardly moves could be any for the
exact data; what rounding added to these inputs would come out multiplied. So C has the noise of the inputs on its
diagonal: Δ² / 12 of their own step Δ, and a share of their energy for what the layers before were off by. Without it
int8 text recognition answered worse with fitted weights than with the nearest.

The largest weight of a channel keeps its step, ±127: a quantizer that takes a channel's scale from its largest weight
finds the very integers that were chosen here. So both formats' quantizers are served as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

INT8_LARGEST = 127  # symmetric steps, as both formats have them

SAMPLES = 256  # that are looked at, at most
POSITIONS = 1024  # of a layer in one sample, at most: neighbours see much the same
ROWS = 1 << 16  # of a layer over all samples, about: more say little new, and a sum over them takes long
MOST_INPUTS = 5120  # of a channel; C has their square
MEMORY = 256 << 20  # bytes for all C that are collected in one run over the samples
SWEEPS = 3
UPSTREAM = 0.1  # of an int8 input's energy are errors of the layers before: 10 dB, what deep nets have
_BLUR = np.float32(1e-5)  # of an input's energy is all that sums of float32 tell of how it varies
_BLOCK = 64  # weights of a row whose effect on the others is added up at once
FILES = _FILE, _NAMES = "fitted.npz", "fitted.json"


@dataclass(frozen=True)
class Layer:
    """A layer that multiplies what it reads by constant weights.

    Attributes:
        name: of the layer.
        weight: float32 [out, in / groups, *kernel]; without a kernel [out, in].
        groups: of channels that are computed apart.
        strides, dilations: of the kernel.
        pads: (before, after) of each place axis.
        bias: whether it has one of its own that takes a shift.
    """

    name: str
    weight: FloatArray
    groups: int = 1
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    pads: tuple[tuple[int, int], ...] = ()
    bias: bool = False

    @property
    def inputs(self) -> int:
        """Numbers that one output is a sum over."""
        return int(np.prod(self.weight.shape[1:]))

    @property
    def bytes(self) -> int:
        """That its C takes."""
        return 4 * self.groups * self.inputs**2


@dataclass(frozen=True)
class Fitted:
    """Weights on the int8 grid, in the shape of the layer's; `shift` float32 [out] is to be added to the bias."""

    weight: FloatArray
    shift: FloatArray | None


def rows(layer: Layer, values: FloatArray, most: int = POSITIONS) -> FloatArray:
    """What one sample multiplies the weights with: [groups, n, layer.inputs].

    Args:
        layer: the layer.
        values: its input; with a kernel [batch, channels, *places], else [..., in].
        most: n at most; of more places some are taken, spread evenly.
    """
    kernel = layer.weight.shape[2:]
    if not kernel:
        flat = values.reshape(-1, layer.inputs)
        return flat[_spread(len(flat), most)][None]
    padded = np.pad(values, ((0, 0), (0, 0), *layer.pads))
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, layer.dilations, strict=True)]
    axes = tuple(range(2, 2 + len(kernel)))
    view = np.lib.stride_tricks.sliding_window_view(padded, spans, axes)
    view = view[(slice(None), slice(None), *(slice(None, None, s) for s in layer.strides))]
    view = view[(*(slice(None) for _ in range(2 + len(kernel))), *(slice(None, None, d) for d in layer.dilations))]
    view = np.moveaxis(view, 1, len(kernel) + 1)  # [batch, *places, channels, *kernel]
    places = view.shape[: len(kernel) + 1]
    chosen = np.unravel_index(_spread(int(np.prod(places)), most), places)
    picked = view[chosen]  # [n, channels, *kernel]
    return np.ascontiguousarray(picked.reshape(len(picked), layer.groups, -1).transpose(1, 0, 2))


def _spread(count: int, most: int) -> NDArray[np.intp]:
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.intp))


def positions(samples: int) -> int:
    """Places of a layer to look at in each of so many samples."""
    return max(1, min(POSITIONS, ROWS // max(min(samples, SAMPLES), 1)))


def same(size: int, kernel: int, stride: int, dilation: int, *, upper: bool = True) -> tuple[int, int]:
    """(before, after) of a place axis padded so that there are size / stride outputs; `upper`: the odd one behind."""
    outputs = -(-size // stride)
    whole = max((outputs - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return (whole // 2, whole - whole // 2) if upper else (whole - whole // 2, whole // 2)


class Moments:
    """What is kept of everything that a layer reads: means of x and of x xᵀ, for each group.

    Args:
        layer: the layer.
        most: places of a sample that are looked at, at most.
        levels: that what it reads will be rounded to, 256 for int8; 0: it reads floats.
    """

    def __init__(self, layer: Layer, most: int = POSITIONS, levels: int = 0) -> None:
        self._layer, self._most, self._levels = layer, most, levels
        self._low = self._high = 0.0
        self._second = np.zeros((layer.groups, layer.inputs, layer.inputs), np.float32)
        self._first = np.zeros((layer.groups, layer.inputs), np.float64)
        self.count = 0

    def add(self, values: FloatArray) -> None:
        """The layer's input in one sample, as `rows` takes it. What holds numbers that are none is passed over."""
        seen = rows(self._layer, np.asarray(values, np.float32), self._most)
        if not seen.shape[1] or not np.isfinite(seen).all():
            return
        self._second += np.matmul(seen.transpose(0, 2, 1), seen)
        self._first += seen.sum(axis=1, dtype=np.float64)
        self._low, self._high = min(self._low, float(seen.min())), max(self._high, float(seen.max()))
        self.count += seen.shape[1]

    def fit(self) -> Fitted:
        """The layer's weights on the int8 grid."""
        layer = self._layer
        shape = layer.weight.shape
        weight = layer.weight.reshape(layer.groups, shape[0] // layer.groups, -1).astype(np.float32)
        largest = np.abs(weight).max(axis=2, keepdims=True)
        scale = np.where(largest > 0, largest / np.float32(INT8_LARGEST), np.float32(1)).astype(np.float32)
        exact = weight / scale
        steps = np.clip(np.rint(exact), -INT8_LARGEST, INT8_LARGEST)
        mean = (self._first / max(self.count, 1)).astype(np.float32)
        if self.count:
            steps = _descend(exact, steps, self._about(mean if layer.bias else np.zeros_like(mean)))
        made = (steps * scale).astype(np.float32)
        shift = np.einsum("gok,gk->go", weight - made, mean).reshape(-1).astype(np.float32) if layer.bias else None
        return Fitted(made.reshape(shape), shift)

    def _about(self, mean: FloatArray) -> FloatArray:
        """Means of (x − mean)(x − mean)ᵀ, with the noise of x on the diagonal.

        What few rows say of two inputs together counts less than what they say of each alone.
        """
        out = self._second / np.float32(self.count) - mean[:, :, None] * mean[:, None, :]
        own = np.maximum(np.einsum("gkk->gk", out), 0)
        out *= np.float32(self.count / (self.count + self._layer.inputs))
        places = np.arange(self._layer.inputs)
        share, noise = 1e-3, _BLUR * np.einsum("gkk->gk", self._second) / np.float32(self.count) + np.float32(1e-30)
        if self._levels:
            share += UPSTREAM * (256 / self._levels) ** 2
            noise += np.float32(((self._high - self._low) / (self._levels - 1)) ** 2 / 12)
        out[:, places, places] = own * np.float32(1 + share) + noise
        return out


def _descend(exact: FloatArray, steps: FloatArray, moments: FloatArray) -> FloatArray:
    """Steps [groups, out, in] near `exact` whose errors cancel best under `moments` [groups, in, in]."""
    steps = steps.copy()
    fixed = np.abs(exact).argmax(axis=2)
    error = exact - steps
    pull = np.matmul(error, moments)
    inputs = exact.shape[2]
    own = np.einsum("gkk->gk", moments)
    for _ in range(SWEEPS):
        changed = False
        for begin in range(0, inputs, _BLOCK):
            block = slice(begin, min(begin + _BLOCK, inputs))
            near, inside = pull[:, :, block].copy(), moments[:, block, block]
            moved = np.zeros_like(near)
            for at, k in enumerate(range(block.start, block.stop)):
                wanted = steps[:, :, k] + near[:, :, at] / own[:, None, k]
                new = np.clip(np.rint(wanted), -INT8_LARGEST, INT8_LARGEST)
                new = np.where(fixed == k, steps[:, :, k], new)
                delta = steps[:, :, k] - new  # what the error grows by
                if delta.any():
                    near += delta[:, :, None] * inside[:, at, None, :]
                    moved[:, :, at] = delta
                    steps[:, :, k] = new
            if moved.any():
                changed = True
                pull += np.matmul(moved, moments[:, block, :])
        if not changed:
            break
    return steps


def in_memory(layers: Sequence[Layer], limit: int = MEMORY) -> Iterator[list[Layer]]:
    """The layers that can be fitted, in lots that are collected in one run over the samples each."""
    lot: list[Layer] = []
    room = limit
    for layer in layers:
        if layer.inputs > MOST_INPUTS or not np.isfinite(layer.weight).all():
            continue
        if lot and layer.bytes > room:
            yield lot
            lot, room = [], limit
        lot.append(layer)
        room -= layer.bytes
    if lot:
        yield lot


def save(fitted: Mapping[str, Fitted], folder: Path) -> None:
    """Write what `load` reads."""
    arrays: dict[str, Any] = {}
    for number, item in enumerate(fitted.values()):
        arrays[f"weight{number}"] = item.weight
        if item.shift is not None:
            arrays[f"shift{number}"] = item.shift
    np.savez(folder / _FILE, **arrays)
    (folder / _NAMES).write_text(json.dumps([*fitted]), encoding="utf-8")


def load(folder: Path) -> dict[str, Fitted]:
    """Layer's name -> its weights."""
    names = json.loads((folder / _NAMES).read_text(encoding="utf-8"))
    with np.load(folder / _FILE, allow_pickle=False) as arrays:
        return {name: Fitted(arrays[f"weight{i}"], arrays.get(f"shift{i}")) for i, name in enumerate(names)}
