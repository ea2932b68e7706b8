"""Makes a float TFLite file what a quantizer can work on, without changing what it computes.

Each step is there because ai-edge-quantizer refuses a file without it, or leaves weights as they are, or makes them
wrong, and says nothing:

* A signature where there is none: the tensors' own names.
* Codes of operators where quantizers read them: in files before 2020 they find 0, and take every operator for an ADD.
* Unique names of tensors: operators go by the names of what they write, over all subgraphs.
* Weights that are float16, or int8 to save bytes, become float32 again; sparse ones are whole already (`sparse`).
* A product with a constant matrix (BATCH_MATMUL, as converters from ONNX write it) becomes FULLY_CONNECTED, which has a
  scale for each row.
* Constants that are handed to the branches of an IF become constants of the branches: what comes in as an argument is
  no weight to a quantizer.
"""

from __future__ import annotations

import importlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.targets.tflite.inspect import default_signature
from edgeship.targets.tflite.named import Place
from edgeship.targets.tflite.reader import Operator, Structure, Subgraph, read
from edgeship.targets.tflite.unpack import unpacked
from edgeship.targets.tflite.values import constant

Array = NDArray[Any]

KEY = "serving_default"

_IF = 118
_DEQUANTIZE, _FULLY_CONNECTED, _BATCH_MATMUL, _DENSIFY = 6, 9, 126, 124  # builtin codes of the schema
_PACKED = ("float16", "int8", "uint8", "int16", "int4")


def unique_names(structure: Structure) -> list[list[str]]:
    """A name for each tensor of each subgraph: its own; its place behind it where another has it, or it has none."""
    counts = Counter(tensor.name for graph in structure.subgraphs for tensor in graph.tensors)
    taken = {name for name, count in counts.items() if count == 1}
    out: list[list[str]] = []
    for number, graph in enumerate(structure.subgraphs):
        names: list[str] = []
        for index, tensor in enumerate(graph.tensors):
            name = tensor.name
            if not name or counts[name] > 1:
                name = stem = f"{name or 'tensor'}_{number}_{index}" if number else f"{name or 'tensor'}_{index}"
                while name in taken:
                    name = stem = f"{stem}_"
            taken.add(name)
            names.append(name)
        out.append(names)
    return out


def ready(data: bytes) -> bytes:
    """The file with a signature, unique names and plain float32 weights; as it is where it has all that.

    Raises:
        InputError: it is damaged.
        ConversionError: weights are stored in a way that is not known.
    """
    structure = read(data)
    names = unique_names(structure)
    unnamed = [[tensor.name for tensor in graph.tensors] for graph in structure.subgraphs] != names
    decoded, hybrid, products = _decoded(structure), _hybrid(structure), _products(structure)
    handed = _handed(structure)
    if structure.signatures and not (unnamed or decoded or hybrid or products or handed or structure.old_codes):
        return data
    schema: Any = importlib.import_module("ai_edge_litert.schema_py_generated")
    model = unpacked(data)
    for code in model.operatorCodes:
        code.builtinCode = max(code.builtinCode, code.deprecatedBuiltinCode)
    if not structure.signatures:
        model.signatureDefs = [_signature(schema, structure)]
    for graph, chosen in zip(model.subgraphs, names, strict=True):
        for tensor, name in zip(graph.tensors, chosen, strict=True):
            tensor.name = name.encode()
    _take_in(model, handed)
    for number, index in hybrid:
        tensor = model.subgraphs[number].tensors[index]
        _fill(schema, model, tensor, constant(model, tensor))
    for number, places in decoded.items():
        _decode(schema, model, model.subgraphs[number], places)
    for number, index in _products(structure):
        _to_dense(schema, model, model.subgraphs[number], index)
    for number, places in decoded.items():
        graph = model.subgraphs[number]
        graph.operators = [operator for index, operator in enumerate(graph.operators) if index not in places]
    return packed(model, len(data))


