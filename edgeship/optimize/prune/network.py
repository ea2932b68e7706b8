"""A Keras functional model's configuration as calls between layers; touches no framework.

It is read as `keras.saving.serialize_keras_object` writes it. Nested models are taken apart before (`perform`), so that
every layer here is one that computes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeship.errors import ConversionError

#: A tensor: name of the layer, which of its calls, which of that call's outputs.
Ref = tuple[str, int, int]
Shape = tuple[int | None, ...]

_USUAL = ("inputs", "query", "value", "key")  # arguments that stand in this order


@dataclass(frozen=True)
class Layer:
    """A layer: its class, where the class comes from, and its settings."""

    name: str
    kind: str
    module: str
    config: Mapping[str, Any]

    @property
    def is_operation(self) -> bool:
        """One of `keras.ops` or a Python operator on tensors, which has no weights."""
        return ".ops" in self.module


@dataclass(frozen=True)
class Call:
    """One use of a layer. `plain` says whether everything else that it was given are numbers, booleans or None.

    `keywords` are names of tensors that were given by another name than those of the layers' usual arguments.
    """

    layer: str
    node: int
    inputs: tuple[Ref, ...]
    shapes: tuple[Shape, ...]  # of the inputs
    plain: bool
    keywords: tuple[str, ...] = ()

    @property
    def output(self) -> Ref:
        """Its first output."""
        return self.layer, self.node, 0


@dataclass(frozen=True)
class Network:
    """A model: calls in an order in which they can be done; shapes of tensors, batch axis included."""

    layers: Mapping[str, Layer]
    calls: tuple[Call, ...]
    outputs: tuple[Ref, ...]
    shapes: Mapping[Ref, Shape]

    def shape(self, ref: Ref) -> Shape | None:
        """Of a tensor; None where nothing says it: a tensor that nobody uses."""
        return self.shapes.get(ref)


def read(config: Mapping[str, Any], output_shapes: Sequence[Sequence[int | None]]) -> Network:
    """The network of a serialized functional model.

    Args:
        config: with "class_name" and "config".
        output_shapes: of the model's outputs, in their order.

    Raises:
        ConversionError: it is no such configuration.
    """
    inner = config["config"]
    layers, calls = dict[str, Layer](), list[Call]()
    shapes: dict[Ref, Shape] = {}
    for item in inner["layers"]:
        name = str(item.get("name") or item["config"]["name"])
        layers[name] = Layer(name, str(item["class_name"]), str(item.get("module") or ""), item["config"])
        if item["class_name"] == "InputLayer":
            shapes[name, 0, 0] = tuple(item["config"]["batch_shape"])
            calls.append(Call(name, 0, (), (), plain=True))
        for number, node in enumerate(item.get("inbound_nodes") or []):
            keywords = dict(sorted((node.get("kwargs") or {}).items(), key=_place))
            found = list(_tensors([node.get("args"), keywords]))
            shapes.update(found)
            plain = _plain([node.get("args"), keywords])
            named = tuple(key for key, value in keywords.items() if key not in _USUAL and any(_tensors(value)))
            calls.append(Call(name, number, tuple(r for r, _ in found), tuple(s for _, s in found), plain, named))
    outputs = tuple(_refs(inner["output_layers"]))
    shapes.update((ref, tuple(shape)) for ref, shape in zip(outputs, output_shapes, strict=True))
    return Network(layers, tuple(_ordered(calls)), outputs, shapes)


def _place(keyword: tuple[str, Any]) -> int:
    """Where a keyword argument stands: a configuration has them in the order in which they were written down."""
    return _USUAL.index(keyword[0]) if keyword[0] in _USUAL else len(_USUAL)


def _is_tensor(value: object) -> bool:
    return isinstance(value, dict) and value.get("class_name") == "__keras_tensor__"


def _tensors(value: Any) -> Iterator[tuple[Ref, Shape]]:
    """The tensors in the arguments of a call, in order."""
    if _is_tensor(value):
        layer, node, tensor = value["config"]["keras_history"]
        yield (str(layer), int(node), int(tensor)), tuple(value["config"]["shape"])
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)


def _plain(value: Any) -> bool:
    if _is_tensor(value) or value is None or isinstance(value, (bool, int, float)):
        return True
    if isinstance(value, dict):
        return "class_name" not in value and all(map(_plain, value.values()))
    return isinstance(value, (list, tuple)) and all(map(_plain, value))


def _refs(value: Any) -> Iterator[Ref]:
    """`output_layers`, however it is nested."""
    if isinstance(value, (list, tuple)) and len(value) == 3 and isinstance(value[0], str) and isinstance(value[1], int):
        yield value[0], value[1], int(value[2])
        return
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ():
        yield from _refs(item)


def _ordered(calls: Sequence[Call]) -> Iterator[Call]:
    """Each call after those whose outputs it takes; their own order otherwise."""
    waiting, done = list(calls), set[tuple[str, int]]()
    while waiting:
        ready = [call for call in waiting if all((layer, node) in done for layer, node, _ in call.inputs)]
        if not ready:
            raise ConversionError(f"the calls of {', '.join(sorted({c.layer for c in waiting}))} go round in a circle")
        yield from ready
        done.update((call.layer, call.node) for call in ready)
        waiting = [call for call in waiting if (call.layer, call.node) not in done]
