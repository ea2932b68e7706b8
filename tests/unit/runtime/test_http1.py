"""The request reader: what is read, what is refused and with which status, and that nothing else comes out."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.runtime.http1 import MAX_HEAD, HttpError, Request, RequestReader, response_head

POST = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def read(data: bytes, max_body: int = 100) -> list[Request]:
    reader = RequestReader(max_body)
    reader.feed(data)
    out = []
    while (request := reader.next()) is not None:
        out.append(request)
    return out


def status_of(data: bytes, max_body: int = 100) -> int:
    with pytest.raises(HttpError) as caught:
        read(data, max_body)
    assert str(caught.value)
    return caught.value.status


def get(line: str = "GET / HTTP/1.1", *headers: str) -> bytes:
    return "\r\n".join([line, "Host: x", *headers, "", ""]).encode("latin-1")


# ── what is read ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_request_with_its_body() -> None:
    (request,) = read(POST)
    assert (request.method, request.path, request.body) == ("POST", "/v2/models/m/infer", b"hello")
    assert request.headers == {"host": "x", "content-length": "5"}
    assert request.keep_alive


def test_pipelined_requests_come_one_after_the_other() -> None:
    assert [r.body for r in read(POST + b"\r\n" + get() + POST)] == [b"hello", b"", b"hello"]


def test_a_request_in_single_bytes() -> None:
    reader, out = RequestReader(100), []
    for byte in POST + CHUNKED + b"3\r\nabc\r\n0\r\n\r\n":
        reader.feed(bytes([byte]))
        request = reader.next()
        if request is not None:
            out.append(request.body)
    assert out == [b"hello", b"abc"]
    assert not reader.begun
    assert reader.held == 0


def test_chunked_body_with_extension_and_trailers() -> None:
    (request,) = read(CHUNKED + b"3;name=v\r\nabc\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n")
    assert request.body == b"abc0123456789"


def test_absolute_form_of_the_target_is_its_path() -> None:
    assert read(get("GET http://host:8000/v2/health/live HTTP/1.1"))[0].path == "/v2/health/live"


@pytest.mark.parametrize(
    ("line", "headers", "keeps"),
    [
        ("GET / HTTP/1.1", (), True),
        ("GET / HTTP/1.1", ("Connection: close",), False),
        ("GET / HTTP/1.1", ("Connection: Foo, CLOSE",), False),
        ("GET / HTTP/1.0", (), False),
        ("GET / HTTP/1.0", ("Connection: keep-alive",), True),
    ],
)
def test_keep_alive(line: str, headers: tuple[str, ...], keeps: bool) -> None:
    assert read(get(line, *headers))[0].keep_alive is keeps


def test_http_1_0_needs_no_host() -> None:
    assert read(b"GET / HTTP/1.0\r\n\r\n")[0].headers == {}


def test_repeated_headers_are_joined() -> None:
    assert read(get("GET / HTTP/1.1", "X: a", "x:  b "))[0].headers["x"] == "a, b"


def test_the_same_head_again_is_the_same_request_with_its_own_body() -> None:
    first, second = read(POST + POST.replace(b"hello", b"world"))
    assert (first.body, second.body) == (b"hello", b"world")
    assert first.headers is second.headers


def test_a_long_head_is_not_remembered() -> None:
    request = get("GET / HTTP/1.1", "X: " + "y" * 3000)
    first, second = read(request + request)
    assert first.headers == second.headers
    assert first.headers is not second.headers


def test_100_continue_is_wanted_once() -> None:
    reader = RequestReader(100)
    assert not reader.wants_continue()
    reader.feed(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert reader.next() is None
    assert reader.wants_continue()
    assert not reader.wants_continue()
    reader.feed(b"ok")
    assert reader.next() is not None


# ── what is refused ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # TLS
        (b"get / HTTP/1.1\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: x\n\r\n\r\n", 400),
        (b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"GET / HTTP/1.2\r\nHost: x\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        (get("GET / HTTP/1.1", "Host: y"), 400),
        (get("GET / HTTP/1.1", "Bad Name: y"), 400),
        (get("GET / HTTP/1.1", "Name : y"), 400),
        (get("GET / HTTP/1.1", " folded"), 400),
        (get("GET / HTTP/1.1", "X: a\x00b"), 400),
        (get("GET / HTTP/1.1", "X: a\nY: b"), 400),
        (get("POST / HTTP/1.1"), 411),
        (get("POST / HTTP/1.1", "Content-Length: -1"), 400),
        (get("POST / HTTP/1.1", "Content-Length: +1"), 400),
        (get("POST / HTTP/1.1", "Content-Length: 0x10"), 400),
        (get("POST / HTTP/1.1", "Content-Length: 1, 1"), 400),
        (get("POST / HTTP/1.1", "Content-Length: 1", "Content-Length: 1"), 400),
        (get("POST / HTTP/1.1", "Content-Length: 101"), 413),
        (get("POST / HTTP/1.1", "Content-Length: 1", "Transfer-Encoding: chunked"), 400),
        (get("POST / HTTP/1.0", "Transfer-Encoding: chunked"), 400),
        (get("POST / HTTP/1.1", "Transfer-Encoding: gzip, chunked"), 501),
        (get("POST / HTTP/1.1", "Content-Length: 1", "Expect: 200-ok"), 417),
        (get("GET / HTTP/1.1", *[f"X{n}: y" for n in range(64)]), 431),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * MAX_HEAD, 431),
        (CHUNKED + b"x\r\n", 400),
        (CHUNKED + b"-1\r\n", 400),
        (CHUNKED + b"123456789\r\n", 400),
        (CHUNKED + b"3\r\nabcd\r\n", 400),
        (CHUNKED + b"65\r\n", 413),
        (CHUNKED + b"40\r\n" + b"z" * 64 + b"\r\n40\r\n", 413),
        (CHUNKED + b"1;" + b"x" * 300, 400),
        (CHUNKED + b"0\r\n" + b"X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n" * 500, 431),
    ],
)  # fmt: skip
def test_refused(data: bytes, status: int) -> None:
    assert status_of(data) == status


@pytest.mark.parametrize("data", [b"", b"G", b"\r", b"\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n", POST[:-1], CHUNKED,
                                  CHUNKED + b"3\r\nab", CHUNKED + b"3\r\nabc\r", CHUNKED + b"0\r\n"])  # fmt: skip
def test_half_a_request_is_none_yet(data: bytes) -> None:
    assert read(data) == []


# ── whatever comes ───────────────────────────────────────────────────────────────────────────────────────────────────

_PIECES = st.sampled_from([
    b"GET / HTTP/1.1\r\n", b"POST /a HTTP/1.1\r\n", b"Host: x\r\n", b"Content-Length: 3\r\n", b"\r\n", b"\n", b" ",
    b"abc", b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n", b"0\r\n", b"Expect: 100-continue\r\n",
    b"Connection: close\r\n",
    b":", b"\x00", b"HTTP/1.0", b"ffffffff\r\n", POST, CHUNKED,
])  # fmt: skip


@given(st.lists(st.one_of(st.binary(max_size=40), _PIECES), max_size=30))
def test_any_bytes_give_requests_or_an_http_error(pieces: list[bytes]) -> None:
    reader = RequestReader(1000)
    with contextlib.suppress(HttpError):
        for piece in pieces:
            reader.feed(piece)
            while (request := reader.next()) is not None:
                assert len(request.body) <= 1000
                assert request.path
            reader.wants_continue()


@given(st.lists(st.sampled_from([POST, CHUNKED + b"3\r\nabc\r\n0\r\n\r\n", get()]), min_size=1, max_size=4),
       st.lists(st.integers(1, 60), max_size=40))  # fmt: skip
def test_how_the_bytes_are_cut_makes_no_difference(requests: list[bytes], cuts: list[int]) -> None:
    data, whole = b"".join(requests), read(b"".join(requests))
    reader, out, at = RequestReader(100), list[Request](), 0
    for size in [*cuts, len(data)]:
        reader.feed(data[at : at + size])
        at += size
        while (request := reader.next()) is not None:
            out.append(request)
    assert out == whole


def test_a_response_head() -> None:
    head = response_head(200, {"content-type": "application/json"}, 5, keep_alive=True)
    assert head == (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 5\r\nconnection: keep-alive\r\n\r\n"
    )
    assert b"connection: close" in response_head(599, {}, 0, keep_alive=False)
