"""Looks inside a TFLite model: its layers in order, and the values of its tensors while it runs.

As `targets.onnx.trace`: a layer goes by the first tensor that it writes, QUANTIZE and DEQUANTIZE are casts, quantized
tensors are read as real values. Tensors go by index, since their names may be empty or occur twice. The interpreter
runs the reference kernels, without delegates, and keeps every tensor.
"""

from __future__ import annotations

import copy
import importlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.errors import ConversionError
from edgeship.targets import feed
from edgeship.targets.tflite.inspect import default_signature
from edgeship.targets.tflite.reader import Structure, Tensor, read
from edgeship.targets.tflite.unpack import unpacked

CASTS = ("QUANTIZE", "DEQUANTIZE")
_CUSTOM = 32
_NUMBERS = ("float32", "float16", "int8", "uint8", "int16", "int32", "int64", "bool")


def layers(path: Path) -> dict[str, Any]:
    """The layers of the served subgraph in the order they run in; returns as `onnx.trace.layers`, "read" an index."""
    structure = read(path.read_bytes())
    signature = default_signature(structure)
    graph, names = structure.subgraphs[signature.subgraph], operator_names(structure)
    labels = tensor_labels(structure)
    source: dict[int, int] = {}
    shown: dict[int, int] = {}
    held: dict[int, int] = {i: structure.buffers[t.buffer] for i, t in enumerate(graph.tensors) if t.constant}
    found: list[dict[str, Any]] = []
    for op in graph.operators:
        reads = [index for index in op.inputs if index >= 0]
        if names[op.code] in CASTS and reads:
            origin = source.get(reads[0], reads[0])
            if origin in held:
                held[op.outputs[0]] = held[origin]
            else:
                source[op.outputs[0]] = origin
                if graph.tensors[op.outputs[0]].scale:
                    shown[origin] = op.outputs[0]
            continue
        if not op.outputs:
            continue
        first = op.outputs[0]
        found.append(
            {
                "name": labels[first], "operator": names[op.code], "node": "",
                "outputs": [labels[i] for i in op.outputs],
                "inputs": list(dict.fromkeys(labels[source.get(i, i)] for i in reads if i not in held)),
                "weights": sum(held[i] for i in dict.fromkeys(reads) if i in held),
                "shape": list(graph.tensors[first].shape), "read": first,
            }
        )  # fmt: skip
    for layer in found:
        at = shown.get(layer["read"], layer["read"])
        layer["read"] = at if _readable(graph.tensors[at]) else None
    return {
        "layers": found,
        "inputs": [name for name, _ in signature.inputs],
        "outputs": [labels[source.get(i, i)] for _, i in signature.outputs],
        "opset": 0,
    }


def operator_names(structure: Structure) -> list[str]:
    """The operator that each code of the file stands for."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    names = {code: name for name, code in vars(BuiltinOperator).items() if isinstance(code, int)}
    return [
        f"custom {custom}" if code == _CUSTOM else names.get(code, f"builtin {code}")
        for code, custom, _ in structure.codes
    ]


def tensor_labels(structure: Structure) -> list[str]:
    """A name for every tensor of the served subgraph, all different: its own; of an input the signature's."""
    signature = default_signature(structure)
    names = [tensor.name for tensor in structure.subgraphs[signature.subgraph].tensors]
    for name, index in signature.inputs:
        names[index] = name
    return unique(names)


def unique(names: Sequence[str]) -> list[str]:
    """The names, with the index added where one is empty or occurs twice."""
    count = Counter(names)
    return [name if name and count[name] == 1 else f"{name}#{index}" for index, name in enumerate(names)]


def _readable(tensor: Tensor) -> bool:
    return tensor.dtype in _NUMBERS and not (tensor.scales > 1 and not tensor.constant)


