"""HTTP/1.1 as bytes: a request reader that holds state and does no I/O, and the head of a response.

Strict where leniency has led to request smuggling (RFC 9112): CRLF only, no folded lines, no space before a colon, one
Content-Length, never together with Transfer-Encoding. Everything is bounded: head, number of headers, chunk lines,
body. Whatever is wrong is an HttpError with the status to answer; after one the connection must be closed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from edgeship.runtime.errors import AgentError

MAX_HEAD = 16 << 10  # bytes of request line and headers, and of trailers
MAX_HEADERS = 64
MAX_CHUNK_LINE = 256
_REMEMBERED = 2048  # bytes of a head that is worth remembering

REASONS = {
    200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout",
    411: "Length Required", 413: "Content Too Large", 415: "Unsupported Media Type", 417: "Expectation Failed",
    431: "Request Header Fields Too Large", 500: "Internal Server Error", 501: "Not Implemented",
    503: "Service Unavailable", 505: "HTTP Version Not Supported",
}  # fmt: skip

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) (?:http://[!-.0-~]*)?(/[!-~]*) HTTP/(\d)\.(\d)")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_LENGTH = re.compile(r"[0-9]{1,18}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?")


class HttpError(AgentError):
    """A request that cannot be read; `status` is the answer."""

    code = "bad-request"

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Request:
    """One request. Header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    keep_alive: bool


@dataclass(frozen=True)
class _Head:
    """Request line, headers, and how the body comes. Its docstring saves the supervisor `inspect`: see precompiled."""

    method: str
    path: str
    headers: dict[str, str]
    keep_alive: bool
    length: int | None  # None: chunked
    waits: bool  # for 100 Continue


