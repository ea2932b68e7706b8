"""The Open Inference Protocol: what is decoded, what is answered, what is refused and how."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.runtime.manifest import TensorSpec
from edgeship.runtime.oip import JSON_LENGTH, Endpoint, OipError, Response, error_response
from edgeship.runtime.tensors import pack
from edgeship.runtime.wire import TEXT_BYTES

X = TensorSpec("x", "int8", (1, 4), 0.5, 1)
Y = TensorSpec("y", "int8", (1, 3), 0.25, -128)
F = TensorSpec("f", "float32", (2, 2))
INFER = "/v2/models/m/infer"


def quantized() -> Endpoint:
    return Endpoint("m", "3", "tflite", (X,), (Y,))


def pair() -> Endpoint:
    return Endpoint("m", "3", "onnx", (F, TensorSpec("n", "int64", (1,))), (F, TensorSpec("b", "bool", (1, 2))))


def tensor(**changes: Any) -> dict[str, Any]:
    return {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [0, 1, 2, 3], **changes}


def request(*tensors: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"inputs": list(tensors), **more}).encode()


def binary(head: bytes, tail: bytes, endpoint: Endpoint | None = None) -> tuple[Any, list[bytes]]:
    inference, tensors = (endpoint or quantized()).decode({JSON_LENGTH: str(len(head))}, head + tail)
    return inference, [bytes(t) for t in tensors]


def refused(call: Any) -> OipError:
    with pytest.raises(OipError) as caught:
        call()
    return caught.value


# ── routes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def answer(path: str, method: str = "GET") -> tuple[int, Any]:
    response = quantized().route(method, path)
    assert response is not None
    return response.status, json.loads(response.body)


def test_health_and_server() -> None:
    assert answer("/v2/health/live") == (200, {"live": True})
    assert answer("/v2/health/ready") == (200, {"ready": True})
    status, server = answer("/v2/")
    assert status == 200
    assert server["extensions"] == ["binary_tensor_data"]


@pytest.mark.parametrize("path", ["/v2/models/m", "/v2/models/m/versions/3", "/v2/models/m/?x=1"])
def test_metadata_names_shapes_and_parameters(path: str) -> None:
    assert answer(path)[1] == {
        "name": "m", "versions": ["3"], "platform": "litert_tflite",
        "inputs": [
            {"name": "x", "datatype": "INT8", "shape": [1, 4], "parameters": {"scale": 0.5, "zero_point": 1}}
        ],
        "outputs": [
            {"name": "y", "datatype": "INT8", "shape": [1, 3], "parameters": {"scale": 0.25, "zero_point": -128}}
        ],
    }  # fmt: skip


def test_ready_of_the_model_with_and_without_version() -> None:
    assert answer("/v2/models/m/ready")[1]["ready"] is True
    assert answer("/v2/models/m/versions/3/ready")[1]["ready"] is True


@pytest.mark.parametrize("path", [INFER, "/v2/models/m/versions/3/infer", INFER + "?x=1"])
def test_an_inference_is_left_to_the_caller(path: str) -> None:
    assert quantized().route("POST", path) is None


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404), ("GET", "/metrics", 404), ("GET", "/v2/nothing", 404), ("GET", "/v2/models", 404),
        ("GET", "/v2/models/other", 404), ("POST", "/v2/models/other/infer", 404),
        ("GET", "/v2/models/m/versions/4", 404), ("GET", "/v2/models/m/versions", 404),
        ("GET", "/v2/models/m/infer/more", 404), ("GET", INFER, 405), ("PUT", INFER, 405),
        ("POST", "/v2/health/live", 405), ("POST", "/v2", 405),
    ],
)  # fmt: skip
def test_what_is_not_there(method: str, path: str, status: int) -> None:
    error = refused(lambda: quantized().route(method, path))
    assert error.status == status
    assert error.code == "bad-request"


# ── decode ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_fp32_json_is_quantized_and_answered_in_fp32() -> None:
    inference, tensors = quantized().decode({}, request(tensor()))
    assert tensors == [pack([1, 3, 5, 7], "int8")]
    response = quantized().encode(inference, [pack([-128, -124, 127], "int8")])
    assert json.loads(response.body)["outputs"] == [
        {"name": "y", "datatype": "FP32", "shape": [1, 3], "data": [0.0, 1.0, 63.75]}
    ]
    assert response.headers == {"content-type": "application/json"}


def test_the_models_own_dtype_goes_through_untouched() -> None:
    inference, tensors = quantized().decode({}, request(tensor(datatype="INT8", data=[[1, -2, 3, -128]]), id="abc"))
    assert tensors == [pack([1, -2, 3, -128], "int8")]
    answered = json.loads(quantized().encode(inference, [pack([1, 2, 3], "int8")]).body)
    assert answered == {
        "model_name": "m", "model_version": "3", "id": "abc",
        "outputs": [{"name": "y", "datatype": "INT8", "shape": [1, 3], "data": [1, 2, 3]}],
    }  # fmt: skip


def test_binary_in_and_out() -> None:
    head = request(
        tensor(datatype="INT8", data=None) | {"parameters": {"binary_data_size": 4}},
        outputs=[{"name": "y", "parameters": {"binary_data": True}}],
    ).replace(b'"data": null, ', b"")
    endpoint = quantized()
    for _ in range(2):  # the second one is remembered
        inference, tensors = binary(head, b"\x01\x02\x03\x04", endpoint)
        assert tensors == [b"\x01\x02\x03\x04"]
        response = endpoint.encode(inference, [b"abc"])
        length = int(response.headers[JSON_LENGTH])
        assert response.body[length:] == b"abc"
        assert response.headers["content-type"] == "application/octet-stream"
        described = json.loads(response.body[:length])["outputs"]
        assert described == [
            {"name": "y", "datatype": "INT8", "shape": [1, 3], "parameters": {"binary_data_size": 3}}
        ]  # fmt: skip


def without_data(**changes: Any) -> dict[str, Any]:
    found = tensor(parameters={"binary_data_size": 16}, **changes)
    del found["data"]
    return found


def test_binary_fp32_is_quantized_and_answered_in_binary_fp32() -> None:
    head = request(without_data(), parameters={"binary_data_output": True})
    inference, tensors = binary(head, pack([0, 1, 2, 3], "float32"))
    assert tensors == [pack([1, 3, 5, 7], "int8")]
    response = quantized().encode(inference, [pack([-128, -124, 127], "int8")])
    assert response.body.endswith(pack([0, 1, 63.75], "float32"))


def test_many_different_requests_are_not_all_remembered() -> None:
    endpoint = quantized()
    for n in range(200):
        binary(request(without_data(), id=str(n)), bytes(16), endpoint)
    assert len(endpoint._plans) <= 64


def test_a_body_without_json_is_the_only_input() -> None:
    endpoint = quantized()
    inference, tensors = endpoint.decode({JSON_LENGTH: "0"}, b"\x01\x02\x03\x04")
    assert [bytes(t) for t in tensors] == [b"\x01\x02\x03\x04"]
    assert endpoint.encode(inference, [b"abc"]).body.endswith(b"abc")
    _, tensors = endpoint.decode({JSON_LENGTH: "0"}, pack([0, 1, 2, 3], "float32"))
    assert tensors == [pack([1, 3, 5, 7], "int8")]
    assert "left behind" in str(refused(lambda: endpoint.decode({JSON_LENGTH: "0"}, b"12345")))
    assert "one input" in str(refused(lambda: pair().decode({JSON_LENGTH: "0"}, b"12345")))


def two(**changes: Any) -> list[dict[str, Any]]:
    return [
        {"name": "n", "datatype": "INT64", "shape": [1], "data": [7], **changes},
        {"name": "f", "datatype": "FP32", "shape": [2, 2], "data": [[1, 2], [3, 4]]},
    ]


def test_inputs_come_out_in_the_models_order_and_outputs_as_asked() -> None:
    inference, tensors = pair().decode({}, request(*two(), outputs=[{"name": "b"}, {"name": "f"}]))
    assert tensors == [pack([1, 2, 3, 4], "float32"), pack([7], "int64")]
    outputs = json.loads(pair().encode(inference, [pack([1, 2, 3, 4], "float32"), b"\x00\x01"]).body)["outputs"]
    assert [(o["name"], o["data"]) for o in outputs] == [("b", [False, True]), ("f", [1.0, 2.0, 3.0, 4.0])]


def test_json_and_binary_outputs_mixed() -> None:
    inference, _ = pair().decode({}, request(*two(), outputs=[{"name": "b", "parameters": {"binary_data": True}},
                                                              {"name": "f"}]))  # fmt: skip
    response = pair().encode(inference, [pack([1, 2, 3, 4], "float32"), b"\x00\x01"])
    assert response.body.endswith(b"\x00\x01")
    head = json.loads(response.body[: int(response.headers[JSON_LENGTH])])
    assert [sorted(o) for o in head["outputs"]] == [
        ["datatype", "name", "parameters", "shape"], ["data", "datatype", "name", "shape"]
    ]  # fmt: skip


def test_every_dtype_has_a_datatype() -> None:
    for dtype, value in (("bool", True), ("uint8", 255), ("int16", -5), ("uint64", 2**63), ("float16", 0.5),
                         ("float64", 1e300)):  # fmt: skip
        spec = TensorSpec("x", dtype, (1,))
        endpoint = Endpoint("m", "1", "onnx", (spec,), (spec,))
        datatype = json.loads((endpoint.route("GET", "/v2/models/m") or error_response(500, "")).body)["inputs"][0]
        inference, tensors = endpoint.decode(
            {}, request(tensor(shape=[1], data=[value], datatype=datatype["datatype"]))
        )
        assert json.loads(endpoint.encode(inference, [bytes(tensors[0])]).body)["outputs"][0]["data"] == [value]


# ── refused ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b"[" * 100_000, "limit"),
        (b'{"inputs":' + b"[" * 5000, "not valid JSON"),
        (b'{"inputs": [], "inputs": []}', "same key twice"),
        (b'{"inputs": [NaN]}', "NaN is not allowed"),
        (b"{}", "'inputs' must be a list"),
        (request(), "input 'x' is missing"),
        (request(tensor(), tensor()), "given twice"),
        (b'{"inputs": [1]}', "list of objects"),
        (request(tensor(), id=5), "'id' must be text"),
        (request(tensor(), parameters=[]), "'parameters' must be an object"),
        (request(tensor(name="z")), "unknown input 'z'; the model has 'x'"),
        (request(tensor(name=None)), "unknown input None"),
        (request(tensor(datatype="FP64")), "takes datatype INT8 or FP32, not 'FP64'"),
        (request(tensor(datatype=[])), "takes datatype"),
        (request(tensor(shape=[4])), "takes shape [1, 4], not [4]"),
        (request(tensor(shape="1,4")), "takes shape"),
        (request(tensor(data=None)), "neither 'data' nor"),
        (request(tensor(data="AAAA")), "neither 'data' nor"),
        (request(tensor(data=[1, 2, 3])), "takes 4 elements, 3 came"),
        (request(tensor(data=[])), "takes 4 elements, 0 came"),
        (request(tensor(data=[[1, 2], 3, 4])), "not a number"),
        (request(tensor(data=["1", 2, 3, 4])), "not a number"),
        (request(tensor(data=[None, 2, 3, 4])), "not a number"),
        (request(tensor(data=[1e39, 2, 3, 4])), "not a number"),
        (request(tensor()).replace(b"[0, 1, 2, 3]", b"[0, 1, 2, 1e999]"), "out of range"),
        (request(tensor(datatype="INT8", data=[128, 0, 0, 0])), "not a number in the range of int8"),
        (request(tensor(datatype="INT8", data=[0.5, 0, 0, 0])), "not a number in the range of int8"),
        (request(tensor(parameters={"binary_data_size": 16})), "both 'data' and"),
        (request(without_data() | {"parameters": {"binary_data_size": 15}}), "takes 16 bytes"),
        (request(without_data() | {"parameters": {"binary_data_size": True}}), "takes 16 bytes"),
        (request(without_data() | {"parameters": {"binary_data_size": "16"}}), "takes 16 bytes"),
        (request(without_data()), "0 are left in the body"),
        (request(tensor(), outputs=5), "must be a list"),
        (request(tensor(), outputs=[{"name": "z"}]), "unknown output 'z'"),
        (request(tensor(), outputs=[{"name": "y"}, {"name": "y"}]), "asked for twice"),
        (request(tensor(), outputs=[{"name": "y", "parameters": {"classification": 2}}]), "not supported"),
        (request(tensor(), outputs=[{"name": "y", "parameters": {"shared_memory_region": "r"}}]), "not supported"),
    ],
)
def test_a_wrong_body_is_refused_with_what_is_wrong(body: bytes, words: str) -> None:
    error = refused(lambda: quantized().decode({}, body))
    assert words in str(error)
    assert error.status in (400, 413)


def test_too_much_json_is_refused_before_it_is_parsed() -> None:
    assert refused(lambda: quantized().decode({}, b'{"inputs": [' + b" " * 70_000)).status == 413


def test_compressed_requests_are_refused() -> None:
    assert refused(lambda: quantized().decode({"content-encoding": "gzip"}, request(tensor()))).status == 415


@pytest.mark.parametrize("length", ["-1", "+5", "1e3", "", "٣", "99999", "9" * 20])
def test_a_wrong_length_of_the_json_is_refused(length: str) -> None:
    assert "is not a number up to" in str(refused(lambda: quantized().decode({JSON_LENGTH: length}, b"{}")))


def test_bytes_behind_the_last_tensor_are_refused() -> None:
    assert "1 bytes are left" in str(refused(lambda: binary(request(without_data()), bytes(17))))
    assert "15 are left" in str(refused(lambda: binary(request(without_data()), bytes(15))))


def test_nan_in_a_binary_tensor_that_must_be_quantized_is_refused() -> None:
    raw = pack([0, math.nan, 0, 0], "float32")
    assert "holds NaN" in str(refused(lambda: binary(request(without_data()), raw)))


def test_booleans_are_true_or_false() -> None:
    spec = TensorSpec("x", "bool", (1, 2))
    endpoint = Endpoint("m", "1", "onnx", (spec,), (spec,))
    wrong: list[list[Any]] = [["a", "b"], [2, 0], [[], []], [{}, {}]]
    for data in wrong:
        body = request(tensor(datatype="BOOL", shape=[1, 2], data=data))
        with pytest.raises(OipError):
            endpoint.decode({}, body)


def test_an_answer_that_json_cannot_say_is_an_error_of_ours() -> None:
    inference, _ = pair().decode({}, request(*two()))
    error = refused(lambda: pair().encode(inference, [pack([math.nan, 1, 2, 3], "float32"), b"\x00\x01"]))
    assert error.status == 500
    assert "binary_data" in str(error)


def test_an_answer_that_is_not_finite_goes_out_in_binary() -> None:
    inference, _ = pair().decode({}, request(*two(), parameters={"binary_data_output": True}))
    raw = pack([math.nan, 1, 2, 3], "float32")
    assert pair().encode(inference, [raw, b"\x00\x01"]).body.endswith(raw + b"\x00\x01")


def test_the_form_of_an_error() -> None:
    assert error_response(404, "gone") == Response(404, {"content-type": "application/json"}, b'{"error":"gone"}')


# ── text ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

T = TensorSpec("t", "string", (1, 2))


def texts() -> Endpoint:
    return Endpoint("m", "3", "onnx", (T,), (F,))


def text_tensor(**changes: Any) -> dict[str, Any]:
    return {"name": "t", "datatype": "BYTES", "shape": [1, 2], **changes}


def in_binary(*elements: bytes) -> bytes:
    return b"".join(len(element).to_bytes(4, "little") + element for element in elements)


def cells(*elements: str) -> bytes:
    return b"".join(element.encode().ljust(TEXT_BYTES, b"\0") for element in elements)


def test_text_is_described_as_bytes() -> None:
    response = texts().route("GET", "/v2/models/m")
    assert response is not None
    assert json.loads(response.body)["inputs"] == [{"name": "t", "datatype": "BYTES", "shape": [1, 2]}]


@pytest.mark.parametrize("data", [["größer", ""], [["größer", ""]]])
def test_text_in_json(data: list[Any]) -> None:
    _, tensors = texts().decode({}, request(text_tensor(data=data)))
    assert [bytes(t) for t in tensors] == [cells("größer", "")]


def test_text_in_the_binary_extension() -> None:
    tail = in_binary("größer".encode(), b"x" * TEXT_BYTES)
    head = request(text_tensor(parameters={"binary_data_size": len(tail)}))
    _, tensors = binary(head, tail, texts())
    assert tensors == [cells("größer", "x" * TEXT_BYTES)]
    assert [bytes(t) for t in texts().decode({JSON_LENGTH: "0"}, tail)[1]] == tensors  # a body without JSON


def test_texts_of_the_greatest_length_fit_into_json() -> None:
    _, tensors = texts().decode({}, request(text_tensor(data=["\x01" * TEXT_BYTES] * 2)))
    assert len(bytes(tensors[0])) == 2 * TEXT_BYTES


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (["a"], "takes 2 elements, 1 came"),
        (["a", 5], "takes 2 texts, 1 came"),
        ([1, 2], "takes 2 texts, 0 came"),
        ([["a"], "b"], "holds texts beside lists"),
        (["a", "x" * 1025], "1025 bytes is over the limit of 1024"),
        (["a", "b\0c"], "holds a zero byte"),
        (["a", "\ud800"], "can't decode"),
    ],
)
def test_what_is_no_text_is_refused(data: list[Any], words: str) -> None:
    error = refused(lambda: texts().decode({}, request(text_tensor(data=data))))
    assert (words in str(error), error.status) == (True, 400), str(error)


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        (in_binary(b"a"), "8 to 2056"),
        (in_binary(b"a", b"b", b"c"), "5 bytes are left behind them"),
        (in_binary(b"abcdefgh"), "takes 2 texts, 1 came"),
        (in_binary(b"abcd") + b"\0\0", "ends within the length of element 1"),
        (b"\xff\xff\xff\xff" + bytes(8), "element 0 has 4294967295 bytes, 8 are left of it"),
        (in_binary(b"a", b"\xff"), "can't decode"),
        (in_binary(b"", b"x" * 1025), "1025 bytes is over the limit of 1024"),
    ],
)
def test_a_binary_tensor_of_text_that_is_damaged_is_refused(tail: bytes, words: str) -> None:
    head = request(text_tensor(parameters={"binary_data_size": len(tail)}))
    assert words in str(refused(lambda: binary(head, tail, texts())))


@given(st.binary(max_size=40), st.none() | st.integers(-2, 60))
def test_any_binary_tensor_of_text_is_decoded_or_refused(tail: bytes, size: int | None) -> None:
    head = request(text_tensor(parameters={"binary_data_size": len(tail) if size is None else size}))
    with contextlib.suppress(OipError):
        _, tensors = binary(head, tail, texts())
        assert [len(t) for t in tensors] == [2 * TEXT_BYTES]


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=200), min_size=2,
                max_size=2))  # fmt: skip
def test_texts_mean_the_same_in_json_and_binary(elements: list[str]) -> None:
    _, from_json = texts().decode({}, request(text_tensor(data=elements)))
    tail = in_binary(*(element.encode() for element in elements))
    head = request(text_tensor(parameters={"binary_data_size": len(tail)}))
    assert binary(head, tail, texts())[1] == [bytes(t) for t in from_json] == [cells(*elements)]


# ── whatever comes ───────────────────────────────────────────────────────────────────────────────────────────────────

_KEYS = ["name", "datatype", "shape", "data", "parameters"]
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(
        st.sampled_from(["inputs", "outputs", "binary_data_size", "id", *_KEYS]), children, max_size=5,
    ),
    max_leaves=20,
)  # fmt: skip


@given(st.one_of(st.binary(max_size=200), _JSON.map(lambda v: json.dumps(v).encode())), st.none() | st.text(max_size=6))
def test_any_body_is_decoded_or_refused(body: bytes, length: str | None) -> None:
    with contextlib.suppress(OipError):
        _, tensors = quantized().decode({} if length is None else {JSON_LENGTH: length}, body)
        assert [len(bytes(t)) for t in tensors] == [X.nbytes]


@given(
    st.dictionaries(st.sampled_from(["name", "datatype", "shape", "data", "parameters"]), _JSON), st.binary(max_size=20)
)
def test_any_change_to_a_tensor_is_decoded_or_refused(changes: dict[str, Any], tail: bytes) -> None:
    head = request(tensor(**changes))
    with contextlib.suppress(OipError):
        _, tensors = quantized().decode({JSON_LENGTH: str(len(head))}, head + tail)
        assert [len(bytes(t)) for t in tensors] == [4]


@given(st.sampled_from(["GET", "POST", "PUT"]), st.text(max_size=30).map(lambda t: "/" + t))
def test_any_path_is_answered_or_refused(method: str, path: str) -> None:
    with contextlib.suppress(OipError):
        response = quantized().route(method, path)
        assert (method, response) == ("POST", None) or (method == "GET" and response is not None)


@given(st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4))
def test_json_and_binary_requests_mean_the_same(values: list[float]) -> None:
    _, from_json = quantized().decode({}, request(tensor(data=values)))
    _, from_binary = binary(request(without_data()), np.array(values, np.float32).tobytes())
    assert [bytes(t) for t in from_json] == from_binary
