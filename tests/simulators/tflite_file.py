"""TFLite files written operator by operator, without TensorFlow.

    file = File()
    g = file.graph()
    x = g.tensor("x", (1, 12))

`newer(path, operator, version)` turns a file into one of a later converter.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]


def newer(path: Path, operator: str, version: int) -> Path:
    """The same file with all of an operator said to be of this version: TensorFlow 2.21 writes FULLY_CONNECTED 12."""
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes()), 0)
    for code in model.operatorCodes:
        if code.builtinCode == getattr(schema.BuiltinOperator, operator):
            code.version = version
    builder = schema.flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


class Graph:
    """A subgraph in the making."""

    def __init__(self, file: File) -> None:
        self.file, self.tensors, self.operators = file, list[Any](), list[Any]()

    def tensor(
        self, name: str, shape: Sequence[int], data: Any = None, dtype: str = "float32", *, variable: bool = False
    ) -> int:
        """A tensor; its place."""
        schema = self.file.schema
        made = schema.TensorT()
        made.name, made.shape, made.hasRank = name.encode(), list(shape), True
        made.type, made.isVariable = getattr(schema.TensorType, dtype.upper()), variable
        made.quantization = schema.QuantizationParametersT()
        made.buffer = 0 if data is None else self.file.buffer(np.asarray(data, dtype).tobytes())
        self.tensors.append(made)
        return len(self.tensors) - 1

    def operator(
        self, name: str, inputs: Sequence[int], outputs: Sequence[int], options: str = "", version: int = 1,
        **values: Any,
    ) -> None:  # fmt: skip
        """An operator; `options` names its table, without "Options"."""
        schema, made = self.file.schema, self.file.schema.OperatorT()
        made.opcodeIndex = self.file.code(getattr(schema.BuiltinOperator, name), version)
        made.inputs, made.outputs = list(inputs), list(outputs)
        if options:
            made.builtinOptionsType = getattr(schema.BuiltinOptions, f"{options}Options")
            made.builtinOptions = getattr(schema, f"{options}OptionsT")()
            for key, value in values.items():
                setattr(made.builtinOptions, key, value)
        self.operators.append(made)

    def dense(self, name: str, x: int, weights: Float, *, relu: bool = False, bias: Float | None = None) -> int:
        """FULLY_CONNECTED with weights [out, in]; the place of what it writes, `name`."""
        wt = self.tensor(f"{name}/weights", weights.shape, weights)
        inputs = [x, wt] + ([] if bias is None else [self.tensor(f"{name}/bias", bias.shape, bias)])
        out = self.tensor(name, (1, len(weights)))
        self.operator("FULLY_CONNECTED", inputs, [out], "FullyConnected", fusedActivationFunction=int(relu))
        return out


class File:
    """A model in the making."""

    def __init__(self) -> None:
        from ai_edge_litert import schema_py_generated

        self.schema: Any = schema_py_generated
        self.buffers, self.codes, self.graphs = [self.schema.BufferT()], list[Any](), list[Graph]()

    def buffer(self, data: bytes) -> int:
        """A buffer; its place."""
        made = self.schema.BufferT()
        made.data = np.frombuffer(data, np.uint8)
        self.buffers.append(made)
        return len(self.buffers) - 1

    def code(self, builtin: int, version: int) -> int:
        """An operator code; its place."""
        for index, code in enumerate(self.codes):
            if (code.builtinCode, code.version) == (builtin, version):
                return index
        made = self.schema.OperatorCodeT()
        made.builtinCode, made.deprecatedBuiltinCode, made.version = builtin, min(builtin, 127), version
        self.codes.append(made)
        return len(self.codes) - 1

    def graph(self) -> Graph:
        """A new subgraph."""
        self.graphs.append(Graph(self))
        return self.graphs[-1]

    def write(
        self, path: Path, sides: Sequence[tuple[Sequence[int], Sequence[int]]], *, signature: bool = True
    ) -> Path:
        """Pack it; `sides` are inputs and outputs of each subgraph."""
        schema, model = self.schema, self.schema.ModelT()
        model.version, model.description = 3, b"test"
        model.operatorCodes, model.buffers, model.subgraphs = self.codes, self.buffers, []
        for number, (graph, (inputs, outputs)) in enumerate(zip(self.graphs, sides, strict=True)):
            made = schema.SubGraphT()
            made.name, made.tensors, made.operators = f"graph{number}".encode(), graph.tensors, graph.operators
            made.inputs, made.outputs = list(inputs), list(outputs)
            model.subgraphs.append(made)
        if signature:
            model.signatureDefs = [self._signature(*sides[0])]
        builder = schema.flatbuffers.Builder(4096)
        builder.Finish(model.Pack(builder), b"TFL3")
        path.write_bytes(bytes(builder.Output()))
        return path

    def _signature(self, inputs: Sequence[int], outputs: Sequence[int]) -> Any:
        made = self.schema.SignatureDefT()
        made.signatureKey, made.subgraphIndex = b"serving_default", 0
        sides = []
        for side in (inputs, outputs):
            entries = []
            for index in side:
                entry = self.schema.TensorMapT()
                entry.name, entry.tensorIndex = self.graphs[0].tensors[index].name, index
                entries.append(entry)
            sides.append(entries)
        made.inputs, made.outputs = sides
        return made
