"""The Open Inference Protocol v2 over HTTP, with its binary tensor extension: bytes to tensors and back, no I/O.

A quantized model takes its own dtype, or FP32 that is quantized here; whoever sends FP32 gets FP32 back. Whatever is
wrong with a request is an OipError with a status of 4xx. Tensors are checked against what the model takes before memory
is spent on them: JSON may be 64 KiB and 64 bytes an element.
"""

from __future__ import annotations

import itertools
import json
import math
import struct
from dataclasses import dataclass, field
from typing import Any

from edgeship.runtime import __version__
from edgeship.runtime.errors import AgentError
from edgeship.runtime.manifest import TensorSpec
from edgeship.runtime.tensors import Quantizer, dequantize, is_quantized, numbers, pack
from edgeship.runtime.wire import DTYPES

JSON_TYPE, BINARY_TYPE = "application/json", "application/octet-stream"
JSON_LENGTH = "inference-header-content-length"

_DATATYPES = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "int8": "INT8",
    "int16": "INT16", "int32": "INT32", "int64": "INT64", "float16": "FP16", "float32": "FP32", "float64": "FP64",
}  # fmt: skip
_DTYPES = {datatype: dtype for dtype, datatype in _DATATYPES.items()}
_PLATFORMS = {"tflite": "litert_tflite", "onnx": "onnxruntime_onnx"}

_JSON_ROOM, _JSON_ELEMENT = 64 << 10, 64  # bytes
_NESTING = 16

_ENCODE = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class OipError(AgentError):
    """The request is wrong; `status` is the HTTP status that says so."""

    code = "bad-request"

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Response:
    """What goes back: status, headers in lower case, body."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Wanted:
    """One output as the client wants it."""

    index: int
    binary: bool
    dtype: str


@dataclass(frozen=True)
class Inference:
    """A decoded request: raw inputs in the model's own dtype and order, and how to answer."""

    id: str | None
    tensors: list[bytes | memoryview]
    wanted: tuple[Wanted, ...]


