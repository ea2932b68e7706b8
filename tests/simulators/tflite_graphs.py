"""Small float TFLite models of several layers and subgraphs, made in milliseconds without TensorFlow.

    mlp(path)         x [1, 12] -> dense_a, dense_b, dense_c [1, 4], ReLU between
    branches(path)    x [1, 12] -> dense, IF mean > 0 one dense layer, else another -> dense
    detector(path)    x [1, 12] -> boxes in the hundreds and scores of 0 to 1, concatenated to [1, 12]
    tokens(path)      ids int32 [1, 5] -> table of 40 × 8 -> dense
    twice(path)       x [1, 12] -> dense_a, dense_b, dense_c [1, 4], of which the first two read the same weights
    uneven(path)      x [1, 12] -> loud, quiet, last [1, 4]: int8 destroys what `loud` writes
    sparse(path)      mlp, the weights of dense_b stored as compressed rows
    matmul(path)      x [1, 6, 8] -> BATCH_MATMUL with a constant -> ADD
    stacked(path)     x [1, 2, 6, 8] -> BATCH_MATMUL with a constant for each of the two, which no dense layer is
    conv3d(path)      x [1, 4, 4, 4, 2] -> CONV_3D, which the quantizer does not take
    handed(path)      branches whose weights are constants of the main graph that the IF hands on
    shaped(path)      x [1, 12] -> RESHAPE by numbers that SHAPE and PACK work out -> dense
    tapped(path)      x [1, 12] -> dense, an output that ELU reads too -> dense
    divided(path)     x [1, 12] / its largest value, 0 where that is 0 -> dense
    looped(path)      x [5, 1, 4] -> a WHILE that puts 2 · x[t] into a list as Keras' recurrent layers do
    recurrent(path)   x [1, 5, 4] -> UNIDIRECTIONAL_SEQUENCE_RNN or _LSTM, whose state outlives a run
Each returns its path. `samples(n)` are inputs of the first three: float32 [n, 1, 12].
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.dataset import Dataset
from tests.simulators.tflite_file import File, Float, Graph


def samples(n: int, seed: int = 5) -> Dataset:
    """Inputs named x, float32 [n, 1, 12]."""
    return Dataset({"x": np.random.default_rng(seed).normal(size=(n, 1, 12)).astype(np.float32)})


def _weights(rng: np.random.Generator, rows: int, columns: int) -> Float:
    drawn: Float = (rng.normal(size=(rows, columns)) / np.sqrt(columns)).astype(np.float32)
    return drawn


def mlp(path: Path, *, signature: bool = True, name: str = "dense") -> Path:
    """Three dense layers: <name>_a [1, 16], <name>_b [1, 16], <name>_c [1, 4]."""
    rng, file = np.random.default_rng(0), File()
    g = file.graph()
    x = g.tensor("x", (1, 12))
    a = g.dense(f"{name}_a", x, _weights(rng, 16, 12), relu=True)
    b = g.dense(f"{name}_b", a, _weights(rng, 16, 16), relu=True)
    c = g.dense(f"{name}_c", b, _weights(rng, 4, 16))
    return file.write(path, [([x], [c])], signature=signature)


def twice(path: Path) -> Path:
    """`mlp` of which two layers read one tensor of weights: dense_a [1, 12], dense_b [1, 12], dense_c [1, 4]."""
    rng, file = np.random.default_rng(0), File()
    g = file.graph()
    x = g.tensor("x", (1, 12))
    a = g.dense("dense_a", x, _weights(rng, 12, 12), relu=True)
    b = g.tensor("dense_b", (1, 12))
    g.operator("FULLY_CONNECTED", [a, g.operators[0].inputs[1]], [b], "FullyConnected", fusedActivationFunction=1)
    return file.write(path, [([x], [g.dense("dense_c", b, _weights(rng, 4, 12))])])


def sparse(path: Path) -> Path:
    """`mlp` with three of four weights of dense_b 0 and left out, as converters store pruned weights."""
    schema: Any = File().schema
    model = schema.ModelT.InitFromPackedBuf(bytearray(mlp(path).read_bytes()), 0)
    (tensor,) = (t for t in model.subgraphs[0].tensors if t.name == b"dense_b/weights")
    values = np.frombuffer(model.buffers[tensor.buffer].data.tobytes(), "<f4").reshape(16, 16).copy()
    values[np.abs(values) < np.quantile(np.abs(values), 0.75)] = 0
    tensor.sparsity = schema.SparsityParametersT()
    tensor.sparsity.traversalOrder = [0, 1]
    whole, rows = schema.DimensionMetadataT(), schema.DimensionMetadataT()
    whole.format, whole.denseSize = schema.DimensionType.DENSE, 16
    rows.format = schema.DimensionType.SPARSE_CSR
    segments = np.concatenate([[0], np.cumsum((values != 0).sum(axis=1))])
    for name, vector in (("Segments", segments), ("Indices", np.nonzero(values)[1])):
        made = schema.Int32VectorT()
        made.values = vector.tolist()
        setattr(rows, f"array{name}", made)
        setattr(rows, f"array{name}Type", schema.SparseIndexVector.Int32Vector)
    tensor.sparsity.dimMetadata = [whole, rows]
    model.buffers[tensor.buffer].data = np.frombuffer(values[values != 0].tobytes(), np.uint8)
    builder = schema.flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


UNEVEN = 3000.0


def uneven_weights() -> tuple[Float, Float, Float]:
    """Three dense layers [out, in] of which the first writes one unit that is `UNEVEN` times as loud as the others.

    The second undoes it, so in float nothing is wrong; one int8 scale for all units of the first leaves only noise.
    """
    rng = np.random.default_rng(0)
    a, b, c = _weights(rng, 16, 12), _weights(rng, 16, 16), _weights(rng, 4, 16)
    a[3] *= UNEVEN
    b[:, 3] /= UNEVEN
    return a, b, c


def uneven(path: Path) -> Path:
    """x [1, 12] -> loud, quiet, last [1, 4] with the weights of `uneven_weights`."""
    file = File()
    g = file.graph()
    x = g.tensor("x", (1, 12))
    loud, quiet, last = uneven_weights()
    a = g.dense("loud", x, loud, relu=True)
    c = g.dense("last", g.dense("quiet", a, quiet, relu=True), last)
    return file.write(path, [([x], [c])])


def branches(path: Path) -> Path:
    """Dense layers within the branches of an IF, whose tensors have the same names on both sides."""
    rng, file = np.random.default_rng(1), File()
    g, then, other = file.graph(), file.graph(), file.graph()
    x = g.tensor("x", (1, 12))
    a = g.dense("first", x, _weights(rng, 16, 12))
    mean, axes = g.tensor("mean", ()), g.tensor("axes", (2,), [0, 1], "int32")
    g.operator("MEAN", [a, axes], [mean], "Reducer", keepDims=False)
    zero, decision = g.tensor("zero", (), 0.0), g.tensor("decision", (), dtype="bool")
    g.operator("GREATER", [mean, zero], [decision], "Greater")
    chosen = g.tensor("chosen", (1, 16))
    g.operator("IF", [decision, a], [chosen], "If", thenSubgraphIndex=1, elseSubgraphIndex=2)
    last = g.dense("last", chosen, _weights(rng, 4, 16))
    sides: list[tuple[Sequence[int], Sequence[int]]] = [([x], [last])]
    for branch in (then, other):
        given = branch.tensor("given", (1, 16))
        sides.append(([given], [branch.dense("branch", given, _weights(rng, 16, 16), relu=branch is then)]))
    return file.write(path, sides)


def handed(path: Path) -> Path:
    """An IF with the weights of its branches among its arguments."""
    rng, file = np.random.default_rng(6), File()
    g, then, other = file.graph(), file.graph(), file.graph()
    x = g.tensor("x", (1, 12))
    first = g.dense("first", x, _weights(rng, 16, 12))
    wide = g.tensor("wide", (64, 16), _weights(rng, 64, 16))
    limit, axes = g.tensor("limit", (), 100.0), g.tensor("axes", (2,), [0, 1], "int32")
    mean, decision = g.tensor("mean", ()), g.tensor("decision", (), dtype="bool")
    g.operator("MEAN", [first, axes], [mean], "Reducer", keepDims=False)
    g.operator("GREATER", [mean, limit], [decision], "Greater")
    chosen = g.tensor("chosen", (1, 64))
    g.operator("IF", [decision, first, wide], [chosen], "If", thenSubgraphIndex=1, elseSubgraphIndex=2)
    sides: list[tuple[Sequence[int], Sequence[int]]] = [([x], [chosen])]
    for number, branch in enumerate((then, other)):
        given, matrix = branch.tensor(f"given{number}", (1, 16)), branch.tensor(f"matrix{number}", (64, 16))
        out = branch.tensor(f"out{number}", (1, 64))
        branch.operator("FULLY_CONNECTED", [given, matrix], [out], "FullyConnected", fusedActivationFunction=number)
        sides.append(([given, matrix], [out]))
    return file.write(path, sides)


def looped(path: Path) -> Path:
    """A loop that collects what it computes by slices and a concatenation."""
    file, steps = File(), 5
    g, condition, body = file.graph(), file.graph(), file.graph()
    x, out = g.tensor("x", (steps, 1, 4)), [g.tensor("count", (), dtype="int32"), g.tensor("list", (steps, 1, 4))]
    first, empty = g.tensor("first", (), 0, "int32"), g.tensor("empty", (steps, 1, 4), np.zeros((steps, 1, 4)))
    passed = g.tensor("passed", (steps, 1, 4))
    g.operator("WHILE", [first, empty, x], [*out, passed], "While", condSubgraphIndex=1, bodySubgraphIndex=2)

    def arguments(graph: Graph) -> list[int]:
        shapes = ((), (steps, 1, 4), (steps, 1, 4))
        return [
            graph.tensor(name, shape, dtype=dtype)
            for name, shape, dtype in zip(("t", "so_far", "rows"), shapes, ("int32", "float32", "float32"), strict=True)
        ]

    test = arguments(condition)
    more, limit = condition.tensor("more", (), dtype="bool"), condition.tensor("limit", (), steps, "int32")
    condition.operator("LESS", [test[0], limit], [more], "Less")

    def whole(name: str, values: Sequence[int]) -> int:
        return body.tensor(name, (len(values),), values, "int32")

    t, so_far, rows = arguments(body)
    one, following = body.tensor("one", (), 1, "int32"), body.tensor("following", (), dtype="int32")
    body.operator("ADD", [t, one], [following], "Add")
    row, value = body.tensor("row", (1, 4)), body.tensor("value", (1, 1, 4))
    body.operator("GATHER", [rows, t], [row], "Gather", axis=0)
    double, twice = body.tensor("double", (1, 4)), body.tensor("two", (), 2.0)
    body.operator("MUL", [row, twice], [double], "Mul")
    body.operator("RESHAPE", [double, whole("as_value", [1, 1, 4])], [value], "Reshape", newShape=[1, 1, 4])
    parts: list[int] = []
    for name, number, rest in (("sizes", t, [-1, -1]), ("begins", following, [0, 0])):
        alone, full = body.tensor(f"{name}_1", (1,), dtype="int32"), body.tensor(name, (3,), dtype="int32")
        body.operator("RESHAPE", [number, whole(f"{name}_shape", [1])], [alone], "Reshape", newShape=[1])
        body.operator("CONCATENATION", [alone, whole(f"{name}_rest", rest)], [full], "Concatenation", axis=0)
        part = body.tensor(f"{name}_part", (1, 1, 4))
        sides = [whole("start", [0, 0, 0]), full] if name == "sizes" else [full, whole("to_end", [-1, -1, -1])]
        body.operator("SLICE", [so_far, *sides], [part], "Slice")
        parts.append(part)
    joined = body.tensor("joined", (steps, 1, 4))
    body.operator("CONCATENATION", [parts[0], value, parts[1]], [joined], "Concatenation", axis=0)
    return file.write(path, [([x], [out[1]]), (test, [more]), ([t, so_far, rows], [following, joined, rows])])


def recurrent(path: Path, kind: str = "RNN", *, steps: int = 5, tied: bool = False) -> Path:
    """A recurrent operator with variable tensors, fused as converters write it; `kind` is RNN or LSTM.

    `tied`: an LSTM with peepholes, which few tools know.
    """
    rng, file = np.random.default_rng(10), File()
    g = file.graph()
    x, out = g.tensor("x", (1, steps, 4)), g.tensor("out", (1, steps, 6))
    gates = 1 if kind == "RNN" else 4

    def made(name: str, columns: int) -> list[int]:
        return [g.tensor(f"{name}{i}", (6, columns), _weights(rng, 6, columns)) for i in range(gates)]

    into, again = made("into", 4), made("again", 6)
    bias = [g.tensor(f"bias{i}", (6,), rng.normal(size=6) / 4) for i in range(gates)]
    state = g.tensor("state", (1, 6), variable=True)
    if kind == "RNN":
        inputs = [x, *into, *again, *bias, state]
        g.operator(
            "UNIDIRECTIONAL_SEQUENCE_RNN", inputs, [out], "SequenceRNN", timeMajor=False, fusedActivationFunction=4
        )  # fmt: skip
    else:
        peepholes = [g.tensor(f"peep{i}", (6,), np.ones(6)) if tied else -1 for i in range(3)]
        cell = g.tensor("cell", (1, 6), variable=True)
        inputs = [x, *into, *again, *peepholes, *bias, -1, -1, state, cell, -1, -1, -1, -1]
        g.operator(
            "UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, [out], "UnidirectionalSequenceLSTM", timeMajor=False,
            fusedActivationFunction=4, cellClip=0.0, projClip=0.0,
        )  # fmt: skip
    return file.write(path, [([x], [out])])


def shaped(path: Path) -> Path:
    """A reshape whose numbers are worked out while it runs."""
    rng, file = np.random.default_rng(7), File()
    g = file.graph()
    x = g.tensor("x", (1, 12))
    sizes, begin, end = g.tensor("sizes", (2,), dtype="int32"), *(
        g.tensor(f"at{i}", (1,), [i], "int32") for i in (0, 1)
    )  # fmt: skip
    g.operator("SHAPE", [x], [sizes], "Shape", outType=2)
    batch, four, three = g.tensor("batch", (), dtype="int32"), *(
        g.tensor(f"number{i}", (), i, "int32") for i in (4, 3)
    )  # fmt: skip
    g.operator("STRIDED_SLICE", [sizes, begin, end, end], [batch], "StridedSlice", shrinkAxisMask=1)
    wanted = g.tensor("wanted", (3,), dtype="int32")
    g.operator("PACK", [batch, four, three], [wanted], "Pack", valuesCount=3, axis=0)
    cube, axes, summed = g.tensor("cube", (1, 1, 1)), g.tensor("axes", (1,), [2], "int32"), g.tensor("summed", (1, 1))
    g.operator("RESHAPE", [x, wanted], [cube], "Reshape")
    g.operator("SUM", [cube, axes], [summed], "Reducer", keepDims=False)
    return file.write(path, [([x], [g.dense("out", summed, _weights(rng, 4, 4))])])


def tapped(path: Path) -> Path:
    """Two outputs, the first of which an operator reads that no quantizer takes."""
    rng, file = np.random.default_rng(8), File()
    g = file.graph()
    x = g.tensor("x", (1, 12))
    a = g.dense("early", x, _weights(rng, 16, 12))
    through = g.tensor("through", (1, 16))
    g.operator("ELU", [a], [through])
    return file.write(path, [([x], [a, g.dense("late", through, _weights(rng, 4, 16))])])


def divided(path: Path) -> Path:
    """A division by something that may be small."""
    rng, file = np.random.default_rng(9), File()
    g = file.graph()
    x = g.tensor("x", (1, 12))
    axes, most = g.tensor("axes", (1,), [1], "int32"), g.tensor("most", (1, 1))
    square, ratio = g.tensor("square", (1, 12)), g.tensor("ratio", (1, 12))
    g.operator("MUL", [x, x], [square], "Mul")
    g.operator("MEAN", [square, axes], [most], "Reducer", keepDims=True)
    g.operator("DIV", [x, most], [ratio], "Div")
    return file.write(path, [([x], [g.dense("out", ratio, _weights(rng, 4, 12))])])


def number(path: Path) -> Path:
    """A number without dimensions goes in, times a row of constants."""
    rng, file = np.random.default_rng(9), File()
    g = file.graph()
    x, row, wide = g.tensor("x", ()), g.tensor("row", (1, 12), rng.normal(size=(1, 12))), g.tensor("wide", (1, 12))
    g.operator("MUL", [x, row], [wide], "Mul")
    return file.write(path, [([x], [g.dense("out", wide, _weights(rng, 4, 12))])])


def detector(path: Path) -> Path:
    """Boxes [1, 8] in the hundreds and scores [1, 4] of 0 to 1 in one output."""
    rng, file = np.random.default_rng(2), File()
    g = file.graph()
    x = g.tensor("x", (1, 12))
    a = g.dense("trunk", x, _weights(rng, 16, 12), relu=True)
    boxes = g.dense("boxes", a, 200 * _weights(rng, 8, 16))
    logits = g.dense("logits", a, 3 * _weights(rng, 4, 16))
    scores = g.tensor("scores", (1, 4))
    g.operator("LOGISTIC", [logits], [scores])
    both = g.tensor("detections", (1, 12))
    g.operator("CONCATENATION", [boxes, scores], [both], "Concatenation", axis=1)
    return file.write(path, [([x], [both])])


def tokens(path: Path) -> Path:
    """A table that is looked up."""
    rng, file = np.random.default_rng(3), File()
    g = file.graph()
    ids = g.tensor("ids", (1, 5), dtype="int32")
    table = g.tensor("table", (40, 8), rng.normal(size=(40, 8)))
    rows = g.tensor("rows", (1, 5, 8))
    g.operator("GATHER", [table, ids], [rows], "Gather", axis=0)
    flat, shape = g.tensor("flat", (1, 40)), g.tensor("shape", (2,), [1, 40], "int32")
    g.operator("RESHAPE", [rows, shape], [flat], "Reshape", newShape=[1, 40])
    return file.write(path, [([ids], [g.dense("out", flat, _weights(rng, 4, 40))])])


def matmul(path: Path) -> Path:
    """A product with a constant as converters from ONNX write it, and its bias apart."""
    rng, file = np.random.default_rng(4), File()
    g = file.graph()
    x = g.tensor("x", (1, 6, 8))
    w = g.tensor("w", (8, 10), _weights(rng, 8, 10))
    product = g.tensor("product", (1, 6, 10))
    g.operator("BATCH_MATMUL", [x, w], [product], "BatchMatMul")
    bias, out = g.tensor("bias", (10,), rng.normal(size=10)), g.tensor("out", (1, 6, 10))
    g.operator("ADD", [product, bias], [out], "Add")
    return file.write(path, [([x], [out])])


def stacked(path: Path) -> Path:
    """A product with two constant matrices, one for each row of a batch, of columns that differ in size."""
    rng, file = np.random.default_rng(6), File()
    g = file.graph()
    x = g.tensor("x", (1, 2, 6, 8))
    weights = rng.normal(size=(1, 2, 8, 10)) * np.geomspace(0.05, 1, 10) / np.sqrt(8)
    w = g.tensor("w", (1, 2, 8, 10), weights.astype(np.float32))
    out = g.tensor("out", (1, 2, 6, 10))
    g.operator("BATCH_MATMUL", [x, w], [out], "BatchMatMul")
    return file.write(path, [([x], [out])])


def conv3d(path: Path) -> Path:
    """A convolution in three dimensions."""
    rng, file = np.random.default_rng(8), File()
    g = file.graph()
    x, out = g.tensor("x", (1, 4, 4, 4, 2)), g.tensor("out", (1, 4, 4, 4, 8))
    w = g.tensor("w", (3, 3, 3, 2, 8), (rng.normal(size=(3, 3, 3, 2, 8)) / 8).astype(np.float32))
    bias = g.tensor("bias", (8,), np.zeros(8, np.float32))
    ones = dict.fromkeys([f"stride{d}" for d in "DHW"] + [f"dilation{d}Factor" for d in "DHW"], 1)
    g.operator("CONV_3D", [x, w, bias], [out], "Conv3D", padding=0, **ones)
    return file.write(path, [([x], [out])])
