"""Text in ONNX models: what of it a device can do without, and what would tie a file to one machine.

Inputs may be text. Outputs are compared as numbers, so one of text is left out where there are others, such as the name
of a class beside its probability; that stands in the metadata, so that it is said of every file made of it. A map from
names of classes to their probabilities, as skl2onnx makes it, is the tensor that the map is made of.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_FLOAT, _STRING = 1, 8  # TensorProto.DataType
_LEFT_OUT = "edgeship.left_out"  # key of the metadata
_DEFAULT = ("", "en_US", "en_US.UTF-8", "en_US.utf8")  # locales of StringNormalizer that stand for none in particular
_ANYWHERE = "C.UTF-8"  # part of the C library; others have to be installed, and ONNX Runtime refuses the model without


def settle(model: Any, graphs: Iterable[Any]) -> None:
    """Leave outputs of text out, in place, and let letters change case by the locale that every machine has.

    Upper and lower case are Unicode's own in both locales; those that differ, such as Turkish, stay as they are.
    """
    for graph in graphs:
        for node in graph.node:
            if node.op_type == "StringNormalizer":
                _portable(node)
    _unzip(model.graph)
    texts = [value for value in model.graph.output if value.type.tensor_type.elem_type == _STRING]
    if not texts or len(texts) == len(model.graph.output):
        return
    for value in texts:
        model.graph.output.remove(value)
    model.metadata_props.add(key=_LEFT_OUT, value=", ".join(value.name for value in texts))


def _unzip(graph: Any) -> None:
    """Outputs of ZipMap, a sequence of maps, become its input: float32 [n, classes]."""
    outputs = {value.name: value for value in graph.output}
    for node in graph.node:
        if node.op_type == "ZipMap" and node.domain == "ai.onnx.ml" and node.output[0] in outputs:
            kind = outputs[node.output[0]].type
            kind.Clear()
            kind.tensor_type.elem_type = _FLOAT
            kind.tensor_type.shape.dim.add()
            kind.tensor_type.shape.dim.add().dim_value = sum(len(a.strings) + len(a.ints) for a in node.attribute)
            node.op_type, node.domain = "Identity", ""
            del node.attribute[:]


def notes(model: Any) -> list[str]:
    """What people should know of a model that was settled."""
    names = [entry.value for entry in model.metadata_props if entry.key == _LEFT_OUT]
    return [f"an output of text is left out: {name}" for name in names]


def _portable(node: Any) -> None:
    given = next((attribute for attribute in node.attribute if attribute.name == "locale"), None)
    if given is None:
        given = node.attribute.add(name="locale", type=3)  # STRING
    if given.s.decode(errors="replace") in _DEFAULT:
        given.s = _ANYWHERE.encode()
