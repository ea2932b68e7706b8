"""Writes configurations as Keras does, without Keras: `Net` has a line a layer.

net = Net()
x = net.input("image", 8, 8, 3)
x = net.layer("Conv2D", "conv", x, out=(8, 8, 16), filters=16, kernel_size=[3, 3])
net.read(x)                                # the network whose only output is x
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeship.optimize.prune import channels, network


@dataclass(frozen=True)
class Tensor:
    """An output of a call; shape without the batch axis."""

    layer: str
    node: int
    shape: tuple[int, ...]

    def encode(self) -> dict[str, Any]:
        return {
            "class_name": "__keras_tensor__",
            "config": {"shape": [None, *self.shape], "dtype": "float32", "keras_history": [self.layer, self.node, 0]},
        }


class Net:
    """A functional model's configuration while it is written."""

    def __init__(self) -> None:
        self.layers: list[dict[str, Any]] = []

    def input(self, name: str, *shape: int) -> Tensor:
        config = {"batch_shape": [None, *shape], "dtype": "float32", "name": name}
        self.layers.append(
            {
                "module": "keras.layers",
                "class_name": "InputLayer",
                "config": config,
                "name": name,
                "inbound_nodes": [],
            }
        )
        return Tensor(name, 0, shape)

    def layer(
        self, kind: str, name: str, *given: Tensor, out: Sequence[int], constant: Any = None,
        module: str = "keras.layers", named: Mapping[str, Tensor] | None = None, **config: Any,
    ) -> Tensor:  # fmt: skip
        tensors = [tensor.encode() for tensor in given]
        args: list[Any] = [tensors] if len(given) > 1 and "ops" not in module else tensors
        keywords = {key: tensor.encode() for key, tensor in (named or {}).items()}
        node = {"args": args + ([] if constant is None else [constant]), "kwargs": keywords}
        found = next((layer for layer in self.layers if layer["name"] == name), None)
        if found is None:
            found = {
                "module": module, "class_name": kind, "config": {"name": name, **config}, "name": name,
                "build_config": {"input_shape": [None, *[*given, *(named or {}).values()][0].shape]},
                "inbound_nodes": [],
            }  # fmt: skip
            self.layers.append(found)
        found["inbound_nodes"].append(node)
        return Tensor(name, len(found["inbound_nodes"]) - 1, tuple(out))

    def conv(self, name: str, given: Tensor, filters: int, **config: Any) -> Tensor:
        """A convolution of 3 × 3 that keeps height and width."""
        out = (*given.shape[:-1], filters)
        return self.layer("Conv2D", name, given, out=out, filters=filters, kernel_size=[3, 3], **config)

    def dense(self, name: str, given: Tensor, units: int, **config: Any) -> Tensor:
        return self.layer("Dense", name, given, out=(*given.shape[:-1], units), units=units, **config)

    def same(self, kind: str, name: str, *given: Tensor, **config: Any) -> Tensor:
        """A layer that keeps the shape of its first input."""
        return self.layer(kind, name, *given, out=given[0].shape, **config)

    def config(self, *outputs: Tensor) -> dict[str, Any]:
        names = [[out.layer, out.node, 0] for out in outputs]
        return {
            "class_name": "Functional",
            "config": {"layers": self.layers, "output_layers": names if len(names) > 1 else names[0]},
            "build_config": {},
        }

    def read(self, *outputs: Tensor) -> network.Network:
        return network.read(self.config(*outputs), [[None, *out.shape] for out in outputs])

    def channels(self, *outputs: Tensor) -> channels.Channels:
        return channels.analyse(self.read(*outputs))
