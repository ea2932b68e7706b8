"""Looks inside an ONNX model: its layers in order, and the values of named tensors while it runs.

A layer goes by the first tensor that it writes. QuantizeLinear and DequantizeLinear are no layers but casts: a tensor
that is quantized right after it was made is read as what comes out again, real values, so that float and int8 form of
a model are compared layer by layer. Branches and loop bodies belong to the operator that holds them.

Layers run one at a time, without fusion: fused kernels hide the tensors between them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.errors import ConversionError
from edgeship.runtime.wire import TEXT
from edgeship.targets import feed
from edgeship.targets.onnx.inspect import DTYPES, opset_of, read

CASTS = ("QuantizeLinear", "DequantizeLinear")
_IN, _OUT = "edgeship_in/", "edgeship_out/"
_INTEGERS = (2, 3, 4, 5)  # uint8, int8, uint16, int16
_BITS = {1: 32, 6: 32, 7: 64, 10: 16, 11: 64, 12: 32, 13: 64, 16: 16, 4: 16, 5: 16, 21: 4, 22: 4}


def layers(path: Path) -> dict[str, Any]:
    """The layers of a model in the order of the file, which is the order they run in.

    Returns:
        {"layers": [{"name", "operator", "inputs": tensors of other layers, "read": what `Trace` takes, or null,
        "shape", "weights": bytes of constants, "node": the operator's own name, "outputs": all that it writes}],
        "inputs", "outputs": names}.
    """
    model = read(path)
    graph, shapes = model.graph, shapes_of(model)
    held = {tensor.name: _bytes(tensor) for tensor in graph.initializer}
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    source: dict[str, str] = {}  # what a cast writes -> the tensor that it is a form of
    shown: dict[str, str] = {}  # a tensor -> the real values that are read for it
    found: list[dict[str, Any]] = []
    for node in graph.node:
        if node.op_type == "Constant":
            held[node.output[0]] = sum(_bytes(a.t) for a in node.attribute if a.type == 4)
        elif node.op_type in CASTS:
            origin = source.get(node.input[0], node.input[0])
            if origin in held:
                held[node.output[0]] = held[origin]
                continue
            source[node.output[0]] = origin
            if node.op_type == "DequantizeLinear":
                shown[origin] = node.output[0]
        else:
            outputs = [name for name in node.output if name]
            if not outputs:
                continue
            reads = [name for name in [*node.input, *captured(node)] if name]
            found.append(
                {
                    "name": outputs[0], "operator": _operator(node), "node": node.name, "outputs": outputs,
                    "inputs": list(dict.fromkeys(source.get(n, n) for n in reads if n not in held)),
                    "weights": sum(held[n] for n in dict.fromkeys(reads) if n in held) + _inner_bytes(node),
                    "shape": shapes.get(outputs[0], (None, 0))[0],
                }
            )  # fmt: skip
    last = {source[v.name]: v.name for v in graph.output if v.name in source}  # outputs that a cast writes
    for layer in found:
        kind = shapes.get(layer["name"], (None, 0))[1] or kinds.get(layer["name"], 0)
        layer["read"] = shown.get(layer["name"]) or (None if kind in _INTEGERS else layer["name"])
        if (renamed := last.get(layer["name"])) is not None:  # the name that the model is known by
            layer["outputs"], layer["name"] = [*layer["outputs"], renamed], renamed
    return {
        "layers": found,
        "inputs": [value.name for value in graph.input if value.name not in held],
        "outputs": [value.name for value in graph.output],
        "opset": opset_of(model),
    }


def _operator(node: Any) -> str:
    return str(node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}")


def _bytes(tensor: Any) -> int:
    return (math.prod(map(int, tensor.dims)) * _BITS.get(int(tensor.data_type), 8) + 7) // 8


def _inner(node: Any) -> Iterable[Any]:
    for attribute in node.attribute:
        if attribute.type == 5:
            yield attribute.g
        elif attribute.type == 10:
            yield from attribute.graphs


def captured(node: Any) -> list[str]:
    """Tensors of the outer graph that the inner graphs of an operator read."""
    out: list[str] = []
    for graph in _inner(node):
        own = {v.name for v in graph.input} | {t.name for t in graph.initializer}
        for inner in graph.node:
            out += [name for name in [*inner.input, *captured(inner)] if name not in own]
            own |= set(inner.output)
        out += [value.name for value in graph.output if value.name not in own]
    return out


def _inner_bytes(node: Any) -> int:
    total = 0
    for graph in _inner(node):
        total += sum(_bytes(tensor) for tensor in graph.initializer)
        for inner in graph.node:
            total += _inner_bytes(inner) + sum(_bytes(a.t) for a in inner.attribute if a.type == 4)
    return total


def shapes_of(model: Any) -> dict[str, tuple[list[int] | None, int]]:
    """Tensor -> (shape with 0 for an open dimension or None, element type), as far as they can be inferred."""
    import onnx

    try:
        model = onnx.shape_inference.infer_shapes(model)
    except Exception as error:  # noqa: BLE001 - shapes are a convenience here
        print(f"shape inference: {error}")  # noqa: T201 - the child's log
    out: dict[str, tuple[list[int] | None, int]] = {}
    for value in [*model.graph.input, *model.graph.value_info, *model.graph.output]:
        kind = value.type.tensor_type
        dims = [int(d.dim_value) for d in kind.shape.dim] if kind.HasField("shape") else None
        out[value.name] = (dims, int(kind.elem_type))
    return out


class Trace:
    """Runs a model one sample at a time and gives the tensors that were asked for."""

    def __init__(self, path: Path, reads: Sequence[str], inputs: Mapping[str, str]) -> None:
        """Load.

        Args:
            path: of the model; its batch is fixed.
            reads: tensors of the graph, by name.
            inputs: input of the model -> name of the array that feeds it.

        Raises:
            ConversionError: ONNX Runtime refuses the model.
        """
        import onnx

        model = onnx.load(str(path))
        there = {value.name for value in model.graph.output}
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(reads) if name not in there)
        self._session = _session(model)
        self._names = list(dict.fromkeys(reads))
        self._inputs = {value.name: (inputs[value.name], _dtype(value.type)) for value in self._session.get_inputs()}

    def run(self, data: Mapping[str, feed.Array], index: int) -> dict[str, feed.Array]:
        """Tensor -> its values for one sample; what is no tensor of numbers is left out."""
        given = {name: np.asarray(data[key][index], dtype) for name, (key, dtype) in self._inputs.items()}
        values = self._session.run(self._names, given)
        return {
            name: value
            for name, value in zip(self._names, values, strict=True)
            if isinstance(value, np.ndarray) and value.dtype.kind in "fiub"
        }


class Isolated:
    """The layers of a model each by itself: none is fed by another, all take what they are given.

    So the error of one layer is seen without that of the layers before it.
    """

    def __init__(self, path: Path, available: Sequence[str]) -> None:
        """Load every layer whose inputs are all among `available`, tensors of the graph and its inputs.

        Raises:
            ConversionError: ONNX Runtime refuses them.
        """
        import onnx

        graph_model = onnx.load(str(path))
        graph, known = graph_model.graph, set(available)
        types = shapes_of(graph_model)
        held = {tensor.name for tensor in graph.initializer}
        nodes, fed, self.written = [], dict[str, Any](), list[str]()
        for node in graph.node:
            reads = [name for name in node.input if name and name not in held]
            if not reads and node.op_type in ("Constant", *CASTS):
                held.update(node.output)
                nodes.append(node)
            elif reads and node.op_type not in CASTS and not list(_inner(node)) and known.issuperset(reads):
                if any(types.get(name, (None, 0))[1] == 0 for name in reads):
                    continue
                for name in reads:
                    shape = types[name][0]
                    fed[name] = onnx.helper.make_tensor_value_info(
                        _IN + name, types[name][1], shape if shape and 0 not in shape else None
                    )
                copy = onnx.NodeProto()
                copy.CopyFrom(node)
                copy.input[:] = [_IN + name if name in reads else name for name in node.input]
                copy.output[:] = [_OUT + name if name else "" for name in node.output]
                nodes.append(copy)
                self.written.append(node.output[0])
        del graph.node[:], graph.output[:], graph.value_info[:]
        kept = {value.name for value in graph.input} & held
        inputs = [value for value in graph.input if value.name in kept]
        del graph.input[:]
        graph.input.extend([*inputs, *fed.values()])
        graph.node.extend(nodes)
        graph.output.extend(onnx.ValueInfoProto(name=_OUT + name) for name in self.written)
        self._session = _session(graph_model)
        self.reads: Sequence[Any] = list(fed)
        kinds = {value.name: _dtype(value.type) for value in self._session.get_inputs()}
        self._kinds = {name: kinds[_IN + name] for name in fed if _IN + name in kinds}

    def run(self, values: Mapping[Any, feed.Array]) -> dict[Any, feed.Array]:
        """First tensor of each layer -> what it writes, given the values of `reads` in their own shapes."""
        given = {_IN + name: np.asarray(values[name], kind) for name, kind in self._kinds.items()}
        return dict(zip(self.written, self._session.run([_OUT + n for n in self.written], given), strict=True))


def _session(model: Any) -> Any:
    """A session that keeps every operator as it is. Raises ConversionError."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ConversionError(
            f"ONNX Runtime refuses the model: {' '.join(str(error).split())[:600]}",
            hint="edgeship model doctor MODEL finds the layer",
        ) from error


def _dtype(kind: str) -> str:
    """Of `tensor(float)` and the like, as numpy calls it."""
    short = kind.removeprefix("tensor(").removesuffix(")")
    names = {"float": "float32", "double": "float64", TEXT: "S"}
    return names.get(short, short if short in DTYPES.values() else "float32")
