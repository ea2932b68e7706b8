"""A Loop that hands weights from round to round unchanged: they become the body's own.

tf2onnx writes every recurrent layer of Keras that it does not recognise so: its kernels are values that the loop
carries, which no quantizer takes for weights. What a body hands on as it came is the same in every round, so it may as
well stand in it; nothing that is computed changes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from edgeship.targets.onnx import graph as g


def settle(graph: Any) -> None:
    """Move the initializers that a Loop carries and never changes into its body, in place, in bodies within it too.

    Args:
        graph: GraphProto; its constants are initializers.
    """
    held = {tensor.name: tensor for tensor in graph.initializer}
    read = _read(graph)
    moved = set[str]()
    for node in graph.node:
        if node.op_type == "Loop" and node.domain in ("", "ai.onnx"):
            moved |= _settle(node, held, read)
        for body in g.inner(node):
            settle(body)
    for name in moved - _read(graph):
        graph.initializer.remove(held[name])
    listed = [value for value in graph.input if value.name in moved - _read(graph)]  # as files before IR 4 do
    for value in listed:
        graph.input.remove(value)


def _read(graph: Any) -> set[str]:
    return {name for node in graph.node for name in g.reads(node)} | {value.name for value in graph.output}


def _settle(node: Any, held: Mapping[str, Any], read: Collection[str]) -> set[str]:
    """The initializers that were moved into the body of one Loop; what is read after the loop stays carried."""
    body = next(attribute.g for attribute in node.attribute if attribute.name == "body")
    source = {n.output[0]: n.input[0] for n in body.node if n.op_type == "Identity"}
    moved = set[str]()
    for index in reversed(range(len(node.input) - 2)):  # after the number of rounds and the condition
        first, value = node.input[2 + index], body.input[2 + index].name
        result = body.output[1 + index].name  # after the condition
        while result in source:
            result = source[result]
        if result != value or first not in held or (index < len(node.output) and node.output[index] in read):
            continue
        own = body.initializer.add()
        own.CopyFrom(held[first])
        own.name = value
        moved.add(first)
        del node.input[2 + index], body.input[2 + index], body.output[1 + index]
        if index < len(node.output):
            del node.output[index]
    while unread := [n for n in body.node if n.op_type == "Identity" and n.output[0] not in _read(body)]:
        for each in unread:
            body.node.remove(each)  # what handed it on
    return moved
