"""Gives operators that are treated differently constants of their own, and stores once what came out alike.

Layers may share a kernel: nine octaves of a spectrogram do. The quantizer copies a constant that is to become different
things, but cannot put a DEQUANTIZE behind its copy: the copy's name is text there, and bytes are wanted
(ai-edge-quantizer 0.10). So int8 weights that are computed with in float could not be told of one of the sharers alone.

The int8 weights of both are the same bytes afterwards: tensors of a file may share a buffer.
"""

from __future__ import annotations

import copy
import hashlib
from collections import defaultdict
from collections.abc import Sequence

from edgeship.targets.tflite.plan import Treatment
from edgeship.targets.tflite.prepare import packed
from edgeship.targets.tflite.reader import Structure, read
from edgeship.targets.tflite.unpack import unpacked

SMALL = 64  # bytes: less is not worth packing the file anew


def apart(data: bytes, structure: Structure, treatments: Sequence[Treatment]) -> bytes:
    """The file with a copy of each float constant for each way in which its readers are treated.

    Args:
        data: a float file with a signature and unique names.
        structure: of the same.
        treatments: of all its operators.

    Returns:
        the same bytes where no constant has readers that differ; else tensors and buffers are added behind the others.
    """
    readers: dict[tuple[int, int], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for item in treatments:
        graph = structure.subgraphs[item.subgraph]
        for index in {*graph.operators[item.operator].inputs}:
            if index >= 0 and graph.tensors[index].constant and graph.tensors[index].dtype == "float32":
                readers[item.subgraph, index][item.how].append(item.operator)
    differing = {place: ways for place, ways in readers.items() if len(ways) > 1}
    if not differing:
        return data
    model = unpacked(data)
    for (subgraph, index), ways in differing.items():
        graph = model.subgraphs[subgraph]
        for how, operators in list(ways.items())[1:]:
            made = copy.copy(graph.tensors[index])
            made.name = graph.tensors[index].name + f"/{how}".encode()
            made.buffer = len(model.buffers)
            model.buffers.append(copy.copy(model.buffers[graph.tensors[index].buffer]))
            for operator in operators:
                inputs = graph.operators[operator].inputs
                graph.operators[operator].inputs = [len(graph.tensors) if i == index else i for i in inputs]
            graph.tensors.append(made)
    return packed(model, len(data))


def once(data: bytes) -> bytes:
    """The file with constants of the same bytes stored once; the same bytes where none are, or small ones alone."""
    structure = read(data)
    same: dict[int, int] = {}  # buffer -> an earlier one that holds the same
    seen: dict[tuple[int, bytes], int] = {}
    used = {tensor.buffer for graph in structure.subgraphs for tensor in graph.tensors if tensor.constant}
    for buffer in sorted(used):
        size, place = structure.buffers[buffer], structure.places[buffer]
        if size > SMALL:
            first = seen.setdefault((size, hashlib.sha256(data[place : place + size]).digest()), buffer)
            if first != buffer:
                same[buffer] = first
    if not same:
        return data
    model = unpacked(data)
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.buffer = same.get(tensor.buffer, tensor.buffer)
    return packed(model, len(data))
