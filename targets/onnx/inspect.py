"""Reads what an ONNX file is: inputs, outputs, operators, precision, external data. A step of `child`.

External data is only taken as plain names of regular files in the model's own folder: a path that leads elsewhere reads
any file of the host into a model (CVE-2026-27489, -34445, -28500).
"""

from __future__ import annotations

import json
import math
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgeship.errors import InputError
from edgeship.model import NAN, NAN_HINT
from edgeship.runtime.manifest import TensorSpec
from edgeship.runtime.onnxrt import QUANTIZED
from edgeship.runtime.wire import TEXT
from edgeship.targets.onnx import shapes, stored, texts
from edgeship.targets.shapes import open_hint

MAX_DEPTH = 32  # of graphs within operators
MAX_PROTO = 1 << 31  # bytes of one message, protobuf's own limit; of a model with its external data too

#: TensorProto.DataType -> dtype name of `wire.DTYPES`.
DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: TEXT, 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64",
}  # fmt: skip

_FLOATS, _INT8 = (1, 10, 11, 16), (2, 3, 21, 22)  # 16 bfloat16; 21, 22 uint4, int4
_STATIC = {"QuantizeLinear", "QLinearConv", "QLinearMatMul"}
_DYNAMIC = {"DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"}


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:  # noqa: ARG001 - the shape of every step
    """Facts of the file at `request["path"]`, its inputs of `request["shapes"]` where given, for `ModelFacts.parse`."""
    path, given = Path(request["path"]), request.get("shapes") or {}
    model = read(path)
    shapes.put(model, given)
    facts = describe(model, path)
    _refuse_nan(model, path.parent)
    if given:
        facts["details"]["shapes"] = {name: list(shape) for name, shape in given.items()}
        facts["open_shapes"] = True
    return facts


def read(path: Path) -> Any:
    """The ModelProto, external data checked and not loaded, sparse weights in full. Raises InputError."""
    import onnx

    if (size := path.stat().st_size) >= MAX_PROTO:
        raise InputError(
            f"{size} bytes in one ONNX file: over 2 GB it cannot be read",
            hint="no device of the profiles runs a model of this size; start from a smaller one",
        )
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        raise InputError(
            f"not a sound ONNX file: {error}", hint="it may be truncated or another format: export it again"
        ) from error
    if (damaged := _no_text(model)) is not None:
        raise InputError(
            f"not a sound ONNX file: the text of a field {damaged!r} is not UTF-8",
            hint="the file is damaged: copy it again, or export it again",
        )
    for what, there in (("operators", model.opset_import and model.graph.node), ("outputs", model.graph.output)):
        if not there:
            raise InputError(f"not an ONNX model: it has no {what}", hint="it may be truncated or another format")
    total = size + sum((path.parent / name).stat().st_size for name in check_external(model, path.parent))
    if total >= MAX_PROTO:
        raise InputError(
            f"{total} bytes with its external data: over 2 GB it cannot be converted",
            hint="no device of the profiles runs a model of this size; start from a smaller one",
        )
    stored.whole(graphs(model.graph), MAX_PROTO - total)
    texts.settle(model, graphs(model.graph))
    return model


def _no_text(message: Any) -> str | None:
    """The first field of text, in a message or those within it, whose bytes are no UTF-8; protobuf gives them as bytes.

    None where all are: only then names are `str`, as the rest of the code has them.
    """
    for field, value in message.ListFields():
        if field.type not in (field.TYPE_STRING, field.TYPE_MESSAGE):
            continue
        for one in value if field.is_repeated else (value,):
            if field.type == field.TYPE_STRING:
                if isinstance(one, bytes):
                    return str(field.name)
            elif (found := _no_text(one)) is not None:
                return found
    return None


def describe(model: Any, path: Path) -> dict[str, Any]:
    """A ModelProto as facts. Raises InputError where an input or output cannot be served."""
    held = {tensor.name for tensor in model.graph.initializer}
    inputs = [_spec(value, "input") for value in model.graph.input if value.name not in held]
    outputs = [spec for value in model.graph.output if (spec := _output(value)) is not None]
    inputs, outputs = _scaled(model, inputs), _scaled(model, outputs)
    operators = Counter(
        node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
        for graph in graphs(model.graph)
        for node in graph.node
    )
    elements, share, largest = weigh(model)
    companions = check_external(model, path.parent)
    opset = opset_of(model)
    notes = [] if len(outputs) == len(model.graph.output) else [_from_a_run(model)]
    notes += texts.notes(model)
    return {
        "format": "onnx", "precision": _precision(model, operators),
        "inputs": [spec.encode() for spec in inputs],
        "outputs": [spec.encode() for spec in outputs] if len(outputs) == len(model.graph.output) else [],
        "operators": dict(sorted(operators.items())), "parameters": elements, "int8_share": share,
        "open_shapes": any(_open_axes(value) for value in model.graph.input if value.name not in held),
        "companions": companions,
        "notes": notes,
        "details": {"opset": opset, "ir": model.ir_version, "producer": model.producer_name, "left_in_float": largest},
    }  # fmt: skip


