"""Which channels of a network belong together: what goes from one place must go from all.

A *space* is a set of channels that some layer makes. The last axis of a tensor is a *layout*: spaces one after the
other, so that a concatenation is two of them and a flattened image of 7 × 7 × 64 is one space 49 times. An addition
ties the spaces of its operands, a depthwise convolution passes on its input's. What is tied is one group and is pruned
alike (Fang et al., DepGraph: Towards Any Structural Pruning, CVPR 2023, formulate it as a graph of dependencies).

What a layer does to layouts stands in `rules`. A layer that is not known there holds everything it touches in place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeship.optimize.prune.network import Network, Ref

Layout = tuple[int, ...]
Kept = Mapping[int, NDArray[np.intp]]  # group -> channels that stay, ascending


@dataclass(frozen=True)
class Group:
    """Channels that go or stay together: `makers` write them, `held` says why none may go, or is None."""

    size: int
    makers: tuple[str, ...]
    held: str | None
    normalized: bool  # a LayerNormalization takes means over them: what is left changes when some go


@dataclass(frozen=True)
class Cut:
    """An axis of a weight that follows a layout. `reads`: what the channels are multiplied with, linearly."""

    layer: str
    weight: str  # attribute of the layer, or of a part of it: `cell.kernel`
    axis: int
    layout: Layout
    reads: bool


@dataclass(frozen=True)
class Edit:
    """A number of a layer's configuration, or of a list in it, that counts channels; a key may lead into a part."""

    layer: str
    key: str
    index: int | None
    layout: Layout


@dataclass(frozen=True)
class Work:
    """Multiply-accumulate operations of a call: `each` × channels read × channels made (or just those read)."""

    layer: str
    each: int
    inputs: Layout
    outputs: Layout | None


@dataclass(frozen=True)
class Channels:
    """What `analyse` found."""

    groups: Mapping[int, Group]
    cuts: tuple[Cut, ...]
    edits: tuple[Edit, ...]
    works: tuple[Work, ...]
    opaque: Mapping[str, str]  # layer -> why it was not understood

    @property
    def free(self) -> dict[int, Group]:
        """The groups that may be pruned."""
        return {number: group for number, group in self.groups.items() if group.held is None and group.size > 1}

    def sizes(self) -> dict[int, int]:
        """Channels of each group."""
        return {number: group.size for number, group in self.groups.items()}

    def indices(self, layout: Layout, kept: Kept) -> NDArray[np.intp]:
        """Positions on an axis of this layout that stay."""
        parts, offset = [np.empty(0, np.intp)], 0
        for number in layout:
            size = self.groups[number].size
            parts.append(offset + (kept[number] if number in kept else np.arange(size)))
            offset += size
        return np.concatenate(parts)

    def owners(self, layout: Layout) -> Iterator[tuple[int, slice]]:
        """Each group of a layout and where its channels lie."""
        offset = 0
        for number in layout:
            size = self.groups[number].size
            yield number, slice(offset, offset + size)
            offset += size


def length(layout: Layout, counts: Mapping[int, int]) -> int:
    """Channels of a layout where each group has so many."""
    return sum(counts[number] for number in layout)


def macs(works: Sequence[Work], counts: Mapping[int, int]) -> int:
    """Multiply-accumulate operations for one sample where each group has so many channels."""
    return sum(
        work.each * length(work.inputs, counts) * (1 if work.outputs is None else length(work.outputs, counts))
        for work in works
    )


