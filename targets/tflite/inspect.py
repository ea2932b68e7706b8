"""Reads what a TFLite file is: inputs, outputs, operators, precision. A step of `child`; no interpreter is involved."""

from __future__ import annotations

import importlib.util
import mmap
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from edgeship.errors import InputError
from edgeship.model import NAN, NAN_HINT, TEXT_HINT
from edgeship.runtime.manifest import TensorSpec
from edgeship.runtime.wire import DTYPES, TEXT
from edgeship.targets.shapes import Shapes, check_names, fitted, open_hint
from edgeship.targets.tflite.reader import Bytes, Signature, Structure, Tensor, read

_CUSTOM, _DEQUANTIZE, _GATHER = 32, 6, 36  # builtin codes
_FLOATS = ("float32", "float16", "bfloat16", "float64")
_INT8 = ("int8", "uint8", "int4", "int2")


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:  # noqa: ARG001 - the shape of every step
    """Facts of the file at `request["path"]` as `ModelFacts.parse` takes them, without sha256 and bytes."""
    with Path(request["path"]).open("rb") as file:
        if not (size := file.seek(0, 2)):
            raise InputError("the file is empty", hint="copy it again")
        with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as data:
            structure = read(data)
            _refuse_nan(structure, data)
            return describe(structure, request.get("shapes") or {})


