"""Cuts a part out of a TFLite model as a model of its own: operators, what they read, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeship.targets.tflite.inspect import default_signature
from edgeship.targets.tflite.reader import read
from edgeship.targets.tflite.trace import CASTS, operator_names, pack, tensor_labels
from edgeship.targets.tflite.unpack import unpacked


def cut(path: Path, request: Mapping[str, Any], result: Path) -> dict[str, Any]:
    """Write a part of the served subgraph; as `onnx.extract.cut`."""
    data = path.read_bytes()
    structure = read(data)
    number = default_signature(structure).subgraph
    codes = operator_names(structure)
    labels = tensor_labels(structure)
    index = {label: at for at, label in enumerate(labels)}
    model = unpacked(data)
    graph = model.subgraphs[number]
    wanted = {index[name] for name in request["layers"]}
    inputs, outputs = [index[name] for name in request["inputs"]], [index[name] for name in request["outputs"]]
    needed: set[int] = set()
    chosen, nodes = [], []
    for op in reversed(graph.operators):
        writes, operator = set(map(int, op.outputs)), codes[op.opcodeIndex]
        if writes & wanted or (operator in CASTS and writes & needed and not writes & set(inputs)):
            chosen.append(op)
            needed |= {int(i) for i in op.inputs if i >= 0}
            if writes & wanted:
                options = vars(op.builtinOptions) if op.builtinOptions is not None else {}
                attributes = {key: str(value) for key, value in options.items()}
                nodes.append(
                    {"name": labels[int(op.outputs[0])], "operator": operator, "node": "", "attributes": attributes}
                )
    kept = sorted(needed | {int(i) for op in chosen for i in op.outputs} | set(inputs) | set(outputs))
    place = {old: new for new, old in enumerate(kept)}
    for op in chosen:
        op.inputs = [place[int(i)] if i >= 0 else -1 for i in op.inputs]
        op.outputs = [place[int(i)] for i in op.outputs]
        if op.intermediates is not None and len(op.intermediates):
            op.intermediates = None
    used = {int(graph.tensors[old].buffer) for old in kept}
    for at, buffer in enumerate(model.buffers):
        if at not in used:
            buffer.data = None
    for old in kept:
        graph.tensors[old].name = labels[old].encode()
    graph.tensors = [graph.tensors[old] for old in kept]
    graph.operators = chosen[::-1]
    graph.inputs, graph.outputs = [place[i] for i in inputs], [place[i] for i in outputs]
    model.signatureDefs, model.metadata, model.metadataBuffer = None, None, None
    result.write_bytes(pack(model, len(data)))
    return {"nodes": nodes[::-1]}
