"""The step that takes what onnx2tf wrote: names put back, then compared with the ONNX file in ONNX Runtime.

onnx2tf is silent about what it gets wrong, so nothing leaves here that was not seen to answer alike. Samples are seeded
noise of several kinds, one run after the other, the first again at the end: a state that survives a run shows.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.errors import ConversionError
from edgeship.runtime import engine
from edgeship.runtime.errors import EngineError
from edgeship.runtime.manifest import TensorSpec
from edgeship.targets import child
from edgeship.targets.onnx import graph as g
from edgeship.targets.onnx.prepare import fixed_model
from edgeship.targets.tflite.prepare import code_of
from edgeship.targets.tflite.reader import read

Array = NDArray[Any]

FILE = "model.tflite"
SAMPLES = 6
SEED = 0

#: Two right float implementations differ by 1e-6 to 1e-3 of what an output varies by; a wrong one by about 1.
MOST = 0.02
_FLAT = 1e-3  # an output that varies by less than this share of its size is measured against that
_AGREE = 0.95  # of the elements of an output of integers

_SMALL = 256  # bytes of a constant that is not worth sharing
_TRANSPOSE, _CUSTOM = 39, 32  # builtin codes of the schema
_KEY = "serving_default"
_WIDER = {"int64": "int32", "float64": "float32", "uint64": "uint32"}  # what TFLite may have instead
_STAY = "stay with ONNX for this model: an engine for it runs on most boards"


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Write `model.tflite` in `folder`, with the names, order and shapes of the ONNX model.

    Args:
        request: "path": the ONNX file; "converted": what onnx2tf wrote; "inputs", "outputs", "shapes": what `start`
            returned; "library": of the TFLite engine.
        folder: gets the file.

    Returns:
        {"error": the largest relative error of an output, "samples"}.

    Raises:
        ConversionError: an input or output is missing, of another shape, or answers otherwise; the engine refuses it.
    """
    raw = Path(request["converted"]).read_bytes()
    check_operators(raw)
    model, shapes = fixed_model(Path(request["path"])), request["shapes"]
    samples = list(draw(model, SAMPLES))
    samples.append(samples[0])
    expected = _reference(model, folder, samples)

    def made(turn: Collection[str]) -> list[dict[str, Array]]:
        (folder / FILE).write_bytes(restored(raw, request["inputs"], request["outputs"], shapes, turn))
        return _answers(model, folder / FILE, request["library"], samples)

    answers = made(())
    if turn := [name for name, shape in shapes.items() if _turns_unseen(shape, name, expected, answers)]:
        answers = made(turn)
    return {"error": compare(expected, answers), "samples": len(samples)}


def _answers(
    model: Any, file: Path, library: str, samples: Sequence[Mapping[str, Array]]
) -> list[dict[str, Array]]:  # fmt: skip
    """What the engine answers, sample after sample. Raises ConversionError."""
    try:
        ours = engine.load("tflite", library, str(file))
        try:
            check_inputs(model, ours.inputs)
            deadline = child.Deadline(file.parent, "one answer of the converted model")
            return [_run(ours, sample, deadline) for sample in samples]
        finally:
            ours.close()
    except EngineError as error:
        text = str(error).replace(f"{file} ", "it ")
        raise ConversionError(f"the engine cannot run what onnx2tf made of it: {text}", hint=_STAY) from error


def _turns_unseen(
    shape: Sequence[int], name: str, expected: Sequence[Mapping[str, Array]], answers: Sequence[Mapping[str, Array]]
) -> bool:  # fmt: skip
    """Whether an output comes with its channels last and its shape does not tell: 8 channels of 8 × 8."""
    if len(shape) < 3 or len(set(shape[1:])) > 1:
        return False
    a, b = (np.stack([answer[name] for answer in side]) for side in (expected, answers))
    if a.shape != b.shape or _error(a, b, 0) <= MOST:
        return False
    return _error(a, np.moveaxis(b, -1, 2), 0) <= MOST