@dataclass(frozen=True)
class Endpoint:
    """One served model, as its clients see it."""

    name: str
    version: str
    format: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    quantizers: dict[int, Quantizer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.quantizers.update({i: Quantizer(spec) for i, spec in enumerate(self.inputs) if is_quantized(spec)})

    # ── what there is ────────────────────────────────────────────────────────────────────────────────────────────────

    def route(self, method: str, path: str) -> Response | None:
        """The answer to everything but an inference; None for an inference.

        Raises:
            OipError: 404 no such path or model, 405 another method is wanted.
        """
        parts = path.partition("?")[0].rstrip("/").split("/")[1:]
        if parts[:1] != ["v2"]:
            raise OipError(f"there is nothing at {path!r:.200}; the Open Inference Protocol starts at /v2", 404)
        what = parts[1:]
        if what[:1] == ["models"] and len(what) > 1:
            what = ["model", *self._below_model(what[1:])]
        known: dict[tuple[str, ...], Any] = {
            (): self._server, ("health", "live"): lambda: {"live": True}, ("health", "ready"): lambda: {"ready": True},
            ("model",): self._metadata, ("model", "ready"): lambda: {"name": self.name, "ready": True},
            ("model", "infer"): None,
        }  # fmt: skip
        if tuple(what) not in known:
            raise OipError(f"there is nothing at {path!r:.200}", 404)
        make = known[tuple(what)]
        if method != ("GET" if make else "POST"):
            raise OipError(f"{path!r:.200} takes {'GET' if make else 'POST'}, not {method:.20}", 405)
        return json_response(200, make()) if make else None

    def _below_model(self, parts: list[str]) -> list[str]:
        name, rest = parts[0], parts[1:]
        if name != self.name:
            raise OipError(f"unknown model {name!r:.80}; this device serves {self.name!r}", 404)
        if rest[:1] == ["versions"]:
            if rest[1:2] != [self.version]:
                raise OipError(f"unknown version of {name!r}; this device serves version {self.version!r}", 404)
            rest = rest[2:]
        return rest

    def _server(self) -> dict[str, Any]:
        return {"name": "edgeship", "version": __version__, "extensions": ["binary_tensor_data"]}

    def _metadata(self) -> dict[str, Any]:
        return {
            "name": self.name, "versions": [self.version], "platform": _PLATFORMS.get(self.format, self.format),
            "inputs": [_describe(spec) for spec in self.inputs], "outputs": [_describe(spec) for spec in self.outputs],
        }  # fmt: skip

    # ── inference ────────────────────────────────────────────────────────────────────────────────────────────────────

    def decode(self, headers: dict[str, str], body: bytes) -> Inference:
        """A request to tensors.

        Args:
            headers: names in lower case; the length of the JSON part where tensors follow it.
            body: JSON, then the binary tensors in the order of the inputs.

        Raises:
            OipError: anything is wrong with it.
        """
        if "content-encoding" in headers:
            raise OipError("compressed requests are not supported", 415)
        length = _json_length(headers, len(body))
        if length == 0:
            return self._decode_raw(body)
        room = _JSON_ROOM + _JSON_ELEMENT * sum(spec.count for spec in self.inputs)
        if length > room:
            raise OipError(f"JSON of {length} bytes is over this model's limit of {room}", 413)
        request = _parse(body[:length])
        ident = request.get("id")
        if ident is not None and not isinstance(ident, str):
            raise OipError("'id' must be text")
        parameters = _object(request, "parameters")
        blobs = _Blobs(memoryview(body)[length:])
        given: dict[int, bytes | memoryview] = {}
        floats = False
        for tensor in _list(request, "inputs"):
            index = _index(self.inputs, tensor, "input")
            if index in given:
                raise OipError(f"input {self.inputs[index].name!r} is given twice")
            given[index], real = self._tensor(index, tensor, blobs)
            floats = floats or real
        blobs.end()
        missing = [spec.name for index, spec in enumerate(self.inputs) if index not in given]
        if missing:
            raise OipError(f"input {missing[0]!r} is missing")
        wanted = self._wanted(request, binary=parameters.get("binary_data_output") is True, floats=floats)
        return Inference(ident, [given[index] for index in range(len(self.inputs))], wanted)

    def encode(self, inference: Inference, outputs: list[bytes]) -> Response:
        """The model's answers to a response. Raises OipError (500) when JSON is wanted of what is not finite."""
        described, blobs = [], []
        for wanted in inference.wanted:
            spec, raw = self.outputs[wanted.index], outputs[wanted.index]
            values: tuple[float, ...] = ()
            if wanted.dtype != spec.dtype:
                values = dequantize(raw, spec)
                raw = pack(values, wanted.dtype) if wanted.binary else b""
            elif not wanted.binary:
                values = numbers(raw, spec.dtype)
            tensor = {"name": spec.name, "datatype": _DATATYPES[wanted.dtype], "shape": spec.shape}
            if wanted.binary:
                described.append({**tensor, "parameters": {"binary_data_size": len(raw)}})
                blobs.append(raw)
            else:
                described.append({**tensor, "data": values})
        answer: dict[str, Any] = {"model_name": self.name, "model_version": self.version, "outputs": described}
        if inference.id is not None:
            answer["id"] = inference.id
        try:
            head = _ENCODE(answer).encode()
        except ValueError as error:
            raise OipError(
                "the model's answer holds NaN or infinity, which JSON cannot: ask for binary_data", 500
            ) from error
        if not blobs:
            return Response(200, {"content-type": JSON_TYPE}, head)
        return Response(200, {"content-type": BINARY_TYPE, JSON_LENGTH: str(len(head))}, b"".join([head, *blobs]))

    def _decode_raw(self, body: bytes) -> Inference:
        # an Inference-Header-Content-Length of 0: the body is the only input, nothing else
        if len(self.inputs) != 1:
            raise OipError(f"a body without JSON is for models of one input; {self.name!r} has {len(self.inputs)}")
        spec = self.inputs[0]
        floats = 0 in self.quantizers and len(body) == 4 * spec.count
        if not floats and len(body) != spec.nbytes:
            raise OipError(f"input {spec.name!r} takes {spec.nbytes} bytes, {len(body)} came")
        tensor = self._quantize(0, body) if floats else body
        return Inference(None, [tensor], self._wanted({}, binary=True, floats=floats))

    def _tensor(self, index: int, tensor: dict[str, Any], blobs: _Blobs) -> tuple[bytes | memoryview, bool]:
        spec, what = self.inputs[index], f"input {self.inputs[index].name!r}"
        datatype, shape = tensor.get("datatype"), tensor.get("shape")
        own = _DATATYPES[spec.dtype]
        if datatype != own and not (datatype == "FP32" and index in self.quantizers):
            also = " or FP32" if index in self.quantizers else ""
            raise OipError(f"{what} takes datatype {own}{also}, not {datatype!r:.40}")
        if shape != list(spec.shape):
            raise OipError(f"{what} takes shape {list(spec.shape)}, not {shape!r:.100}")
        dtype = _DTYPES[datatype]
        parameters = _object(tensor, "parameters")
        raw: bytes | memoryview
        if "binary_data_size" in parameters:
            if "data" in tensor:
                raise OipError(f"{what} has both 'data' and 'binary_data_size'")
            raw = blobs.take(parameters["binary_data_size"], what, spec.count * DTYPES[dtype][0])
        else:
            raw = _from_json(tensor.get("data"), dtype, spec.count, what)
        real = dtype != spec.dtype
        return (self._quantize(index, raw) if real else raw), real

    def _quantize(self, index: int, raw: bytes | memoryview) -> bytes:
        try:
            return self.quantizers[index](raw)
        except ValueError as error:
            raise OipError(f"input {self.inputs[index].name!r} holds NaN") from error

    def _wanted(self, request: dict[str, Any], *, binary: bool, floats: bool) -> tuple[Wanted, ...]:
        def wanted(index: int, *, as_binary: bool) -> Wanted:
            spec = self.outputs[index]
            return Wanted(index, as_binary, "float32" if floats and is_quantized(spec) else spec.dtype)

        asked = _list(request, "outputs") if request.get("outputs") is not None else []
        if not asked:
            return tuple(wanted(index, as_binary=binary) for index in range(len(self.outputs)))
        out: dict[int, Wanted] = {}
        for output in asked:
            index, parameters = _index(self.outputs, output, "output"), _object(output, "parameters")
            if index in out:
                raise OipError(f"output {self.outputs[index].name!r} is asked for twice")
            if parameters.get("classification") or "shared_memory_region" in parameters:
                raise OipError("outputs as classification or in shared memory are not supported")
            as_binary = parameters.get("binary_data", binary)
            out[index] = wanted(index, as_binary=as_binary is True)
        return tuple(out.values())


class _Blobs:
    """The binary tensors behind the JSON, taken in order."""

    def __init__(self, data: memoryview) -> None:
        self._data = data

    def take(self, size: Any, what: str, wanted: int) -> memoryview:
        if size != wanted or isinstance(size, bool):
            raise OipError(f"{what} takes {wanted} bytes, binary_data_size is {size!r:.40}")
        if size > len(self._data):
            raise OipError(f"{what} takes {size} bytes, {len(self._data)} are left in the body")
        out, self._data = self._data[:size], self._data[size:]
        return out

    def end(self) -> None:
        if len(self._data):
            raise OipError(f"{len(self._data)} bytes are left behind the last input")


def json_response(status: int, message: dict[str, Any]) -> Response:
    """A response of JSON."""
    return Response(status, {"content-type": JSON_TYPE}, _ENCODE(message).encode())


def error_response(status: int, message: str) -> Response:
    """The protocol's form of an error."""
    return json_response(status, {"error": message})


def _describe(spec: TensorSpec) -> dict[str, Any]:
    out: dict[str, Any] = {"name": spec.name, "datatype": _DATATYPES[spec.dtype], "shape": list(spec.shape)}
    if is_quantized(spec):
        out["parameters"] = {"scale": spec.scale, "zero_point": spec.zero_point}
    return out


def _json_length(headers: dict[str, str], total: int) -> int:
    text = headers.get(JSON_LENGTH)
    if text is None:
        if not total:
            raise OipError("the body is empty; an inference is JSON")
        return total
    if not (text.isascii() and text.isdigit() and len(text) <= 12 and int(text) <= total):
        raise OipError(f"Inference-Header-Content-Length {text!r:.40} is not a number up to the body's {total} bytes")
    return int(text)


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        request = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise OipError(f"the body is not valid JSON: {error}") from error
    if not isinstance(request, dict):
        raise OipError("the body must be a JSON object")
    return request


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("an object has the same key twice")
    return out


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is not allowed")


def _object(data: dict[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key)
    if value is not None and not isinstance(value, dict):
        raise OipError(f"{key!r} must be an object")
    return value or {}


def _list(data: dict[str, Any], key: str) -> list[dict[str, Any]]:
    value = data.get(key)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise OipError(f"{key!r} must be a list of objects")
    return value


def _index(specs: tuple[TensorSpec, ...], tensor: dict[str, Any], what: str) -> int:
    name = tensor.get("name")
    for index, spec in enumerate(specs):
        if spec.name == name:
            return index
    names = ", ".join(repr(spec.name) for spec in specs)
    raise OipError(f"unknown {what} {name!r:.80}; the model has {names}")


def _from_json(data: Any, dtype: str, count: int, what: str) -> bytes:
    if not isinstance(data, list):
        raise OipError(f"{what} has neither 'data' nor 'binary_data_size'")
    try:
        for _ in range(_NESTING):
            if not data or not isinstance(data[0], list):
                break
            data = list(itertools.chain.from_iterable(data))
        if len(data) != count:
            raise OipError(f"{what} takes {count} elements, {len(data)} came")
        if dtype == "bool" and not set(data) <= {False, True}:
            raise OipError(f"{what} takes true and false")
        raw = pack(data, dtype)
        if dtype.startswith("float") and not all(map(math.isfinite, data)):
            raise OipError(f"{what} holds a number that is out of range")
    except (TypeError, struct.error, OverflowError) as error:
        raise OipError(f"{what}: an element is not a number in the range of {dtype}: {error}") from error
    return raw
