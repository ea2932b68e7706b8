"""How the parts of an output differ in range: boxes of 0 … 320 and scores of 0 … 1 that share a tensor share a scale.

An int8 tensor has one scale. Where a part of an output is more than 16 times smaller than the largest, that scale
leaves it fewer than 16 of 256 levels: the scores of a detector become 0 or 1 and nothing between.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.targets.onnx import graph as g

MAX_RATIO = 16.0
MAX_PARTS = 512  # an axis longer than that counts candidates or pixels, not kinds of values


class Parts:
    """The largest magnitude of each part of each output: along each axis that may tell kinds of values apart."""

    def __init__(self) -> None:
        self._largest: dict[tuple[str, int], NDArray[np.float64]] = {}

    def add(self, outputs: Iterable[tuple[str, NDArray[Any]]]) -> None:
        """Look at the outputs of one sample: (name, array with a batch axis)."""
        for name, array in outputs:
            if array.dtype.kind != "f":
                continue
            for axis in axes(array.shape):
                others = tuple(i for i in range(array.ndim) if i != axis)
                new = np.abs(array).max(axis=others).astype(np.float64)
                old = self._largest.get((name, axis))
                self._largest[name, axis] = new if old is None else np.maximum(old, new)

    def ratios(self) -> dict[str, float]:
        """Output -> how many times larger its largest part is than its smallest that is not all 0."""
        out: dict[str, float] = {}
        for (name, _), largest in self._largest.items():
            filled = largest[(largest > 0) & np.isfinite(largest)]
            if filled.size:
                out[name] = max(out.get(name, 1.0), float(filled.max() / filled.min()))
        return out


def axes(shape: tuple[int, ...]) -> list[int]:
    """Axes that may tell kinds of values apart: channels of images, columns and rows of lists."""
    candidates = [1] if len(shape) == 4 else list(range(1, len(shape)))
    return [axis for axis in candidates if 1 < shape[axis] <= MAX_PARTS]


def tail(model: Any, output: str) -> list[Any]:
    """The nodes that serve this output alone, from it back to where weights are; nearest first.

    Left in float, the output is exact in each of its parts. A node with weights belongs to it where nothing but layout
    lies between: its own output has the parts that differ.
    """
    graph = model.graph
    producers, readers = g.producers(graph), g.consumers(graph)
    held = {tensor.name for tensor in graph.initializer}
    others = {value.name for value in graph.output} - {output}
    found: list[Any] = []
    names: set[str] = set()
    unchanged: set[str] = {output}  # tensors that hold the output's own values, all of them
    queue = [output]
    for name in queue:
        node = producers.get(name)
        if node is None or node.name in names or (name in others) or g.inner(node):
            continue
        alone = all(r.name in names for written in node.output if written != output for r in readers.get(written, ()))
        if not alone or (_weighted(node, held) and name not in unchanged):
            continue
        found.append(node)
        names.add(node.name)
        if not _weighted(node, held):
            queue.extend(node.input)
            if name in unchanged and node.op_type in g.LAYOUT - {"Concat"}:
                unchanged.add(node.input[0])
    return found


def _weighted(node: Any, held: set[str]) -> bool:
    return node.op_type in g.WEIGHTS and any(
        position < len(node.input) and node.input[position] in held for position in g.WEIGHTS[node.op_type]
    )