def _from_a_run(model: Any) -> str:
    return f"the shapes of the outputs come from a run: {', '.join(value.name for value in model.graph.output)}"


def _refuse_nan(model: Any, folder: Path) -> None:
    """Weights that are no numbers: the training diverged, or the file is damaged."""
    import numpy as np
    from onnx import numpy_helper

    for tensor in _tensors(model):
        if min(tensor.dims, default=0) < 0:
            raise InputError(
                f"tensor {tensor.name!r} is damaged: its shape is {list(tensor.dims)}", hint="export the model again"
            )
        if tensor.data_type not in _FLOATS:
            continue
        try:
            values = numpy_helper.to_array(tensor, str(folder))
        except Exception as error:
            raise InputError(
                f"tensor {tensor.name!r} is damaged: {' '.join(str(error).split())[:200]}",
                hint="export the model again",
            ) from error
        if count := int(np.isnan(values.astype(np.float32, copy=False)).sum()):
            raise InputError(NAN.format(count=count, name=tensor.name), hint=NAN_HINT)


def opset_of(model: Any) -> int:
    """Version of the standard operator set."""
    return next((int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)


def graphs(graph: Any, depth: int = 0) -> Iterator[Any]:
    """A graph and those within its operators (branches, loop bodies). Raises InputError when nested too deeply."""
    if depth > MAX_DEPTH:
        raise InputError(
            f"graphs nested deeper than {MAX_DEPTH}", hint="flatten branches and loops in the source, and export again"
        )
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == 5:  # GRAPH
                yield from graphs(attribute.g, depth + 1)
            elif attribute.type == 10:  # GRAPHS
                for inner in attribute.graphs:
                    yield from graphs(inner, depth + 1)


def _tensors(model: Any) -> Iterator[Any]:
    """All tensors that hold values: initializers and Constant nodes."""
    for graph in graphs(model.graph):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield sparse.values
            yield sparse.indices
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == 4:  # TENSOR
                    yield attribute.t
                elif attribute.type == 9:  # TENSORS
                    yield from attribute.tensors


def check_external(model: Any, folder: Path) -> list[str]:
    """Names of the files of external data. Raises InputError for one that is no regular file of the folder."""
    names: set[str] = set()
    for tensor in _tensors(model):
        if tensor.data_location != 1 and not tensor.external_data:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        name = entries.get("location", "")
        if not name or name in (".", "..") or "/" in name or "\\" in name or "\0" in name:
            raise InputError(
                f"tensor {tensor.name!r} keeps its data in {name!r}, which is no plain file name",
                hint="put the data file beside the model and save it with onnx.save_model(…, location='model.data')",
            )
        try:
            status = (folder / name).lstat()
        except OSError as error:
            raise InputError(
                f"its external data {name!r} is not there: {error.strerror}",
                hint="copy the data file into the model's folder",
            ) from error
        if not stat.S_ISREG(status.st_mode):
            raise InputError(
                f"its external data {name!r} is a link or no regular file",
                hint="copy the file that it leads to into the model's folder under this name: cp -L",
            )
        _check_extent(tensor, entries, status.st_size)
        names.add(name)
    return sorted(names)


def _check_extent(tensor: Any, entries: Mapping[str, str], size: int) -> None:
    try:
        offset, length = int(entries.get("offset", "0")), int(entries.get("length", "0"))
    except ValueError as error:
        raise InputError(
            f"tensor {tensor.name!r}: offset or length of its external data is no number", hint="export the model again"
        ) from error
    if offset < 0 or length < 0 or offset + length > size:
        raise InputError(
            f"tensor {tensor.name!r} wants bytes {offset} to {offset + length} of a data file of {size}",
            hint="the data file is truncated: copy it again",
        )


# ── inputs, outputs, weights ─────────────────────────────────────────────────────────────────────────────────────────


def _dims(value: Any) -> list[int] | None:
    """Dimensions, 0 where one is open; None where the rank is unknown."""
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return [int(d.dim_value) if d.HasField("dim_value") and d.dim_value > 0 else 0 for d in kind.shape.dim]


def _open_axes(value: Any) -> list[int]:
    return [axis for axis, d in enumerate(_dims(value) or []) if d == 0]


def _spec(value: Any, what: str) -> TensorSpec:
    dims, dtype = _dims(value), DTYPES.get(value.type.tensor_type.elem_type)
    if what == "output" and dtype == TEXT:
        raise InputError(
            f"output {value.name!r} is text, and there is no other: answers are compared as numbers",
            hint="export the model with the numbers that the text is chosen by",
        )
    if dtype is None or value.type.WhichOneof("value") != "tensor_type":
        map_ = value.type.WhichOneof("value") in ("sequence_type", "map_type")
        raise InputError(
            f"{what} {value.name!r} is no tensor of numbers, which an agent cannot serve",
            hint="export it as a tensor: skl2onnx has the option zipmap=False" if map_ else None,
        )
    if dims is None or any(axis != 0 for axis in _open_axes(value)):
        shown = "unknown" if dims is None else [d or "?" for d in dims]
        raise InputError(
            f"{what} {value.name!r} leaves more than the batch open: {shown}",
            hint=open_hint(value.name, dims),
        )
    return TensorSpec(value.name, dtype, tuple(d or 1 for d in dims))


def _scaled(model: Any, specs: list[TensorSpec]) -> list[TensorSpec]:
    """With the scales that edgeship wrote into the metadata of a model with int8 inputs. Raises InputError."""
    text = next((entry.value for entry in model.metadata_props if entry.key == QUANTIZED), "{}")
    try:
        scales = {name: (float(scale), int(zero)) for name, (scale, zero) in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"its metadata {QUANTIZED!r} is damaged: {error}", hint="make the model again with edgeship"
        ) from error
    return [
        TensorSpec(s.name, s.dtype, s.shape, *scales[s.name]) if s.name in scales else s for s in specs
    ]  # fmt: skip


def _output(value: Any) -> TensorSpec | None:
    """An output, or None where its shape is not declared: the batch alone may be open."""
    try:
        return _spec(value, "output")
    except InputError:
        if DTYPES.get(value.type.tensor_type.elem_type) in (None, TEXT):
            raise
        return None


def weigh(model: Any) -> tuple[int, float, list[str]]:
    """(elements of all weights, share of int8 in those of matrices and kernels, names of the largest float ones)."""
    total = matrices = int8 = 0
    floats: list[tuple[int, str]] = []
    for tensor in _tensors(model):
        if tensor.data_type not in (*_FLOATS, *_INT8):
            continue
        count = math.prod(tensor.dims)
        total += count
        if sum(d > 1 for d in tensor.dims) < 2:
            continue
        matrices += count
        if tensor.data_type in _INT8:
            int8 += count
        else:
            floats.append((count, tensor.name))
    floats.sort(reverse=True)
    share = int8 / matrices if matrices else 1.0
    return total, share, [f"{name} ({count} elements)" for count, name in floats[:5]]


def _precision(model: Any, operators: Mapping[str, int]) -> str:
    names = {name.rpartition(".")[2] for name in operators}
    if names & _DYNAMIC:
        return "dynamic"
    if names & _STATIC or any(name.startswith("QLinear") for name in names):
        return "int16x8" if _wide(model) else "int8"
    if "DequantizeLinear" in names:
        return "int8-weights"
    kinds: Counter[int] = Counter()
    for tensor in _tensors(model):
        kinds[tensor.data_type] += math.prod(tensor.dims)
    half = kinds[10] > kinds[1] and not stored.half_is_storage(model, graphs(model.graph))
    return "float16" if half else "float32"


def _wide(model: Any) -> bool:
    """Whether activations are quantized to 16 bits: their zero points say it."""
    held = {tensor.name: tensor.data_type for tensor in _tensors(model) if tensor.name}
    points = [
        held.get(node.input[2], 0)
        for graph in graphs(model.graph)
        for node in graph.node
        if node.op_type == "QuantizeLinear" and len(node.input) > 2
    ]
    return bool(points) and all(kind in (4, 5) for kind in points)  # UINT16, INT16