def _refuse_nan(structure: Structure, data: Bytes) -> None:
    """Weights that are no numbers: the training diverged, or the file is damaged."""
    for graph in structure.subgraphs:
        for tensor in graph.tensors:
            if tensor.constant and tensor.dtype in ("float32", "float16"):
                at, size = structure.places[tensor.buffer], structure.buffers[tensor.buffer]
                width = 4 if tensor.dtype == "float32" else 2
                values = np.frombuffer(data[at : at + size // width * width], f"<f{width}")
                if count := int(np.isnan(values).sum()):
                    raise InputError(NAN.format(count=count, name=tensor.name), hint=NAN_HINT)


def describe(structure: Structure, given: Shapes = MappingProxyType({})) -> dict[str, Any]:
    """A structure as facts, with inputs of the shapes that were chosen.

    Raises:
        InputError: an input or output is no plain tensor.
        UsageError: a chosen shape does not fit.
    """
    signature = default_signature(structure)
    graph = structure.subgraphs[signature.subgraph]
    names = builtin_names()
    operators: Counter[str] = Counter()
    for subgraph in structure.subgraphs:
        for op in subgraph.operators:
            code, custom, _ = structure.codes[op.code]
            operators[f"custom {custom}" if code == _CUSTOM else names.get(code, f"builtin {code}")] += 1
    weights = weigh(structure)
    notes = [] if structure.signatures else ["the file has no signature: inputs and outputs go by their tensors' names"]
    state = stateful(structure)
    if state:
        notes.append(
            f"it keeps state from one run to the next ({', '.join(state[:3])}{', …' * (len(state) > 3)}): "
            "what it answers depends on what it was asked before"
        )
    gaps = any(tensor.sparse for subgraph in structure.subgraphs for tensor in subgraph.tensors)
    if gaps:
        notes.append("weights are stored without their zeros, which runtimes misread: variants hold them in full")
    check_names(given, [name for name, _ in signature.inputs])
    inputs = [
        _spec(name, _chosen(name, graph.tensors[i], given), batch_may_be_open=True) for name, i in signature.inputs
    ]
    outputs = [_spec(name, graph.tensors[i], batch_may_be_open=False) for name, i in signature.outputs if not given]
    if given:
        notes.append(f"the shapes of the outputs come from a run: {', '.join(name for name, _ in signature.outputs)}")
    return {
        "format": "tflite", "precision": _precision(structure, weights),
        "inputs": [t.encode() for t in inputs], "outputs": [t.encode() for t in outputs],
        "operators": dict(sorted(operators.items())), "parameters": weights.elements, "int8_share": weights.int8_share,
        "open_shapes": bool(given) or any(t.open_axes for s in structure.subgraphs for t in s.tensors),
        "companions": [], "notes": notes,
        "details": {
            "subgraphs": len(structure.subgraphs), "signature": signature.key if structure.signatures else None,
            "left_in_float": weights.largest_floats, "float16_share": weights.half_share,
            "state": state,
            **({"sparse": True} if gaps else {}),
            **({"shapes": {name: list(shape) for name, shape in given.items()}} if given else {}),
        },
    }  # fmt: skip


def _chosen(name: str, tensor: Tensor, given: Shapes) -> Tensor:
    if name not in given:
        return tensor
    declared = [-1 if axis in tensor.open_axes else d for axis, d in enumerate(tensor.shape)]
    return replace(tensor, shape=tuple(fitted(name, declared, given[name])), open_axes=(), open_at=())


def stateful(structure: Structure) -> list[str]:
    """Names of the tensors that outlive a run: variables of recurrent operators, and resources."""
    out: list[str] = []
    for graph in structure.subgraphs:
        read = {i for operator in graph.operators for i in operator.inputs if i >= 0}
        out += [t.name for i, t in enumerate(graph.tensors) if i in read and (t.variable or t.dtype == "resource")]
    return list(dict.fromkeys(out))


def default_signature(structure: Structure) -> Signature:
    """The signature that is served: the first, or the names of the first subgraph's tensors."""
    if structure.signatures:
        return structure.signatures[0]
    graph = structure.subgraphs[0]

    def named(indices: tuple[int, ...]) -> tuple[tuple[str, int], ...]:
        return tuple((graph.tensors[i].name, i) for i in indices)

    return Signature("", 0, named(graph.inputs), named(graph.outputs))


def _spec(name: str, tensor: Tensor, *, batch_may_be_open: bool) -> TensorSpec:
    if tensor.dtype == TEXT:
        raise InputError(f"tensor {name!r} is text, which this format cannot be served with", hint=TEXT_HINT)
    if tensor.dtype not in DTYPES:
        raise InputError(
            f"tensor {name!r} is of type {tensor.dtype}, which an agent cannot serve",
            hint="convert the source again with inputs and outputs of numbers",
        )
    if batch_may_be_open and any(axis != 0 for axis in tensor.open_axes):
        shown = [-1 if i in tensor.open_axes else d for i, d in enumerate(tensor.shape)]
        raise InputError(
            f"input {name!r} leaves more than the batch open: {shown}",
            hint=open_hint(name, shown),
        )
    shape = tuple(1 if d == -1 else d for d in tensor.shape)
    if any(d < 1 for d in shape):
        raise InputError(
            f"tensor {name!r} has the shape {list(shape)}", hint="convert the source again with fixed shapes"
        )
    scale = tensor.scale if tensor.dtype not in _FLOATS else 0.0
    return TensorSpec(name, tensor.dtype, shape, scale, tensor.zero_point if scale else 0)


# ── precision ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Weights:
    """What the weights are made of. Vectors (biases, scales of a normalization) are elements, and not in the shares."""

    elements: int
    int8_share: float  # of the elements of matrices and kernels; 1.0 where there are none
    half_share: float  # likewise
    largest_floats: list[str]  # names of the largest matrices that are float


def weigh(structure: Structure) -> Weights:
    """Count the constants that are numbers, each buffer once."""
    total = matrices = int8 = half = 0
    floats: list[tuple[int, str]] = []
    seen: set[int] = set()
    for graph in structure.subgraphs:
        for tensor in graph.tensors:
            if not tensor.constant or tensor.buffer in seen or not _is_weight(tensor):
                continue
            seen.add(tensor.buffer)
            total += tensor.elements
            if sum(d > 1 for d in tensor.shape) < 2:
                continue
            matrices += tensor.elements
            if tensor.dtype in _INT8:
                int8 += tensor.elements
            else:
                half += tensor.elements if tensor.dtype == "float16" else 0
                floats.append((tensor.elements, tensor.name))
    floats.sort(reverse=True)
    return Weights(
        total, int8 / matrices if matrices else 1.0, half / matrices if matrices else 1.0,
        [f"{name} ({count} elements)" for count, name in floats[:5]],
    )  # fmt: skip


def _is_weight(tensor: Tensor) -> bool:
    return tensor.dtype in _FLOATS or (tensor.dtype in (*_INT8, "int16", "int32") and tensor.scales > 0)


def _precision(structure: Structure, weights: Weights) -> str:
    kinds: Counter[str] = Counter()
    for graph in structure.subgraphs:
        for index in {i for op in graph.operators for i in op.outputs}:
            kinds[graph.tensors[index].dtype] += 1
    integers = kinds["int8"] + kinds["uint8"]
    if kinds["int16"] > kinds["float32"]:
        return "int16x8"
    if integers > kinds["float32"]:
        return "int8"
    matrices = any(_is_weight(t) and sum(d > 1 for d in t.shape) > 1 for s in structure.subgraphs for t in s.tensors)
    if matrices and weights.int8_share > 0.5:
        return "int8-weights" if _all_dequantized(structure) else "dynamic"
    return "float16" if matrices and weights.half_share > 0.5 else "float32"


def _all_dequantized(structure: Structure) -> bool:
    """Whether int8 matrices only go into DEQUANTIZE: what computes with them computes in float."""
    for graph in structure.subgraphs:
        for operator in graph.operators:
            if structure.codes[operator.code][0] in (_DEQUANTIZE, _GATHER):
                continue
            read = (graph.tensors[i] for i in operator.inputs if i >= 0)
            if any(t.constant and t.dtype in _INT8 and t.scales and sum(d > 1 for d in t.shape) > 1 for t in read):
                return False
    return True


def builtin_names() -> dict[int, str]:
    """Operator names of the schema that is installed; without one, operators go by number."""
    if importlib.util.find_spec("ai_edge_litert") is None:
        return {}
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    return {code: name for name, code in vars(BuiltinOperator).items() if isinstance(code, int)}
