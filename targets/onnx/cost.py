"""Counts an ONNX graph; see `edgeship.targets.cost` for the rules. A step of `child`.

Quantize and dequantize operators (QDQ) are what a runtime fuses into the operators between them: a dequantized tensor,
and one that is only quantized again, take no memory of their own. What is computed of constants alone is a constant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeship.targets.cost import Operation, product_macs
from edgeship.targets.onnx import shapes
from edgeship.targets.onnx.inspect import DTYPES, read

Shape = tuple[int, ...]

_BITS = {"bool": 8, "float64": 64, "float32": 32, "float16": 16}
_CONV = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3, "FusedConv": 1}  # operator -> place of its kernel
_MATMUL = {"MatMul", "MatMulInteger", "QLinearMatMul", "FusedMatMul"}
_RECURRENT = {"LSTM", "GRU", "RNN"}


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:  # noqa: ARG001 - the shape of every step
    """The count of the file at `request["path"]`, its inputs of `request["shapes"]` where given."""
    import onnx

    model = read(Path(request["path"]))
    shapes.put(model, request["shapes"])
    held = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name not in held and dims and dims[0].dim_value < 1:
            dims[0].dim_value = 1
    for value in model.graph.output:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_value < 1:
                dim.Clear()
    try:
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:  # noqa: BLE001 - what it cannot infer is counted as unknown
        print(f"shape inference: {error}")  # noqa: T201 - the child's log
    return count(model)


def count(model: Any) -> dict[str, Any]:
    """A ModelProto with the shapes that are known of it, counted."""
    known = _Known(model.graph)
    operations = [known.operation(node) for node in model.graph.node if not known.is_constant(node)]
    names = {name for operation in operations for name in operation.writes} | set(known.inputs)
    fused = known.fused()
    sizes = {name: 0 if name in fused else size for name in names if (size := known.bytes(name)) is not None}
    return {
        "operations": [operation.encode() for operation in operations], "sizes": sizes,
        "inputs": known.inputs, "outputs": [value.name for value in model.graph.output],
        "weight_bytes": sum(_bytes(t.dims, DTYPES.get(t.data_type)) for t in known.constants.values()),
    }  # fmt: skip


class _Known:
    """Shapes and constants of a graph."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].type == 4:  # TENSOR
                self.constants[node.output[0]] = node.attribute[0].t
        self.inputs = [value.name for value in graph.input if value.name not in self.constants]
        self.shapes: dict[str, Shape] = {name: tuple(t.dims) for name, t in self.constants.items()}
        self.types = {name: DTYPES.get(t.data_type) for name, t in self.constants.items()}
        for value in (*graph.input, *graph.value_info, *graph.output):
            kind = value.type.tensor_type
            self.types[value.name] = DTYPES.get(kind.elem_type)
            if kind.HasField("shape") and all(d.dim_value > 0 for d in kind.shape.dim):
                self.shapes[value.name] = tuple(int(d.dim_value) for d in kind.shape.dim)
        self.derived = set(self.constants)
        for node in graph.node:
            if all(not name or name in self.derived for name in node.input) and not _inner(node):
                self.derived.update(node.output)
        self.readers: dict[str, list[str]] = {}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node.op_type)

    def is_constant(self, node: Any) -> bool:
        return all(name in self.derived for name in node.output)

    def bytes(self, name: str) -> int | None:
        return _bytes(self.shapes[name], self.types.get(name)) if name in self.shapes else None

    def fused(self) -> set[str]:
        """Tensors between quantize and dequantize operators."""
        dequantized = {name for node in self.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
        returned = {value.name for value in self.graph.output}
        requantized = {name for name, kinds in self.readers.items() if set(kinds) == {"QuantizeLinear"}}
        return (dequantized | requantized) - returned - set(self.inputs)

    def operation(self, node: Any) -> Operation:
        written = [name for name in node.output if name]
        return Operation(
            name=written[0] if written else node.name, operator=node.op_type,
            shape=self.shapes.get(written[0], ()) if written else (), macs=self._macs(node),
            weights=sum(math.prod(self.shapes.get(name, (0,))) for name in node.input if name in self.derived),
            reads=tuple(name for name in node.input if name and name not in self.derived), writes=tuple(written),
        )  # fmt: skip

    def _macs(self, node: Any) -> int | None:
        kind = node.op_type
        if _inner(node):
            return None
        if kind not in _CONV and kind not in _MATMUL and kind not in _RECURRENT and kind not in (
            "ConvTranspose", "Gemm", "Einsum",
        ):  # fmt: skip
            return 0 if node.domain in ("", "ai.onnx") else None
        shape = [self.shapes.get(name) for name in node.input]
        out = self.shapes.get(node.output[0]) if node.output else None
        try:
            return _linear(kind, node, shape, out)
        except (TypeError, IndexError, ValueError, StopIteration):  # a shape that it needs is not known
            return None


def _linear(kind: str, node: Any, shape: list[Any], out: Any) -> int | None:
    """MACs of a linear operator. Raises TypeError or IndexError where a shape is None or too short."""
    if kind in _CONV:
        return product_macs(out, math.prod(shape[_CONV[kind]][1:]))
    if kind == "ConvTranspose":
        return product_macs(shape[0], math.prod(shape[1][1:]))
    if kind in _MATMUL:
        return product_macs(out, shape[0][-1])
    if kind == "Gemm":
        transposed = any(a.name == "transA" and a.i for a in node.attribute)
        return product_macs(out, shape[0][0 if transposed else 1])
    if kind in _RECURRENT:
        return product_macs(shape[0][:1], math.prod(shape[1]) + math.prod(shape[2]))
    return _einsum(next(a.s.decode() for a in node.attribute if a.name == "equation"), shape)


def _einsum(equation: str, shape: list[Any]) -> int | None:
    """The product of the sizes of all indices, of an equation of two operands without an ellipsis."""
    terms = equation.replace(" ", "").split("->")[0].split(",")
    if len(terms) != 2 or "." in equation:
        return None
    sizes: dict[str, int] = {
        letter: d for term, dims in zip(terms, shape, strict=True) for letter, d in zip(term, dims, strict=True)
    }
    return math.prod(sizes.values())


def _inner(node: Any) -> bool:
    """Whether the operator holds graphs of its own: how often they run is not known."""
    return any(attribute.type in (5, 10) for attribute in node.attribute)


def _bytes(shape: Any, dtype: str | None) -> int:
    bits = _BITS.get(dtype or "", int("".join(c for c in dtype or "int32" if c.isdigit()) or 32))
    return int(math.prod(shape)) * bits // 8
