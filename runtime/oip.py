"""The Open Inference Protocol v2 over HTTP, with its binary tensor extension: bytes to tensors and back, no I/O.

A quantized model takes its own dtype, or FP32 that is quantized here; whoever sends FP32 gets FP32 back. Text is BYTES:
strings in JSON, or each element behind its length (4 bytes, little-endian) in the binary extension. Whatever is wrong
with a request is an OipError with a status of 4xx. Tensors are checked against what the model takes before memory is
spent on them: JSON may be 64 KiB and 64 bytes an element, 6 KiB an element of text.
"""

from __future__ import annotations

import itertools
import json
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from edgeship.runtime import __version__
from edgeship.runtime.errors import AgentError
from edgeship.runtime.manifest import TensorSpec
from edgeship.runtime.tensors import (
    LENGTH_BYTES,
    Quantizer,
    dequantize,
    framed_texts,
    is_quantized,
    numbers,
    pack,
    pack_texts,
)
from edgeship.runtime.wire import DATATYPES, DTYPE_OF, DTYPES, TEXT, TEXT_BYTES

JSON_TYPE, BINARY_TYPE = "application/json", "application/octet-stream"
JSON_LENGTH = "inference-header-content-length"

_PLATFORMS = {"tflite": "litert_tflite", "onnx": "onnxruntime_onnx"}

_JSON_ROOM, _JSON_ELEMENT, _JSON_TEXT = 64 << 10, 64, 6 * TEXT_BYTES  # bytes; a character as \u0041 takes six
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
class Given:
    """One input as the client sends it: `data` where it was in the JSON, else `size` bytes that follow the JSON."""

    index: int
    dtype: str
    data: bytes | None
    size: int = 0


@dataclass(frozen=True)
class Inference:
    """What a request's JSON says: where the inputs are, and how to answer."""

    id: str | None
    given: tuple[Given, ...]
    wanted: tuple[Wanted, ...]
    head: bytes | None  # the answer's JSON where all outputs are binary: known before they are


_REMEMBERED, _REMEMBERED_BYTES = 64, 4096