def restored(
    data: bytes, inputs: Sequence[Sequence[str]], outputs: Sequence[Sequence[str]],
    shapes: Mapping[str, Sequence[int]], turn: Collection[str] = (),
) -> bytes:  # fmt: skip
    """The file with the source's names in the source's order, as one signature, and its outputs' own layouts.

    Args:
        data: a TFLite file whose inputs and outputs have plain names.
        inputs: [plain name, name in the source].
        outputs: the same of the outputs.
        shapes: of the outputs in the source, by its names, as far as they are known. One that comes with its channels
            last is turned back by a TRANSPOSE.
        turn: outputs to turn back though their shape does not tell.

    Raises:
        ConversionError: an input or output is not there.
    """
    schema: Any = importlib.import_module("ai_edge_litert.schema_py_generated")
    flatbuffers: Any = importlib.import_module("flatbuffers")
    model = schema.ModelT.InitFromPackedBuf(bytearray(data), 0)
    graph, signature = model.subgraphs[0], schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = _KEY, 0
    graph.inputs, signature.inputs = _side(schema, graph, list(graph.inputs), inputs, "input")
    graph.outputs, signature.outputs = _side(schema, graph, list(graph.outputs), outputs, "output")
    for at, entry in enumerate(signature.outputs):
        shape = list(shapes.get(entry.name, ()))
        made = [int(d) for d in graph.tensors[entry.tensorIndex].shape]
        if len(shape) > 2 and made == [shape[0], *shape[2:], shape[1]] and (made != shape or entry.name in turn):
            entry.tensorIndex = graph.outputs[at] = _turned(schema, model, graph, entry.tensorIndex, shape)
    _share(model, graph)
    model.signatureDefs = [signature]
    builder = flatbuffers.Builder(len(data) + 4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _share(model: Any, graph: Any) -> None:
    """Make equal constants one: onnx2tf writes a matrix once more for every operator that reads it.

    An LSTM of 50 steps would be 50 times its size.
    """
    first: dict[tuple[Any, ...], int] = {}
    instead: dict[int, int] = {}
    for index, tensor in enumerate(graph.tensors):
        data = model.buffers[tensor.buffer].data
        if data is None or len(data) < _SMALL or tensor.sparsity is not None:
            continue
        scales = None if tensor.quantization is None else tensor.quantization.scale
        if scales is None or not len(scales):
            key = (tensor.type, tuple(tensor.shape), bytes(data))
            if (same := first.setdefault(key, index)) != index:
                instead[index] = same
    for operator in graph.operators:
        operator.inputs = [instead.get(int(i), int(i)) for i in operator.inputs]
    for index in instead:
        graph.tensors[index].buffer = 0
    read = {tensor.buffer for each in model.subgraphs for tensor in each.tensors}
    read |= {item.buffer for item in model.metadata or []}
    for number, buffer in enumerate(model.buffers):
        if number not in read:
            buffer.data = None


def _turned(schema: Any, model: Any, graph: Any, index: int, shape: list[int]) -> int:
    """Add a TRANSPOSE from channels last to channels first behind a tensor, which gives its name away."""
    last = graph.tensors[index]
    order, buffer = schema.TensorT(), schema.BufferT()
    axes = np.array([0, len(shape) - 1, *range(1, len(shape) - 1)], "<i4")
    buffer.data = np.frombuffer(axes.tobytes(), np.uint8)
    order.name, order.shape, order.hasRank = last.name + b"_axes", [len(shape)], True
    order.type = schema.TensorType.INT32
    order.buffer, order.quantization = len(model.buffers), schema.QuantizationParametersT()
    model.buffers.append(buffer)
    first = schema.TensorT()
    first.name, first.shape, first.type, first.hasRank, first.buffer = last.name, shape, last.type, True, 0
    first.quantization, last.name = schema.QuantizationParametersT(), last.name + b"_channels_last"
    operator = schema.OperatorT()
    operator.opcodeIndex = code_of(schema, model, _TRANSPOSE, 1 if len(shape) < 5 else 5)
    operator.inputs, operator.outputs = [index, len(graph.tensors)], [len(graph.tensors) + 1]
    operator.builtinOptionsType = schema.BuiltinOptions.TransposeOptions
    operator.builtinOptions = schema.TransposeOptionsT()
    graph.tensors += [order, first]
    graph.operators.append(operator)
    return len(graph.tensors) - 1


def _side(
    schema: Any, graph: Any, indices: list[int], names: Sequence[Sequence[str]], kind: str
) -> tuple[list[int], list[Any]]:  # fmt: skip
    """(tensor indices in the source's order, entries of the signature)."""
    found = {graph.tensors[i].name.decode("utf-8", "replace"): int(i) for i in indices}
    order: list[int] = []
    entries: list[Any] = []
    for plain, name in names:
        if plain not in found:
            raise ConversionError(f"what onnx2tf made of it lacks the {kind} {name!r}", hint=_STAY)
        graph.tensors[found[plain]].name = name.encode()
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name, found[plain]
        entries.append(entry)
        order.append(found[plain])
    if len(found) != len(names):
        raise ConversionError(f"onnx2tf made {len(found)} {kind}s of its {len(names)}", hint=_STAY)
    return order, entries


def check_operators(data: bytes) -> None:
    """What onnx2tf has no TFLite for becomes an operator of its own, which no engine knows. Raises ConversionError."""
    custom = sorted({name.removeprefix("ONNX_") for code, name, _ in read(data).codes if code == _CUSTOM})
    if custom:
        raise ConversionError(
            f"onnx2tf has no TFLite operators for its {', '.join(custom)}",
            hint=f"replace that by other operators, or {_STAY}",
        )


def check_inputs(model: Any, inputs: Sequence[TensorSpec]) -> None:
    """The inputs of the converted model have the shapes of the source's. Raises ConversionError."""
    declared = {value.name: value.type.tensor_type for value in g.inputs(model.graph)}
    for spec in inputs:
        shape, dtype = [int(d.dim_value) for d in declared[spec.name].shape.dim], _dtype(declared[spec.name])
        if list(spec.shape) != shape:
            raise ConversionError(
                f"onnx2tf turned its input {spec.name!r} of {shape} into {list(spec.shape)}", hint=_STAY
            )
        if spec.dtype not in (dtype, _WIDER.get(dtype)):
            raise ConversionError(f"onnx2tf made its input {spec.name!r} {spec.dtype}, it is {dtype}", hint=_STAY)


def draw(model: Any, count: int, seed: int = SEED) -> Iterator[dict[str, Array]]:
    """Seeded samples of a model's inputs: several kinds of noise for floats, small or valid indices for integers.

    Returns:
        Input name -> array of its dtype and shape, `count` times.
    """
    rng = np.random.default_rng(seed)
    ends = _ends(model)
    for index in range(count):
        sample: dict[str, Array] = {}
        for value in g.inputs(model.graph):
            kind = value.type.tensor_type
            shape, dtype = [int(d.dim_value) for d in kind.shape.dim], np.dtype(_dtype(kind))
            if dtype.kind == "f":
                sample[value.name] = _noise(rng, shape, index).astype(dtype)
            else:
                end = ends.get(value.name, 2 if dtype.kind == "b" else 3)
                sample[value.name] = rng.integers(0, end, shape).astype(dtype)
        yield sample


def _noise(rng: np.random.Generator, shape: Sequence[int], index: int) -> Array:
    """Uniform, signed, normal in turn; every second time only a random half of it is there."""
    noise = (rng.uniform(0, 1, shape), rng.uniform(-1, 1, shape), rng.normal(0, 1, shape))[index % 3]
    return noise * (rng.uniform(0, 1, shape) < 0.5) if index % 2 else noise


def _ends(model: Any) -> dict[str, int]:
    """Integer input -> how many rows the table has that it picks from, as far as a Gather reads it directly."""
    sizes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    ends: dict[str, int] = {}
    behind = {value.name: value.name for value in g.inputs(model.graph)}
    for node in model.graph.node:
        if node.op_type in ("Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze") and node.input[0] in behind:
            behind[node.output[0]] = behind[node.input[0]]
        if node.op_type == "Gather" and node.input[0] in sizes and node.input[1] in behind:
            axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
            name, rows = behind[node.input[1]], int(sizes[node.input[0]][axis])
            ends[name] = min(rows, ends.get(name, rows))
    return ends


def _dtype(kind: Any) -> str:
    from edgeship.targets.onnx.inspect import DTYPES

    return DTYPES[kind.elem_type]


def _reference(model: Any, folder: Path, samples: Sequence[Mapping[str, Array]]) -> list[dict[str, Array]]:
    """What ONNX Runtime answers, by output. Raises ConversionError."""
    import onnx
    import onnxruntime

    path = folder / "reference.onnx"
    onnx.save(model, str(path))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        with child.Deadline(folder, child.LOAD):
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_outputs()]
        deadline = child.Deadline(folder, child.ANSWER)
        return [_asked(session, names, sample, deadline) for sample in samples]
    except Exception as error:
        text = " ".join(str(error).split())[:500]
        raise ConversionError(
            f"ONNX Runtime cannot run the source on noise, to compare with: {text}",
            hint="--format onnx needs no such comparison; edgeship model doctor MODEL finds the layer",
        ) from error


