"""What a rule looks at: a call of a layer with the layouts that come in, and what it does to weights and spaces."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from edgeship.optimize.prune.channels import Layout, Spaces
from edgeship.optimize.prune.network import Call, Layer, Network, Shape


class Unknown(Exception):
    """The layer is set in a way that is not understood here."""


class Context:
    """A call with everything that a rule looks at."""

    def __init__(self, spaces: Spaces, network: Network, layer: Layer, call: Call, given: Sequence[Layout]) -> None:
        self.spaces, self.layer, self.call, self.given = spaces, layer, call, given
        self.config = layer.config
        self.shape_in: Shape = call.shapes[0] if call.shapes else ()
        self.shape_out: Shape | None = network.shape(call.output)

    @property
    def one(self) -> Layout:
        """The layout of the only input. Raises Unknown where there are more or none."""
        if len(self.given) != 1:
            raise Unknown(f"it takes {len(self.given)} tensors")
        return self.given[0]

    def positions(self) -> int:
        """Elements of the output for each channel of it. Raises Unknown where its shape is not fixed."""
        if self.shape_out is None or any(d is None for d in self.shape_out[1:]):
            raise Unknown("the shape of its output is not fixed")
        return math.prod(d or 1 for d in self.shape_out[1:-1])

    def cut(self, weight: str, axis: int, layout: Layout, *, reads: bool = False) -> None:
        """An axis of a weight of this layer."""
        self.spaces.cut(self.layer.name, weight, axis, layout, reads=reads)

    def made(self, count: object) -> Layout:
        """The layout of `count` channels that this layer makes. Raises Unknown where that is no number."""
        if not isinstance(count, int):
            raise Unknown("it does not say how many channels it makes")
        layout = self.spaces.made(self.layer.name, count)
        if mixes(self.config.get("activation")):
            self.spaces.hold(layout, f"the activation of {self.layer.name} mixes channels")
        return layout


def mixes(activation: object) -> bool:
    """Whether an activation reads one channel to write another."""
    name = activation.get("config") if isinstance(activation, Mapping) else activation
    return name in ("softmax", "log_softmax", "sparsemax", "glu") or (name is not None and not isinstance(name, str))