@dataclass(frozen=True)
class Endpoint:
    """One served model, as its clients see it."""

    name: str
    version: str
    format: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    _quantizers: dict[int, Quantizer] = field(default_factory=dict)
    _plans: dict[bytes, Inference] = field(default_factory=dict)  # JSON of binary requests, which clients repeat
    _infer: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._quantizers.update({i: Quantizer(spec) for i, spec in enumerate(self.inputs) if is_quantized(spec)})
        model = f"/v2/models/{self.name}"
        self._infer.update((f"{model}/infer", f"{model}/versions/{self.version}/infer"))

    # ── what there is ────────────────────────────────────────────────────────────────────────────────────────────────

    def route(self, method: str, path: str) -> Response | None:
        """The answer to everything but an inference; None for an inference.

        Raises:
            OipError: 404 no such path or model, 405 another method is wanted.
        """
        if method == "POST" and path in self._infer:
            return None
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

    def decode(self, headers: dict[str, str], body: bytes) -> tuple[Inference, list[bytes | memoryview]]:
        """A request to what it says and to raw tensors in the model's own dtypes and order.

        Args:
            headers: names in lower case; the length of the JSON part where tensors follow it.
            body: JSON, then the binary tensors in the order of the inputs.

        Raises:
            OipError: anything is wrong with it.
        """
        if "content-encoding" in headers:
            raise OipError("compressed requests are not supported", 415)
        length = _json_length(headers, len(body))
        if not length:
            inference = self._raw(len(body))
        else:
            head = body[:length]
            inference = self._plans.get(head) or self._plan(head)
        tensors: list[bytes | memoryview] = [b""] * len(self.inputs)
        at, view = length, memoryview(body)
        for given in inference.given:
            spec = self.inputs[given.index]
            raw: bytes | memoryview | None = given.data
            if raw is None:
                raw, at = view[at : at + given.size], at + given.size
                if len(raw) < given.size:
                    raise OipError(f"input {spec.name!r} takes {given.size} bytes, {len(raw)} are left in the body")
                if given.dtype == TEXT:
                    raw = _texts(partial(framed_texts, bytes(raw), spec.count), spec.count, f"input {spec.name!r}")
            tensors[given.index] = raw if given.dtype == spec.dtype else self._quantize(given.index, raw)
        if at != len(body):
            raise OipError(f"{len(body) - at} bytes are left behind the last input")
        return inference, tensors

    def _plan(self, raw: bytes) -> Inference:
        room = _JSON_ROOM + sum(
            spec.count * (_JSON_TEXT if spec.dtype == TEXT else _JSON_ELEMENT) for spec in self.inputs
        )
        if len(raw) > room:
            raise OipError(f"JSON of {len(raw)} bytes is over this model's limit of {room}", 413)
        request = _parse(raw)
        ident = request.get("id")
        if ident is not None and not isinstance(ident, str):
            raise OipError("'id' must be text")
        binary = _object(request, "parameters").get("binary_data_output") is True
        given: dict[int, Given] = {}
        for tensor in _list(request, "inputs"):
            one = self._given(tensor)
            if one.index in given:
                raise OipError(f"input {self.inputs[one.index].name!r} is given twice")
            given[one.index] = one
        missing = [spec.name for index, spec in enumerate(self.inputs) if index not in given]
        if missing:
            raise OipError(f"input {missing[0]!r} is missing")
        inference = self._inference(ident, tuple(given.values()), request.get("outputs") or [], binary=binary)
        if len(raw) <= _REMEMBERED_BYTES and all(one.data is None for one in inference.given):
            if len(self._plans) >= _REMEMBERED:
                self._plans.clear()
            self._plans[raw] = inference
        return inference

    def _raw(self, size: int) -> Inference:
        # an Inference-Header-Content-Length of 0: the body is the only input, nothing else
        if len(self.inputs) != 1:
            raise OipError(f"a body without JSON is for models of one input; {self.name!r} has {len(self.inputs)}")
        spec = self.inputs[0]
        dtype = "float32" if 0 in self._quantizers and size == 4 * spec.count else spec.dtype
        taken = size if dtype == TEXT else spec.count * DTYPES[dtype][0]
        return self._inference(None, (Given(0, dtype, None, taken),), [], binary=True)

    def _given(self, tensor: dict[str, Any]) -> Given:
        index = _index(self.inputs, tensor, "input")
        spec, what = self.inputs[index], f"input {self.inputs[index].name!r}"
        datatype, shape, parameters = tensor.get("datatype"), tensor.get("shape"), _object(tensor, "parameters")
        own = DATATYPES[spec.dtype]
        if datatype != own and not (datatype == "FP32" and index in self._quantizers):
            also = " or FP32" if index in self._quantizers else ""
            raise OipError(f"{what} takes datatype {own}{also}, not {datatype!r:.40}")
        if shape != list(spec.shape):
            raise OipError(f"{what} takes shape {list(spec.shape)}, not {shape!r:.100}")
        dtype = DTYPE_OF[datatype]
        if "binary_data_size" not in parameters:
            return Given(index, dtype, _from_json(tensor.get("data"), dtype, spec.count, what))
        if "data" in tensor:
            raise OipError(f"{what} has both 'data' and 'binary_data_size'")
        size, most = parameters["binary_data_size"], spec.count * DTYPES[dtype][0]
        least = most
        if dtype == TEXT:
            least, most = spec.count * LENGTH_BYTES, most + spec.count * LENGTH_BYTES
        if not isinstance(size, int) or isinstance(size, bool) or not least <= size <= most:
            wanted = str(most) if least == most else f"{least} to {most}"
            raise OipError(f"{what} takes {wanted} bytes, binary_data_size is {size!r:.40}")
        return Given(index, dtype, None, size)

    def _inference(
        self, ident: str | None, given: tuple[Given, ...], asked: list[dict[str, Any]], *, binary: bool
    ) -> Inference:
        floats = any(one.dtype != self.inputs[one.index].dtype for one in given)
        _list({"outputs": asked}, "outputs")
        wanted: dict[int, Wanted] = {}
        for output in asked or [{"name": spec.name} for spec in self.outputs]:
            index, parameters = _index(self.outputs, output, "output"), _object(output, "parameters")
            spec = self.outputs[index]
            if index in wanted:
                raise OipError(f"output {spec.name!r} is asked for twice")
            if parameters.get("classification") or "shared_memory_region" in parameters:
                raise OipError("outputs as classification or in shared memory are not supported")
            as_binary = parameters.get("binary_data", binary) is True
            wanted[index] = Wanted(index, as_binary, "float32" if floats and is_quantized(spec) else spec.dtype)
        order = tuple(wanted.values())
        inference = Inference(ident, given, order, None)
        if not all(one.binary for one in order):
            return inference
        return Inference(ident, given, order, self._head(inference, {}))

    def _head(self, inference: Inference, values: dict[int, tuple[float, ...]]) -> bytes:
        described = []
        for wanted in inference.wanted:
            spec = self.outputs[wanted.index]
            tensor: dict[str, Any] = {"name": spec.name, "datatype": DATATYPES[wanted.dtype], "shape": spec.shape}
            if wanted.binary:
                tensor["parameters"] = {"binary_data_size": spec.count * DTYPES[wanted.dtype][0]}
            else:
                tensor["data"] = values[wanted.index]
            described.append(tensor)
        answer: dict[str, Any] = {"model_name": self.name, "model_version": self.version, "outputs": described}
        if inference.id is not None:
            answer["id"] = inference.id
        try:
            return _ENCODE(answer).encode()
        except ValueError as error:
            raise OipError(
                "the answer holds NaN or infinity, which JSON cannot say: ask for binary_data", 500
            ) from error

    def encode(self, inference: Inference, outputs: list[bytes]) -> Response:
        """The model's answers to a response. Raises OipError (500) when JSON is wanted of what is not finite."""
        blobs: list[bytes] = []
        values: dict[int, tuple[float, ...]] = {}
        for wanted in inference.wanted:
            spec, raw = self.outputs[wanted.index], outputs[wanted.index]
            if wanted.binary:
                blobs.append(raw if wanted.dtype == spec.dtype else pack(dequantize(raw, spec), wanted.dtype))
            else:
                values[wanted.index] = numbers(raw, spec.dtype) if wanted.dtype == spec.dtype else dequantize(raw, spec)
        head = inference.head or self._head(inference, values)
        if not blobs:
            return Response(200, {"content-type": JSON_TYPE}, head)
        return Response(200, {"content-type": BINARY_TYPE, JSON_LENGTH: str(len(head))}, b"".join([head, *blobs]))

    def _quantize(self, index: int, raw: bytes | memoryview) -> bytes:
        try:
            return self._quantizers[index](raw)
        except ValueError as error:
            raise OipError(f"input {self.inputs[index].name!r} holds NaN") from error