class RequestReader:
    """Makes requests of the bytes of one connection."""

    def __init__(self, max_body: int) -> None:
        self._max_body = max_body
        self._buffer = bytearray()
        self._head: _Head | None = None
        self._last: tuple[bytes, _Head] | None = None  # keep-alive clients send the same head again and again
        self._chunks = bytearray()
        self._chunk_left: int | None = None  # None: a chunk line is next; 0: the line end behind a chunk is next
        self._trailers: int | None = None  # bytes of trailers so far, None before the last chunk

    @property
    def held(self) -> int:
        """Bytes in memory."""
        return len(self._buffer) + len(self._chunks)

    @property
    def begun(self) -> bool:
        """Whether a part of a request is here."""
        return self._head is not None or bool(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take what arrived."""
        self._buffer += data

    def wants_continue(self) -> bool:
        """True once for a client that waits for 100 Continue before it sends the body."""
        head = self._head
        if head is None or not head.waits:
            return False
        self._head = _Head(head.method, head.path, head.headers, head.keep_alive, head.length, waits=False)
        return True

    def next(self) -> Request | None:
        """The next whole request, None when bytes are missing. Raises HttpError."""
        if self._head is None:
            self._head = self._read_head()
        head = self._head
        if head is None:
            return None
        body = self._read_chunks() if head.length is None else self._read_body(head.length)
        if body is None:
            return None
        self._head, self._chunk_left, self._trailers = None, None, None
        return Request(head.method, head.path, head.headers, body, head.keep_alive)

    def _read_head(self) -> _Head | None:
        buffer = self._buffer
        while buffer.startswith(b"\r\n"):  # RFC 9112, 2.2: an empty line before a request is ignored
            del buffer[:2]
        end = buffer.find(b"\r\n\r\n", 0, MAX_HEAD)
        if end < 0:
            if len(buffer) >= MAX_HEAD:
                raise HttpError(431, f"the head of the request is over the limit of {MAX_HEAD} bytes")
            if buffer and not 0x41 <= buffer[0] <= 0x5A and buffer != b"\r":
                raise HttpError(400, "this is not HTTP/1.1")
            return None
        raw = self._take(end + 4)
        if self._last is not None and self._last[0] == raw:
            return self._last[1]
        lines = raw[:-4].split(b"\r\n")
        if len(lines) > MAX_HEADERS + 1:
            raise HttpError(431, f"more than {MAX_HEADERS} headers")
        head = _parse_head(lines, self._max_body)
        if len(raw) <= _REMEMBERED:
            self._last = raw, head
        return head

    def _read_body(self, length: int) -> bytes | None:
        if len(self._buffer) < length:
            return None
        return self._take(length)

    def _take(self, n: int) -> bytes:
        with memoryview(self._buffer) as view:
            out = bytes(view[:n])
        del self._buffer[:n]
        return out

    def _line(self, limit: int) -> bytes | None:
        end = self._buffer.find(b"\r\n", 0, limit)
        if end < 0:
            if len(self._buffer) >= limit:
                raise HttpError(400, f"a line of a chunked body is over {limit} bytes")
            return None
        return self._take(end + 2)[:-2]

    def _read_chunks(self) -> bytes | None:
        while self._trailers is None:
            if self._chunk_left is None:
                line = self._line(MAX_CHUNK_LINE)
                if line is None:
                    return None
                self._begin_chunk(line)
            elif self._chunk_left:
                if not self._buffer:
                    return None
                part = self._take(min(self._chunk_left, len(self._buffer)))
                self._chunks += part
                self._chunk_left -= len(part)
            elif len(self._buffer) < 2:
                return None
            elif self._take(2) != b"\r\n":
                raise HttpError(400, "a chunk does not end where it says")
            else:
                self._chunk_left = None
        while (line := self._line(MAX_HEAD)) is not None:
            if not line:
                body = bytes(self._chunks)
                self._chunks = bytearray()
                return body
            self._trailers += len(line)
            if self._trailers > MAX_HEAD:
                raise HttpError(431, "the trailers are over the limit")
        return None

    def _begin_chunk(self, line: bytes) -> None:
        found = _CHUNK.fullmatch(line)
        if found is None:
            raise HttpError(400, "a chunk does not begin with its size")
        size = int(found[1], 16)
        if len(self._chunks) + size > self._max_body:
            raise HttpError(413, f"the body is over the limit of {self._max_body} bytes")
        if size:
            self._chunk_left = size
        else:
            self._trailers = 0


def _parse_head(lines: list[bytes], max_body: int) -> _Head:
    line = _REQUEST_LINE.fullmatch(lines[0])
    if line is None:
        raise HttpError(400, "the request line is malformed")
    if line[3] != b"1" or line[4] not in (b"0", b"1"):
        raise HttpError(505, "HTTP/1.1 is spoken here")
    headers: dict[str, str] = {}
    for raw in lines[1:]:
        found = _HEADER.fullmatch(raw)
        if found is None:
            raise HttpError(400, "a header is malformed")
        name, value = found[1].decode("ascii").lower(), found[2].decode("latin-1").rstrip(" \t")
        if name in headers:
            if name in ("content-length", "transfer-encoding", "host"):
                raise HttpError(400, f"{name} is given twice")
            value = f"{headers[name]}, {value}"
        headers[name] = value
    newer = line[4] == b"1"
    if newer and "host" not in headers:
        raise HttpError(400, "the Host header is missing")
    connection = {token.strip() for token in headers.get("connection", "").lower().split(",")}
    expects = headers.get("expect", "").lower()
    if expects not in ("", "100-continue"):
        raise HttpError(417, "the only expectation met is 100-continue")
    length = _body_length(line[1], headers, max_body, newer=newer)
    keep_alive = "close" not in connection if newer else "keep-alive" in connection
    return _Head(line[1].decode(), line[2].decode(), headers, keep_alive, length, waits=bool(expects) and newer)


def _body_length(method: bytes, headers: dict[str, str], max_body: int, *, newer: bool) -> int | None:
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None:
        if length is not None or not newer:
            raise HttpError(400, "Transfer-Encoding does not go with Content-Length or HTTP/1.0")
        if coding.lower() != "chunked":
            raise HttpError(501, "the only transfer coding is chunked")
        return None
    if length is None:
        if method == b"POST":
            raise HttpError(411, "a POST needs Content-Length or a chunked body")
        return 0
    if not _LENGTH.fullmatch(length):
        raise HttpError(400, "Content-Length is not a number")
    if int(length) > max_body:
        raise HttpError(413, f"the body is over the limit of {max_body} bytes")
    return int(length)


def response_head(status: int, headers: Mapping[str, str], length: int, *, keep_alive: bool) -> bytes:
    """Status line and headers; the values must be free of line ends."""
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"content-length: {length}", f"connection: {'keep-alive' if keep_alive else 'close'}", "\r\n"]
    return "\r\n".join(lines).encode("latin-1")