class Spaces:
    """Layouts while they are being found: union–find over spaces, and what was seen on the way."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._size: list[int] = []
        self._held: dict[int, str] = {}
        self._normalized: set[int] = set()
        self._makers: dict[int, list[str]] = {}
        self._made: dict[str, Layout] = {}
        self._cuts: dict[tuple[str, str, int], tuple[Layout, bool]] = {}
        self._edits: dict[tuple[str, str, int | None], Layout] = {}
        self._works: list[Work] = []
        self.opaque: dict[str, str] = {}

    def new(self, size: int) -> Layout:
        """A space of its own."""
        self._parent.append(len(self._parent))
        self._size.append(size)
        return (len(self._parent) - 1,)

    def made(self, layer: str, size: int) -> Layout:
        """What a layer makes; the same for each call of it."""
        if layer not in self._made:
            self._made[layer] = self.new(size)
            self._makers[self._made[layer][0]] = [layer]
        return self._made[layer]

    def hold_made(self, layer: str, why: str) -> None:
        """None of what a layer or a part of it, `layer (part)`, makes may go."""
        for maker, layout in self._made.items():
            if maker == layer or maker.startswith(f"{layer} ("):
                self.hold(layout, why)

    def size(self, layout: Layout) -> int:
        """Channels of a layout."""
        return sum(self._size[self._root(space)] for space in layout)

    def hold(self, layout: Layout, why: str) -> None:
        """None of these may go."""
        for space in layout:
            self._held[self._root(space)] = why

    def normalize(self, layout: Layout) -> None:
        """A mean is taken over these."""
        self._normalized.update(self._root(space) for space in layout)

    def tie(self, one: Layout, other: Layout, where: str) -> None:
        """Channel by channel these are the same."""
        if [self.size((s,)) for s in one] != [self.size((s,)) for s in other]:
            for layout in (one, other):
                self.hold(layout, f"{where} joins channels that are composed differently")
            return
        for left, right in zip(one, other, strict=True):
            a, b = self._root(left), self._root(right)
            if a == b:
                continue
            self._parent[b] = a
            self._makers.setdefault(a, []).extend(self._makers.pop(b, []))
            if b in self._held:
                self._held.setdefault(a, self._held.pop(b))
            if b in self._normalized:
                self._normalized.add(a)

    def cut(self, layer: str, weight: str, axis: int, layout: Layout, *, reads: bool = False) -> None:
        """An axis of a weight follows a layout; another call of the layer ties the two."""
        before = self._cuts.setdefault((layer, weight, axis), (layout, reads))[0]
        if before != layout:
            self.tie(before, layout, layer)

    def edit(self, layer: str, key: str, layout: Layout, index: int | None = None) -> None:
        """A setting counts these channels."""
        before = self._edits.setdefault((layer, key, index), layout)
        if before != layout:
            self.tie(before, layout, layer)

    def work(self, layer: str, each: int, inputs: Layout, outputs: Layout | None) -> None:
        """A call multiplies so often."""
        self._works.append(Work(layer, each, inputs, outputs))

    def _root(self, space: int) -> int:
        while self._parent[space] != space:
            self._parent[space] = self._parent[self._parent[space]]
            space = self._parent[space]
        return space

    def result(self) -> Channels:
        """Everything, with spaces that are tied named by one number."""

        def resolve(layout: Layout) -> Layout:
            return tuple(self._root(space) for space in layout)

        groups = {
            space: Group(
                self._size[space], tuple(self._makers.get(space, ())), self._held.get(space), space in self._normalized
            )
            for space in range(len(self._parent))
            if self._parent[space] == space
        }
        return Channels(
            groups,
            tuple(Cut(*key, resolve(layout), reads) for key, (layout, reads) in self._cuts.items()),
            tuple(Edit(*key, resolve(layout)) for key, layout in self._edits.items()),
            tuple(
                Work(w.layer, w.each, resolve(w.inputs), None if w.outputs is None else resolve(w.outputs))
                for w in self._works
            ),
            dict(self.opaque),
        )


def analyse(network: Network) -> Channels:
    """The groups of a network's channels. Outputs, inputs and what is not understood are held."""
    from edgeship.optimize.prune import rules

    spaces = Spaces()
    layouts: dict[Ref, Layout] = {}
    for call in network.calls:
        layer = network.layers[call.layer]
        given = [layouts.get(ref) or _plain(spaces, network, ref) for ref in call.inputs]
        layouts[call.output] = rules.apply(spaces, network, layer, call, given)
    for ref in network.outputs:
        spaces.hold(layouts.get(ref, ()), "it is an output of the model")
    return spaces.result()


def _plain(spaces: Spaces, network: Network, ref: Ref) -> Layout:
    """A second output of a layer: held, as nothing says what it is made of."""
    shape = network.shape(ref)
    layout = spaces.new(shape[-1] if shape and shape[-1] else 1)
    spaces.hold(layout, f"{ref[0]} is not understood")
    return layout