class Trace:
    """Runs a model one sample at a time and gives the tensors that were asked for."""

    def __init__(self, path: Path, reads: Sequence[int], inputs: Mapping[str, str]) -> None:
        """Load.

        Args:
            path: of the model; its batch is fixed.
            reads: tensors by index.
            inputs: input of the model -> name of the array that feeds it.

        Raises:
            ConversionError: the interpreter refuses the model.
        """
        data = path.read_bytes()
        signature = default_signature(read(data))
        self._interpreter = _interpreter(data)
        details = {item["index"]: item for item in self._interpreter.get_tensor_details()}
        self._inputs = [(details[index], inputs[name]) for name, index in signature.inputs]
        self._reads = [details[index] for index in dict.fromkeys(reads) if index in details]

    def run(self, data: Mapping[str, feed.Array], index: int) -> dict[int, feed.Array]:
        """Tensor index -> its real values for one sample."""
        self._interpreter.reset_all_variables()
        for item, key in self._inputs:
            self._interpreter.set_tensor(item["index"], _given(data[key][index], item))
        self._interpreter.invoke()
        out: dict[int, feed.Array] = {}
        for item in self._reads:
            try:
                raw = self._interpreter.get_tensor(item["index"])
            except ValueError:  # a tensor that no operator has written
                continue
            scale, zero = item["quantization"]
            out[item["index"]] = (raw.astype(np.float64) - zero) * scale if scale else raw
        return out


class Isolated:
    """The layers of a model each by itself, as `onnx.trace.Isolated`."""

    def __init__(self, path: Path, available: Sequence[int | str]) -> None:
        """Load every layer whose inputs are all among `available`: tensors by index, inputs of the model by name.

        Raises:
            ConversionError: the interpreter refuses them.
        """
        data = path.read_bytes()
        signature = default_signature(read(data))
        model = unpacked(data)
        graph, structure = model.subgraphs[signature.subgraph], read(data).subgraphs[signature.subgraph]
        inputs = dict(signature.inputs)
        known = {inputs.get(item, -1) if isinstance(item, str) else item for item in available}
        names = {index: name for name, index in signature.inputs}
        operators, self._fed, self.written = [], list[tuple[int, int]](), list[int]()
        for op in graph.operators:
            reads = [i for i in map(int, op.inputs) if i >= 0 and not structure.tensors[i].constant]
            if not reads or not known.issuperset(reads) or any(_inexact(structure.tensors[i]) for i in reads):
                continue
            for index in reads:
                graph.tensors.append(copy.copy(graph.tensors[index]))
                self._fed.append((index, len(graph.tensors) - 1))
            fresh = dict(self._fed[-len(reads) :])
            op.inputs = [fresh.get(int(i), int(i)) for i in op.inputs]
            operators.append(op)
            self.written.append(int(op.outputs[0]))
        graph.operators = operators
        graph.inputs, graph.outputs = [new for _, new in self._fed], self.written
        model.signatureDefs = None
        self.reads: Sequence[Any] = [names.get(old, old) for old, _ in self._fed]
        self._interpreter = _interpreter(pack(model, len(data))) if operators else None

    def run(self, values: Mapping[Any, feed.Array]) -> dict[Any, feed.Array]:
        """First tensor of each layer -> what it writes, given the values of `reads`."""
        if self._interpreter is None:
            return {}
        details = {item["index"]: item for item in self._interpreter.get_input_details()}
        for key, (_, new) in zip(self.reads, self._fed, strict=True):
            self._interpreter.set_tensor(new, _given(values[key], details[new]))
        self._interpreter.invoke()
        return {index: self._interpreter.get_tensor(index) for index in self.written}


def _inexact(tensor: Tensor) -> bool:
    """Whether a layer that reads it is no float layer, or keeps state."""
    return tensor.variable or tensor.scales > 0 or tensor.dtype not in ("float32", "int32", "int64", "bool")


def pack(model: Any, size: int) -> bytes:
    """A `schema.ModelT` as the bytes of a file of about `size` bytes."""
    flatbuffers: Any = importlib.import_module("flatbuffers")
    builder = flatbuffers.Builder(size + 4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _interpreter(data: bytes) -> Any:
    """One that runs the reference kernels and keeps every tensor. Raises ConversionError."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    try:
        interpreter = Interpreter(
            model_content=data, num_threads=1, experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )  # fmt: skip
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ConversionError(
            f"the interpreter refuses the model: {' '.join(str(error).split())[:600]}",
            hint="edgeship model doctor MODEL finds the layer",
        ) from error
    return interpreter


def _given(values: feed.Array, item: Mapping[str, Any]) -> feed.Array:
    dtype, (scale, zero) = np.dtype(item["dtype"]), item["quantization"]
    array = np.asarray(values).reshape(item["shape"])
    if not scale:
        return array.astype(dtype)
    limits = np.iinfo(dtype)
    steps: feed.Array = np.clip(np.rint(array.astype(np.float64) / scale) + zero, limits.min, limits.max).astype(dtype)
    return steps