def packed(model: Any, size: int) -> bytes:
    """The bytes of a ModelT of about `size` bytes, without those of constants that nothing reads."""
    _forget_unused(model)
    flatbuffers: Any = importlib.import_module("flatbuffers")
    builder = flatbuffers.Builder(size + 4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _signature(schema: Any, structure: Structure) -> Any:
    """A signature by the tensors' own names, under which the file's inputs and outputs are known."""

    def named(pairs: tuple[tuple[str, int], ...]) -> list[Any]:
        out = []
        for name, index in pairs:
            item = schema.TensorMapT()
            item.name, item.tensorIndex = name, index
            out.append(item)
        return out

    signature, added = default_signature(structure), schema.SignatureDefT()
    added.signatureKey, added.subgraphIndex = KEY, signature.subgraph
    added.inputs, added.outputs = named(signature.inputs), named(signature.outputs)
    return added


# ── weights that are stored in fewer bytes ───────────────────────────────────────────────────────────────────────────


def _decoded(structure: Structure) -> dict[int, list[int]]:
    """Subgraph -> its DEQUANTIZE and DENSIFY operators of constants, in the order in which they run."""
    out: defaultdict[int, list[int]] = defaultdict(list)
    for number, graph in enumerate(structure.subgraphs):
        known = {i for i, tensor in enumerate(graph.tensors) if tensor.constant}
        for index, operator in enumerate(graph.operators):
            if structure.codes[operator.code][0] not in (_DEQUANTIZE, _DENSIFY) or operator.inputs[0] not in known:
                continue
            source = graph.tensors[operator.inputs[0]]
            if source.dtype in (*_PACKED, "float32") and operator.outputs[0] not in graph.outputs:
                out[number].append(index)
                known.add(operator.outputs[0])
    return dict(out)


def _hybrid(structure: Structure) -> list[Place]:
    """(subgraph, tensor) of int8 weights that operators on float activations read as they are."""
    out: list[Place] = []
    for number, graph in enumerate(structure.subgraphs):
        readers: defaultdict[int, list[Operator]] = defaultdict(list)
        for operator in graph.operators:
            for index in operator.inputs:
                readers[index].append(operator)
        for index, tensor in enumerate(graph.tensors):
            if not (tensor.constant and tensor.dtype in ("int8", "uint8", "int4") and tensor.scales):
                continue
            if readers[index] and all(_on_floats(structure, graph, operator) for operator in readers[index]):
                out.append((number, index))
    return out


def _on_floats(structure: Structure, graph: Subgraph, operator: Operator) -> bool:
    """Whether an operator computes on float activations (and does not itself make floats of its weights)."""
    code = structure.codes[operator.code][0]
    return code not in (_DEQUANTIZE, _DENSIFY) and all(graph.tensors[i].dtype == "float32" for i in operator.outputs)


def _decode(schema: Any, model: Any, graph: Any, places: Sequence[int]) -> None:
    """Compute these operators now: what they write becomes a constant."""
    for index in places:
        operator = graph.operators[index]
        source, result = graph.tensors[operator.inputs[0]], graph.tensors[operator.outputs[0]]
        _fill(schema, model, result, constant(model, source))


def _fill(schema: Any, model: Any, tensor: Any, values: Array) -> None:
    """Make a tensor a float32 constant."""
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(np.ascontiguousarray(values, "<f4").tobytes(), np.uint8)
    tensor.buffer = len(model.buffers)
    model.buffers.append(buffer)
    tensor.type, tensor.sparsity = schema.TensorType.FLOAT32, None
    tensor.quantization = schema.QuantizationParametersT()


def _forget_unused(model: Any) -> None:
    """Take the bytes of constants that nothing reads any more."""
    read: set[int] = set()
    for graph in model.subgraphs:
        used = {int(i) for operator in graph.operators for i in operator.inputs} | {int(i) for i in graph.outputs}
        for index, tensor in enumerate(graph.tensors):
            if index in used:
                read.add(tensor.buffer)
            elif model.buffers[tensor.buffer].data is not None:
                tensor.buffer, tensor.sparsity = 0, None
    for item in model.metadata or []:
        read.add(item.buffer)
    for index, buffer in enumerate(model.buffers):
        if index not in read:
            buffer.data = None


# ── branches ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _handed(structure: Structure) -> list[Place]:
    """(subgraph, operator) of every IF that is given a constant beside its condition."""
    return [
        (number, index)
        for number, graph in enumerate(structure.subgraphs)
        for index, operator in enumerate(graph.operators)
        if structure.codes[operator.code][0] == _IF and any(graph.tensors[i].constant for i in operator.inputs[1:])
    ]


def _take_in(model: Any, places: Sequence[Place]) -> None:
    """Make constants that an IF hands on those of its branches, where nobody else calls these."""
    called: Counter[int] = Counter()
    for number, index in places:
        options = model.subgraphs[number].operators[index].builtinOptions
        called.update({options.thenSubgraphIndex, options.elseSubgraphIndex})
    for number, index in places:
        graph = model.subgraphs[number]
        operator = graph.operators[index]
        numbers = {operator.builtinOptions.thenSubgraphIndex, operator.builtinOptions.elseSubgraphIndex}
        if any(called[i] > 1 for i in numbers):
            continue
        branches = [model.subgraphs[i] for i in numbers]
        for place in reversed(range(1, len(operator.inputs))):
            given = graph.tensors[operator.inputs[place]]
            if model.buffers[given.buffer].data is None:
                continue
            if any(branch.inputs[place - 1] in list(branch.outputs) for branch in branches):
                continue
            for branch in branches:
                own = branch.tensors[branch.inputs[place - 1]]
                own.buffer, own.shape, own.type, own.quantization = (
                    given.buffer,
                    given.shape,
                    given.type,
                    given.quantization,
                )
                branch.inputs = [i for at, i in enumerate(branch.inputs) if at != place - 1]
            operator.inputs = [i for at, i in enumerate(operator.inputs) if at != place]


# ── products with a constant ─────────────────────────────────────────────────────────────────────────────────────────


def _products(structure: Structure) -> list[Place]:
    """(subgraph, operator) of every BATCH_MATMUL of float activations with a constant matrix on the right."""
    out: list[Place] = []
    for number, graph in enumerate(structure.subgraphs):
        for index, operator in enumerate(graph.operators):
            if structure.codes[operator.code][0] != _BATCH_MATMUL:
                continue
            left, right = (graph.tensors[i] for i in operator.inputs[:2])
            if (
                right.constant
                and len(right.shape) == 2
                and left.dtype == right.dtype == "float32"
                and not left.constant
            ):
                out.append((number, index))
    return out


def _to_dense(schema: Any, model: Any, graph: Any, index: int) -> None:
    """BATCH_MATMUL(x, w [k, n]) as FULLY_CONNECTED(x, w transposed), which keeps the other axes of x."""
    operator = graph.operators[index]
    options = operator.builtinOptions
    if options is not None and options.adjX:
        return
    right = graph.tensors[operator.inputs[1]]
    values = constant(model, right)
    weights = schema.TensorT()
    weights.name, weights.hasRank = right.name + f"_{index}_transposed".encode(), True
    values = values if options is not None and options.adjY else values.T
    weights.shape = list(values.shape)
    _fill(schema, model, weights, values)
    operator.inputs = [operator.inputs[0], len(graph.tensors)]
    graph.tensors.append(weights)
    operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    operator.builtinOptions = schema.FullyConnectedOptionsT()
    operator.builtinOptions.keepNumDims = True
    operator.opcodeIndex = code_of(schema, model, _FULLY_CONNECTED, 5)  # 5: the version with keepNumDims


def code_of(schema: Any, model: Any, builtin: int, version: int) -> int:
    """Place of an operator code in a ModelT, which is added where it is not there."""
    for index, code in enumerate(model.operatorCodes):
        if (max(code.builtinCode, code.deprecatedBuiltinCode), code.version) == (builtin, version):
            return index
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), version
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1
