"""Tiny real models, made in milliseconds without any framework, for every test that needs one.

    tiny = tiny_tflite(tmp_path / "m.tflite")                     # int8 classifier, 8×8×1 -> 10 classes
    tiny = tiny_onnx(tmp_path / "m.onnx", precision="float32")    # the same one as ONNX
    x, labels = samples(100)                                      # float32 [100, 8, 8, 1] in [0, 1], int32 [100]
    tiny.quantize(x[:1])                                          # bytes as the model takes them
    tiny.reference(tiny.quantize(x[:1]))                          # [bytes], what the model should answer, ± 2 steps
    source(x)                                                     # float32 [100, 10]: the source float model
    variant = variant_ref(tiny, tmp_path / "golden.bin")          # VariantRef with hashes; writes the golden file
    library("tflite")                                             # Path of the host's libLiteRt.so

The classifier is a real one: class prototypes drawn from a seed, a dense layer that scores the distance to each, a
softmax. It is right on all but a few of `samples`; `bad=True` gives one whose weights are turned by one class, so
it is wrong on nearly all of them. `pair_tflite` and `pair_onnx` have two inputs and two outputs: a, b [1, 4] give their
product and sum.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeship.runtime.manifest import FileRef, Golden, RuntimeRef, TensorSpec, VariantRef

Precision = Literal["int8", "float32"]
Float = NDArray[np.float32]

SHAPE = (1, 8, 8, 1)
CLASSES = 10
_SHARPNESS = 0.6
_INPUT = TensorSpec("image", "int8", SHAPE, float(np.float32(1 / 255)), -128)
_OUTPUT = TensorSpec("probabilities", "int8", (1, CLASSES), 1 / 256, -128)
_LOGIT_SCALE, _LOGIT_ZERO = float(np.float32(0.15)), 0


@dataclass(frozen=True)
class TinyModel:
    """A model file and what is known of it. `reference` takes and gives raw little-endian bytes in native dtype."""

    path: Path
    format: str  # tflite | onnx
    precision: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    reference: Callable[..., list[bytes]]

    @property
    def sha256(self) -> str:
        """Of the file."""
        return sha256(self.path)

    def quantize(self, x: NDArray[Any]) -> bytes:
        """Real values of input 0 as the model takes them, any number of samples."""
        return _to_native(x, self.inputs[0])

    def dequantize(self, raw: bytes, index: int = 0) -> Float:
        """Output `index` as real values, shape [samples, *shape[1:]]."""
        spec = self.outputs[index]
        values = np.frombuffer(raw, spec.dtype).reshape(-1, *spec.shape[1:]).astype(np.float32)
        real: Float = (values - np.float32(spec.zero_point)) * np.float32(spec.scale) if spec.scale else values
        return real


def library(format: str) -> Path:  # noqa: A002 - the domain's word
    """The runtime library that runs `format` on this host, found without importing its package."""
    package, pattern = {
        "tflite": ("ai_edge_litert", "libLiteRt.so"),
        "onnx": ("onnxruntime", "capi/libonnxruntime.so*"),
    }[format]
    return next(_folder(package).glob(pattern))


def samples(n: int, seed: int = 1) -> tuple[Float, NDArray[np.int32]]:
    """`n` inputs float32 [n, 8, 8, 1] in [0, 1] with labels int32 [n], classes in turn."""
    labels = (np.arange(n) % CLASSES).astype(np.int32)
    noise = np.random.default_rng(seed).normal(0, 0.2, (n, 64))
    x = np.clip(_prototypes()[labels] + noise, 0, 1).astype(np.float32)
    return x.reshape(n, *SHAPE[1:]), labels


def source(x: NDArray[Any], *, bad: bool = False) -> Float:
    """The source float model: real inputs [n, 8, 8, 1] -> probabilities float32 [n, 10]."""
    weights, bias = _dense(bad)
    return _softmax(x.reshape(-1, 64).astype(np.float32) @ weights.T + bias)


def tiny_tflite(
    path: Path, precision: Precision = "int8", *, bad: bool = False, signature: bool = True, dynamic: bool = False
) -> TinyModel:
    """Write the classifier as TFLite: FULLY_CONNECTED, SOFTMAX; int8 has int8 inputs and outputs.

    Args:
        path: where to.
        precision: int8 or float32.
        bad: turned weights, wrong answers.
        signature: with a `serving_default` signature.
        dynamic: declare the batch as −1, as Keras does by default; the engine must refuse it.
    """
    path.write_bytes(_classifier_tflite(precision, bad, signature, dynamic))
    return _tiny(path, "tflite", precision, bad=bad, native=precision == "int8")


def tiny_onnx(path: Path, precision: Precision = "int8", *, bad: bool = False, dynamic: bool = False) -> TinyModel:
    """Write the classifier as ONNX, opset 17: Flatten, Gemm, Softmax; int8 is QDQ with float32 inputs and outputs."""
    path.write_bytes(_classifier_onnx(precision, bad, dynamic))
    return _tiny(path, "onnx", precision, bad=bad, native=False)


def pair_tflite(path: Path) -> TinyModel:
    """Write a float32 TFLite model: inputs a, b [1, 4]; outputs sum, product [1, 4]."""
    path.write_bytes(_pair_tflite())
    return TinyModel(path, "tflite", "float32", *_PAIR, _pair_reference)


def pair_onnx(path: Path) -> TinyModel:
    """Write the same pair model as ONNX."""
    path.write_bytes(_pair_onnx())
    return TinyModel(path, "onnx", "float32", *_PAIR, _pair_reference)


def variant_ref(
    tiny: TinyModel,
    golden: Path,
    *,
    profiles: tuple[str, ...] = ("generic-x86-64",),
    count: int = 16,
    max_abs: float = 0.05,
    min_agreement: float = 0.875,
    task: str = "classification",
    labels: tuple[str, ...] = (),
    threads: int = 1,
    latency_p95_ms: float | None = None,
    memory_mb: float | None = None,
) -> VariantRef:
    """A VariantRef of a classifier for this host's arch and library; writes `count` golden samples to `golden`.

    The golden outputs are always those of the right float model, so a variant made `bad` fails its probe.
    """
    x, truth = samples(count, seed=7)
    outputs = source(x).astype("<f4").tobytes()
    golden.write_bytes(tiny.quantize(x) + truth.astype("<i4").tobytes() + outputs)
    runtime = library(tiny.format)
    return VariantRef(
        profiles=profiles, format=tiny.format, precision=tiny.precision, file=file_ref(tiny.path),
        runtimes=(RuntimeRef(runtime.name, platform.machine(), file_ref(runtime)),),
        recipe=FileRef(hashlib.sha256(b"{}").hexdigest(), 2), inputs=tiny.inputs, outputs=tiny.outputs,
        golden=Golden(file_ref(golden), count, max_abs, min_agreement), threads=threads, task=task, labels=labels,
        measured={"metric": "top1", "float": 1.0, "variant": 1.0, "samples": count},
        latency_p95_ms=latency_p95_ms, memory_mb=memory_mb,
    )  # fmt: skip


def file_ref(path: Path) -> FileRef:
    """Hash and size of a file."""
    return FileRef(sha256(path), path.stat().st_size)


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    stat = path.stat()
    return _sha256(path, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=64)
def _sha256(path: Path, _mtime: int, _size: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# ── the classifier in numpy ──────────────────────────────────────────────────────────────────────────────────────────


@functools.cache
def _prototypes() -> Float:
    return np.random.default_rng(0).uniform(0, 1, (CLASSES, 64)).astype(np.float32)


@functools.cache
def _dense(bad: bool) -> tuple[Float, Float]:
    # −|x − p|² without the part that all classes share
    p = np.roll(_prototypes(), 1, axis=0) if bad else _prototypes()
    return 2 * _SHARPNESS * p, -_SHARPNESS * (p * p).sum(axis=1)


@functools.cache
def _quantized(bad: bool) -> tuple[NDArray[np.int8], NDArray[np.int32], float]:
    weights, bias = _dense(bad)
    scale = float(np.abs(weights).max()) / 127
    q = np.rint(weights / scale).astype(np.int8)
    return q, np.rint(bias / (scale * _INPUT.scale)).astype(np.int32), scale


def _softmax(logits: NDArray[Any]) -> Float:
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    out: Float = (e / e.sum(axis=1, keepdims=True)).astype(np.float32)
    return out


def _to_native(x: NDArray[Any], spec: TensorSpec) -> bytes:
    if not spec.scale:
        return bytes(x.astype(spec.dtype).tobytes())
    info = np.iinfo(spec.dtype)
    q = np.rint(x / np.float32(spec.scale)) + spec.zero_point
    return bytes(np.clip(q, info.min, info.max).astype(spec.dtype).tobytes())


def _tiny(path: Path, format: str, precision: str, *, bad: bool, native: bool) -> TinyModel:  # noqa: A002
    inputs, outputs = (_INPUT,), (_OUTPUT,)
    if not native:
        inputs = (TensorSpec("image", "float32", SHAPE),)
        outputs = (TensorSpec("probabilities", "float32", (1, CLASSES)),)

    def reference(raw: bytes) -> list[bytes]:
        x = np.frombuffer(raw, inputs[0].dtype).reshape(-1, 64)
        if precision == "float32":
            return [source(x, bad=bad).tobytes()]
        q = x.astype(np.int32) if native else np.clip(np.rint(x * 255) - 128, -128, 127).astype(np.int32)
        weights, bias, scale = _quantized(bad)
        total = (q + 128) @ weights.T.astype(np.int32) + bias
        logits = np.clip(np.rint(total * (scale * _INPUT.scale / _LOGIT_SCALE)) + _LOGIT_ZERO, -128, 127)
        return [_to_native(_softmax((logits - _LOGIT_ZERO) * _LOGIT_SCALE), outputs[0])]

    return TinyModel(path, format, precision, inputs, outputs, reference)


_PAIR = (
    (TensorSpec("a", "float32", (1, 4)), TensorSpec("b", "float32", (1, 4))),
    (TensorSpec("product", "float32", (1, 4)), TensorSpec("sum", "float32", (1, 4))),
)


def _pair_reference(a: bytes, b: bytes) -> list[bytes]:
    x, y = np.frombuffer(a, np.float32), np.frombuffer(b, np.float32)
    return [(x * y).tobytes(), (x + y).tobytes()]


# ── TFLite ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@functools.cache
def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


@functools.cache
def _schema() -> ModuleType:
    # loaded by its path: importing the package would map libLiteRt.so into the test process
    path = _folder("ai_edge_litert") / "schema_py_generated.py"
    spec = importlib.util.spec_from_file_location("_tflite_schema", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class _Graph:
    """A subgraph in the making: buffers, tensors, operators by index."""

    def __init__(self) -> None:
        self.s: Any = _schema()
        self.buffers, self.tensors = [self.s.BufferT()], list[Any]()
        self.codes, self.operators = list[Any](), list[Any]()

    def tensor(self, spec: TensorSpec, data: NDArray[Any] | None = None, *, dynamic: bool = False) -> int:
        t = self.s.TensorT()
        t.name, t.shape = spec.name.encode(), list(spec.shape)
        t.hasRank, t.shapeSignature = True, [-1, *spec.shape[1:]] if dynamic else None
        t.type = getattr(self.s.TensorType, spec.dtype.upper())
        t.quantization = self.s.QuantizationParametersT()
        if spec.scale:
            t.quantization.scale, t.quantization.zeroPoint = [spec.scale], [spec.zero_point]
        t.buffer = 0
        if data is not None:
            buffer = self.s.BufferT()
            buffer.data = np.frombuffer(data.tobytes(), np.uint8)
            t.buffer = len(self.buffers)
            self.buffers.append(buffer)
        self.tensors.append(t)
        return len(self.tensors) - 1

    def operator(self, name: str, kind: str, options: Any, inputs: list[int], outputs: list[int], version: int) -> None:
        code, op = self.s.OperatorCodeT(), self.s.OperatorT()
        code.builtinCode = getattr(self.s.BuiltinOperator, name)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), version
        op.opcodeIndex, op.inputs, op.outputs = len(self.codes), inputs, outputs
        op.builtinOptionsType, op.builtinOptions = getattr(self.s.BuiltinOptions, kind), options
        self.codes.append(code)
        self.operators.append(op)

    def finish(self, inputs: list[int], outputs: list[int], *, signature: bool) -> bytes:
        graph, model = self.s.SubGraphT(), self.s.ModelT()
        graph.name, graph.tensors, graph.operators = b"main", self.tensors, self.operators
        graph.inputs, graph.outputs = inputs, outputs
        model.version, model.description = 3, b"tiny"
        model.operatorCodes, model.subgraphs, model.buffers = self.codes, [graph], self.buffers
        if signature:
            sig = self.s.SignatureDefT()
            sig.signatureKey, sig.subgraphIndex = b"serving_default", 0
            sig.inputs, sig.outputs = self._maps(inputs), self._maps(outputs)
            model.signatureDefs = [sig]
        builder = self.s.flatbuffers.Builder(4096)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _maps(self, indices: list[int]) -> list[Any]:
        out = []
        for index in indices:
            entry = self.s.TensorMapT()
            entry.name, entry.tensorIndex = self.tensors[index].name, index
            out.append(entry)
        return sorted(out, key=lambda entry: bytes(entry.name))


@functools.cache
def _classifier_tflite(precision: str, bad: bool, signature: bool, dynamic: bool) -> bytes:
    g, int8 = _Graph(), precision == "int8"
    dtype = "int8" if int8 else "float32"
    scales = {"image": (_INPUT.scale, -128), "logits": (_LOGIT_SCALE, _LOGIT_ZERO), "probabilities": (1 / 256, -128)}

    def spec(name: str, shape: tuple[int, ...]) -> TensorSpec:
        return TensorSpec(name, dtype, shape, *(scales[name] if int8 else ()))

    image = g.tensor(spec("image", SHAPE), dynamic=dynamic)
    if int8:
        q, q_bias, scale = _quantized(bad)
        weights = g.tensor(TensorSpec("weights", "int8", q.shape, scale, 0), q)
        bias = g.tensor(TensorSpec("bias", "int32", q_bias.shape, scale * _INPUT.scale, 0), q_bias)
    else:
        w, b = _dense(bad)
        weights = g.tensor(TensorSpec("weights", "float32", w.shape), w)
        bias = g.tensor(TensorSpec("bias", "float32", b.shape), b)
    logits = g.tensor(spec("logits", (1, CLASSES)), dynamic=dynamic)
    out = g.tensor(spec("probabilities", (1, CLASSES)), dynamic=dynamic)
    g.operator("FULLY_CONNECTED", "FullyConnectedOptions", g.s.FullyConnectedOptionsT(), [image, weights, bias],
               [logits], 4 if int8 else 1)  # fmt: skip
    softmax = g.s.SoftmaxOptionsT()
    softmax.beta = 1.0
    g.operator("SOFTMAX", "SoftmaxOptions", softmax, [logits], [out], 2 if int8 else 1)
    return g.finish([image], [out], signature=signature)


@functools.cache
def _pair_tflite() -> bytes:
    g = _Graph()
    a, b = (g.tensor(spec) for spec in _PAIR[0])
    product, total = (g.tensor(spec) for spec in _PAIR[1])
    g.operator("MUL", "MulOptions", g.s.MulOptionsT(), [a, b], [product], 1)
    g.operator("ADD", "AddOptions", g.s.AddOptionsT(), [a, b], [total], 1)
    return g.finish([a, b], [product, total], signature=True)


# ── ONNX ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@functools.cache
def _classifier_onnx(precision: str, bad: bool, dynamic: bool) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    batch = "batch" if dynamic else 1
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, *SHAPE[1:]])
    out = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [batch, CLASSES])
    node, constants = helper.make_node, dict[str, Any]()
    if precision == "float32":
        constants |= dict(zip(("w", "b"), _dense(bad), strict=True))
        nodes = [node("Flatten", ["image"], ["flat"])]
    else:
        q, q_bias, scale = _quantized(bad)
        f32 = np.float32
        constants |= {
            "xs": f32(_INPUT.scale), "xz": np.int8(-128), "wq": q, "ws": f32(scale), "wz": np.int8(0),
            "bq": q_bias, "bs": f32(scale * _INPUT.scale), "bz": np.int32(0),
            "ys": f32(_LOGIT_SCALE), "yz": np.int8(_LOGIT_ZERO),
        }  # fmt: skip
        nodes = [
            node("QuantizeLinear", ["image", "xs", "xz"], ["xq"]),
            node("DequantizeLinear", ["xq", "xs", "xz"], ["x"]),
            node("DequantizeLinear", ["wq", "ws", "wz"], ["w"]),
            node("DequantizeLinear", ["bq", "bs", "bz"], ["b"]),
            node("Flatten", ["x"], ["flat"]),
        ]
    raw = "logits" if precision == "float32" else "logits_raw"
    nodes.append(node("Gemm", ["flat", "w", "b"], [raw], transB=1))
    if precision != "float32":
        nodes += [
            node("QuantizeLinear", [raw, "ys", "yz"], ["yq"]),
            node("DequantizeLinear", ["yq", "ys", "yz"], ["logits"]),
        ]
    nodes.append(node("Softmax", ["logits"], ["probabilities"], axis=1))
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    return _onnx_bytes(helper.make_graph(nodes, "tiny", [image], [out], initializers))


@functools.cache
def _pair_onnx() -> bytes:
    from onnx import TensorProto, helper

    def info(spec: TensorSpec) -> Any:
        return helper.make_tensor_value_info(spec.name, TensorProto.FLOAT, list(spec.shape))

    nodes = [helper.make_node("Mul", ["a", "b"], ["product"]), helper.make_node("Add", ["a", "b"], ["sum"])]
    return _onnx_bytes(helper.make_graph(nodes, "pair", [info(s) for s in _PAIR[0]], [info(s) for s in _PAIR[1]]))


def _onnx_bytes(graph: Any) -> bytes:
    from onnx import checker, helper

    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    return bytes(model.SerializeToString())
