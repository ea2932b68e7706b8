"""Names of the operators of a TFLite file, and which operators a user means by them."""

from __future__ import annotations

import re
from collections.abc import Collection

from edgeship.targets import naming
from edgeship.targets.tflite.inspect import builtin_names
from edgeship.targets.tflite.reader import Operator, Structure, Subgraph, Tensor

Place = tuple[int, int]  # (subgraph, operator or tensor)

#: Operators that cost accuracy when they are quantized, with weights or without; others only move values. A filter of
#: one channel, which low-pass layers have, is no matrix: its layer counts as one without weights.
COMPUTING = frozenset({
    "ABS", "ADD", "AVERAGE_POOL_2D", "BATCH_MATMUL", "CONCATENATION", "CONV_2D", "CUMSUM", "DEPTHWISE_CONV_2D", "DIV",
    "ELU", "EXP", "FULLY_CONNECTED", "GELU", "HARD_SWISH", "L2_NORMALIZATION", "LEAKY_RELU", "LOG", "LOGISTIC",
    "MAXIMUM", "MEAN", "MINIMUM", "MUL", "NEG", "PRELU", "REDUCE_MAX", "REDUCE_MIN", "RESIZE_BILINEAR", "RSQRT",
    "SELECT_V2", "SOFTMAX", "SQRT", "SQUARE", "SQUARED_DIFFERENCE", "SUB", "SUM", "TANH", "TRANSPOSE_CONV",
})  # fmt: skip


def scope(operator: Operator, graph: Subgraph) -> str:
    """Name of an operator: the tensors that it writes."""
    return ";".join(graph.tensors[i].name for i in operator.outputs)


def weights(operator: Operator, graph: Subgraph) -> tuple[Tensor, ...]:
    """The constant float matrices and kernels that an operator reads."""
    read = (graph.tensors[index] for index in operator.inputs if index >= 0)
    return tuple(t for t in read if t.constant and t.dtype == "float32" and sum(d > 1 for d in t.shape) > 1)


def source_name(tensor: str) -> str:
    """The source's layer that a tensor's name tells of.

    Converters join the names of what they fused with ";", and put the model before and the operation behind:
    "functional_1/sequential/dense_2/MatMul;…" is the layer dense_2.
    """
    first = tensor.split(";", maxsplit=1)[0]
    parts = [part for part in first.split("/") if part]
    while len(parts) > 1 and re.fullmatch(r"(functional|sequential|model|StatefulPartitionedCall)(_\d+)*", parts[0]):
        parts = parts[1:]
    if len(parts) > 1:
        parts = parts[:-1]
    return "/".join(parts) if "/" in first else first


def kept_operators(structure: Structure, keep: Collection[str]) -> frozenset[Place]:
    """(subgraph, operator) of each layer of `keep`.

    A layer goes by the tensors that it writes, by its name in the source, and, where a converter joined the names of
    what it fused with ";", by each of those; by the latter two where no other layer has them.

    Raises:
        UsageError: a name that no operator has, or that several have.
    """
    if not keep:
        return frozenset()
    kinds = builtin_names()
    known = [
        _known((number, index), operator, graph, kinds.get(structure.codes[operator.code][0], "operator"))
        for number, graph in enumerate(structure.subgraphs)
        for index, operator in enumerate(graph.operators)
    ]
    return frozenset(naming.chosen(sorted(set(keep)), known, "the float TFLite model"))


def _known(place: Place, operator: Operator, graph: Subgraph, kind: str) -> naming.Known[Place]:
    whole = scope(operator, graph)
    written = [graph.tensors[i].name for i in operator.outputs]
    parts = whole.split(";")
    return naming.Known(
        place, kind, tuple(dict.fromkeys((whole, *written))), source_name(written[0]) if written else whole,
        frozenset((*parts, *map(source_name, parts))), kind in COMPUTING or bool(weights(operator, graph)),
    )  # fmt: skip
