"""The layers of a model as data, which layers of two models belong together, and where an error comes from.

Pure: nothing is read and nothing run here.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Layer:
    """One operator, named by the first tensor that it writes."""

    name: str
    operator: str
    node: str  # the operator's own name; "" where the format has none
    inputs: tuple[str, ...]  # tensors of other layers, or inputs of the model
    outputs: tuple[str, ...]
    shape: tuple[int, ...] | None  # of the first tensor; 0 where a dimension is open, None where it is not known
    weights: int  # bytes of its constants
    read: Any  # how a trace asks for the first tensor; None where it has no real value


@dataclass(frozen=True)
class Graph:
    """A model's layers in the order they run in."""

    layers: tuple[Layer, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    by_tensor: Mapping[str, Layer] = field(default_factory=dict)  # tensor -> the layer that writes it

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Graph:
        """From what the step `targets.layers` answered."""
        layers = tuple(
            Layer(
                str(item["name"]), str(item["operator"]), str(item["node"]), tuple(map(str, item["inputs"])),
                tuple(map(str, item["outputs"])), None if item["shape"] is None else tuple(map(int, item["shape"])),
                int(item["weights"]), item["read"],
            )
            for item in data["layers"]
        )  # fmt: skip
        writers = {name: layer for layer in layers for name in layer.outputs}
        return cls(layers, tuple(map(str, data["inputs"])), tuple(map(str, data["outputs"])), writers)


def labels(graph: Graph) -> dict[str, str]:
    """Layer -> a short name for people: of a fused TFLite layer the first part, without the path that all share."""
    firsts = {layer.name: layer.name.split(";")[0].removesuffix(":0") for layer in graph.layers}
    paths = [name.split("/") for name in firsts.values() if "/" in name]
    shared = 0
    while paths and all(len(path) > shared + 2 and path[shared] == paths[0][shared] for path in paths):
        shared += 1
    prefix = "/".join(paths[0][:shared]) + "/" if shared else ""
    short = {name: first.removeprefix(prefix) for name, first in firsts.items()}
    return short if len(set(short.values())) == len(short) else {name: name for name in firsts}


def match(a: Graph, b: Graph) -> dict[str, str]:
    """Layers of `a` to layers of `b`: by name; the others by order where operator and size agree.

    Names change from one export to the next, so what no name settles is aligned as a
    sequence: the longest common blocks of kind and shape, then of kind and size.

    Returns:
        Name in a -> name in b; layers without a partner are not in it.
    """
    there = {layer.name: layer for layer in b.layers}
    found: dict[str, str] = {}
    for layer in a.layers:
        other = there.get(layer.name)
        if other is not None and _sizes_agree(layer, other):
            found[layer.name] = layer.name
    taken = set(found.values())
    left = [layer for layer in a.layers if layer.name not in found]
    right = [layer for layer in b.layers if layer.name not in taken]
    for key in (_kind_and_shape, _size):
        one, two = [key(x) for x in left], [key(x) for x in right]
        for at, to, count in difflib.SequenceMatcher(None, one, two, autojunk=False).get_matching_blocks():
            found |= {left[at + i].name: right[to + i].name for i in range(count) if one[at + i] is not None}
        taken = set(found.values())
        left = [x for x in left if x.name not in found]
        right = [x for x in right if x.name not in taken]
    return found


def _sizes_agree(a: Layer, b: Layer) -> bool:
    return (
        a.shape is None or b.shape is None or 0 in a.shape or 0 in b.shape or math.prod(a.shape) == math.prod(b.shape)
    )


def _kind(layer: Layer) -> str:
    """The same word for one operator in both formats and precisions: CONV_2D, Conv and QLinearConv are conv."""
    name = layer.operator.rpartition(".")[2].lower().replace("_", "").removeprefix("qlinear").removeprefix("q")
    name = name.removesuffix("integer").removesuffix("2d")
    return {"fullyconnected": "gemm", "batchmatmul": "matmul"}.get(name, name)


def _kind_and_shape(layer: Layer) -> tuple[str, tuple[int, ...] | None] | None:
    return None if layer.shape is None else (_kind(layer), layer.shape)


def _size(layer: Layer) -> tuple[str, int] | None:
    return None if layer.shape is None else (_kind(layer), math.prod(layer.shape))


def added(graph: Graph, noise: Mapping[str, float]) -> dict[str, float]:
    """What each layer adds to the noise that comes in: the estimate for layers that cannot be run by themselves.

    Args:
        graph: of the reference model.
        noise: layer -> Σd²/Σa² of what it writes, for the layers that were measured.

    Returns:
        Layer -> its noise less the largest among the nearest measured layers before it, never below 0. A layer that
        only passes on what it was given adds nothing.
    """
    out: dict[str, float] = {}
    before: dict[str, float] = {}  # of every layer, measured or not: what reaches its readers
    for layer in graph.layers:
        writers = [graph.by_tensor[name].name for name in layer.inputs if name in graph.by_tensor]
        incoming = max((before.get(name, 0.0) for name in writers), default=0.0)
        own = noise.get(layer.name)
        if own is not None:
            out[layer.name] = max(0.0, own - incoming)
        before[layer.name] = incoming if own is None else own
    return out


def ranked(values: Mapping[str, float]) -> Sequence[str]:
    """Names by value, the largest first; those of the same value in their order."""
    return sorted(values, key=lambda name: -values[name])