def json_response(status: int, message: dict[str, Any]) -> Response:
    """A response of JSON."""
    return Response(status, {"content-type": JSON_TYPE}, _ENCODE(message).encode())


def error_response(status: int, message: str) -> Response:
    """The protocol's form of an error."""
    return json_response(status, {"error": message})


def _describe(spec: TensorSpec) -> dict[str, Any]:
    out: dict[str, Any] = {"name": spec.name, "datatype": DATATYPES[spec.dtype], "shape": list(spec.shape)}
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
        request = _DECODE(raw.decode("utf-8"))
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


_DECODE = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse).decode


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
            if any(isinstance(item, str) for item in data):
                raise OipError(f"{what} holds texts beside lists")
            data = list(itertools.chain.from_iterable(data))
        if len(data) != count:
            raise OipError(f"{what} takes {count} elements, {len(data)} came")
        if dtype == TEXT:
            whole = [element.encode("utf-8", "surrogatepass") for element in data if isinstance(element, str)]
            return _texts(lambda: whole, count, what)
        if dtype == "bool" and not set(data) <= {False, True}:
            raise OipError(f"{what} takes true and false")
        raw = pack(data, dtype)
        if dtype.startswith("float") and not all(map(math.isfinite, data)):
            raise OipError(f"{what} holds a number that is out of range")
    except (TypeError, struct.error, OverflowError) as error:
        raise OipError(f"{what}: an element is not a number in the range of {dtype}: {error}") from error
    return raw


def _texts(elements: Callable[[], list[bytes]], count: int, what: str) -> bytes:
    """A raw tensor of text. Raises OipError where these are other than `count` texts that a device takes."""
    try:
        found = elements()
        if len(found) != count:
            raise OipError(f"{what} takes {count} texts, {len(found)} came")
        return pack_texts(found)
    except ValueError as error:
        raise OipError(f"{what}: {error}") from error