def _asked(session: Any, names: list[str], sample: Mapping[str, Array], deadline: child.Deadline) -> dict[str, Array]:
    with deadline:
        return dict(zip(names, session.run(names, dict(sample)), strict=True))


def _run(model: engine.Model, sample: Mapping[str, Array], deadline: child.Deadline) -> dict[str, Array]:
    """What the engine answers, by output."""
    given = [np.ascontiguousarray(sample[spec.name], np.dtype(spec.dtype)).tobytes() for spec in model.inputs]
    with deadline:
        answers = model.run(*given)
    return {
        spec.name: np.frombuffer(raw, np.dtype(spec.dtype)).reshape(spec.shape).copy()
        for spec, raw in zip(model.outputs, answers, strict=True)
    }


def compare(source: Sequence[Mapping[str, Array]], converted: Sequence[Mapping[str, Array]]) -> float:
    """The largest relative error of an output.

    The error of an output is the root of Σ(b − a)² over Σ(a − mean over the samples)²: an offset that all samples share
    hides nothing. The last sample is the first again.

    Raises:
        ConversionError: it is more than `MOST`, or shapes differ; the first output that does is named.
    """
    worst = 0.0
    for name in source[0]:
        a, b = [answer[name] for answer in source], [answer[name] for answer in converted]
        if a[0].shape != b[0].shape:
            raise ConversionError(
                f"onnx2tf made the output {name!r} {list(b[0].shape)}, it is {list(a[0].shape)}", hint=_STAY
            )
        errors = [_error(np.stack(a), np.stack(b), at) for at in range(len(a))]
        if max(errors) > MOST:
            raise ConversionError(_difference(name, errors), hint=_STAY)
        worst = max(worst, *errors)
    return worst


def _error(a: Array, b: Array, at: int) -> float:
    """Of one sample, against how much the output varies over all of them."""
    if a.dtype.kind != "f":
        return 0.0 if float(np.mean(a[at] == b[at])) >= _AGREE else 1.0
    if not np.array_equal(np.isfinite(a[at]), np.isfinite(b[at])):
        return float("inf")
    x, y = (np.where(np.isfinite(v), v, 0.0).astype(np.float64) for v in (a, b))
    varies = float(np.sqrt(np.mean(np.square(x - x.mean(axis=0)))))
    size = float(np.sqrt(np.mean(np.square(x))))
    off = float(np.sqrt(np.mean(np.square(x[at] - y[at]))))
    return off / max(varies, _FLAT * size, 1e-6)


def _difference(name: str, errors: Sequence[float]) -> str:
    what = f"what onnx2tf made of it computes something else: its output {name!r} differs"
    if errors[0] <= MOST:
        return f"{what} from the second run on: something of a run stays for the next, as the state of an LSTM does"
    return f"{what} by {max(errors):.0%} of what it varies by on noise"
