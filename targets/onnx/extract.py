"""Cuts a part out of an ONNX model as a model of its own, and mends what is known to fail.

A part is a run of operators: tensors that it reads of others become its inputs, with the dtypes and shapes that they
had in a run where there was one (declared shapes lie), else as inferred.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgeship.errors import ConversionError, UsageError
from edgeship.targets.onnx.inspect import DTYPES, opset_of
from edgeship.targets.onnx.trace import CASTS, captured, shapes_of

OPSET = 17


def cut(path: Path, request: Mapping[str, Any], result: Path) -> dict[str, Any]:
    """Write a part of a model.

    Args:
        path: of the model.
        request: "layers": names (first tensors) of the operators; "inputs", "outputs": tensors; "seen": input ->
            {"dtype", "shape"} of a run.
        result: the file to write.

    Returns:
        {"nodes": [{"name", "operator", "node", "attributes"}]} of the operators that were asked for.

    Raises:
        ConversionError: the type of an input is not known.
    """
    import onnx

    model = onnx.load(str(path))
    wanted, inputs = set(request["layers"]), set(request["inputs"])
    chosen = _with_constants(model, wanted, inputs)
    graph, types = model.graph, shapes_of(model)
    reads = {name for node in chosen for name in [*node.input, *captured(node)]}
    nodes = [
        {"name": node.output[0], "operator": node.op_type, "node": node.name, "attributes": _attributes(node)}
        for node in chosen
        if node.output[0] in wanted
    ]
    kept = [tensor for tensor in graph.initializer if tensor.name in reads]
    given = {value.name: value for value in graph.input}
    own = {value.name: value for value in graph.output}
    del graph.node[:], graph.initializer[:], graph.input[:], graph.output[:], graph.value_info[:]
    del graph.sparse_initializer[:], graph.quantization_annotation[:]
    graph.node.extend(chosen)
    graph.initializer.extend(kept)
    graph.input.extend(_value(name, request["seen"].get(name), given.get(name), types) for name in request["inputs"])
    for name in request["outputs"]:
        kind, declared = types.get(name, (None, 0)), own.get(name)
        if declared is not None:
            graph.output.append(declared)
        else:
            graph.output.append(
                onnx.helper.make_tensor_value_info(name, kind[1] or 1, kind[0] if _whole(kind) else None)
            )
    if request["name"]:
        graph.name = request["name"]
    onnx.save(model, str(result))
    return {"nodes": nodes}


def _with_constants(model: Any, wanted: set[str], inputs: set[str]) -> list[Any]:
    """The operators, in order, with the casts and constants that feed them."""
    needed: set[str] = set()
    chosen = []
    for node in reversed(model.graph.node):
        writes = set(node.output)
        small = node.op_type in CASTS or node.op_type == "Constant"
        if writes & wanted or (small and writes & needed and not writes & inputs):
            chosen.append(node)
            needed |= {name for name in [*node.input, *captured(node)] if name}
    return chosen[::-1]


def _whole(kind: tuple[Any, int]) -> bool:
    return kind[0] is not None and 0 not in kind[0]


def _value(name: str, seen: Mapping[str, Any] | None, declared: Any, types: Mapping[str, Any]) -> Any:
    from onnx import helper

    numbers = {dtype: code for code, dtype in DTYPES.items()}
    if seen is not None and seen["dtype"] in numbers:
        return helper.make_tensor_value_info(name, numbers[seen["dtype"]], seen["shape"])
    if declared is not None:
        return declared
    shape, kind = types.get(name, (None, 0))
    if not kind or shape is None or 0 in shape:
        raise ConversionError(
            f"the shape of tensor {name!r} is not known, so nothing can be cut there",
            hint="--shape NAME=1,… closes the model's inputs",
        )
    return helper.make_tensor_value_info(name, kind, shape)


def _attributes(node: Any) -> dict[str, str]:
    """Name -> value as text, for people; tensors and graphs by their kind."""
    out = {}
    for attribute in node.attribute:
        if attribute.type in (4, 5, 9, 10, 11):
            out[attribute.name] = {4: "tensor", 5: "graph", 9: "tensors", 10: "graphs", 11: "sparse tensor"}[
                attribute.type
            ]
            continue
        out[attribute.name] = _text(attribute)
    return out


def _text(attribute: Any) -> str:
    from onnx import helper

    value = helper.get_attribute_value(attribute)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


# ── known repairs ────────────────────────────────────────────────────────────────────────────────────────────────────


def mend(path: Path, request: Mapping[str, Any], result: Path) -> dict[str, Any]:
    """Write a model with one known repair.

    Args:
        path: of the model.
        request: "repair": one of `REPAIRS`; "layer": the operator that it is about; what the repair takes.
        result: the file to write.

    Returns:
        {"changed": whether there was anything to repair}.
    """
    import onnx

    if request["repair"] not in REPAIRS:
        raise UsageError(f"no repair {request['repair']!r}", hint=f"known are {', '.join(REPAIRS)}")
    model = onnx.load(str(path))
    model, changed = REPAIRS[request["repair"]](model, request)
    onnx.save(model, str(result))
    return {"changed": changed}


def _raise_opset(model: Any, request: Mapping[str, Any]) -> tuple[Any, bool]:  # noqa: ARG001 - alike for all repairs
    from onnx import version_converter

    if opset_of(model) >= OPSET:
        return model, False
    return version_converter.convert_version(model, OPSET), True


def _drop_attribute(model: Any, request: Mapping[str, Any]) -> tuple[Any, bool]:
    for node in model.graph.node:
        if node.output and node.output[0] == request["layer"]:
            for attribute in node.attribute:
                if attribute.name == request["attribute"] and request["value"] in (None, _text(attribute)):
                    node.attribute.remove(attribute)
                    return model, True
    return model, False


def _to_gemm(model: Any, request: Mapping[str, Any]) -> tuple[Any, bool]:  # noqa: ARG001
    """MatMul of rank 2 with a constant, and the Add of a constant vector after it, as one Gemm."""
    from onnx import helper

    graph, types = model.graph, shapes_of(model)
    held = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    changed = False
    for node in list(graph.node):
        if (
            node.op_type != "MatMul"
            or len(held.get(node.input[1], [])) != 2
            or len(types.get(node.input[0], ([], 0))[0] or []) != 2
        ):
            continue
        after = readers.get(node.output[0], [])
        if len(after) != 1 or after[0].op_type != "Add":
            continue
        bias = next((name for name in after[0].input if len(held.get(name, [])) == 1), None)
        if bias is None:
            continue
        gemm = helper.make_node("Gemm", [*node.input, bias], list(after[0].output), node.name)
        graph.node.insert(list(graph.node).index(node), gemm)
        graph.node.remove(node)
        graph.node.remove(after[0])
        changed = True
    return model, changed


def _split_output(model: Any, request: Mapping[str, Any]) -> tuple[Any, bool]:
    """What an output joins becomes outputs of its own, so that each gets a scale of its own."""
    import onnx

    graph = model.graph
    for node in graph.node:
        at = next((i for i, v in enumerate(graph.output) if node.output and v.name == node.output[0]), None)
        if at is not None and node.op_type == "Concat" and request["layer"] in (None, node.output[0], *node.input):
            types = shapes_of(model)
            before, after = list(graph.output[:at]), list(graph.output[at + 1 :])
            new = []
            for name in node.input:
                shape, kind = types.get(name, (None, 1))
                new.append(
                    onnx.helper.make_tensor_value_info(name, kind or 1, shape if shape and 0 not in shape else None)
                )
            del graph.output[:]
            graph.output.extend([*before, *new, *after])
            graph.node.remove(node)
            return model, True
    return model, False


REPAIRS: Mapping[str, Callable[[Any, Mapping[str, Any]], tuple[Any, bool]]] = MappingProxyType(
    {"opset": _raise_opset, "attribute": _drop_attribute, "gemm": _to_gemm, "split-output": _split_output}
)
