"""Layers under suspicion, out of a comparison, and where they come from."""

from __future__ import annotations

from edgeship.optimize.compare.graph import Graph
from edgeship.optimize.compare.perform import Comparison, Difference


def found_layers(found: Comparison) -> Graph:
    """The graph of a again, out of the rows."""
    items = tuple(row.a for row in found.layers)
    return Graph(items, (), (), {name: layer for layer in items for name in layer.outputs})


def ranked(found: Comparison) -> list[str]:
    """Layers of a that make errors of their own, the worst first.

    An error counts in the whole tensor or in its worst channel, whichever is more: one column of a head may be lost
    while the whole looks fine. A channel cannot be lost more than once.
    """

    def harm(item: Difference) -> tuple[float, float]:
        channel = min(1.0, 10 ** (-item.made.sqnr_db / 10)) if item.made is not None else 0.0
        return max(item.added, channel), item.added

    known = [(row.a.name, harm(row.difference)) for row in found.layers if row.difference is not None]
    return [name for name, value in sorted(known, key=lambda pair: pair[1], reverse=True) if value[1] > 0]


def source_layer(tensor: str, node: str) -> str:
    """The layer of the source framework, as exporters write it into names: the part of the path before the operator."""
    name = node or tensor
    path = [part for part in name.split(";")[0].removesuffix(":0").split("/") if part]
    return path[-2] if len(path) > 1 else ""
