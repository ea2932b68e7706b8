"""The contract of host and device: frames, strict JSON, limits. `manifest` and `window` build on it.

Rules this module keeps:

* Everything that arrives is bounded before it is parsed, and parsed strictly: UTF-8, no duplicate keys, no NaN,
  no unknown major version. Unknown keys of a known schema are ignored (additive evolution).
* Nothing here touches a disk, a network or a clock.

A frame is a header of five bytes and a payload: kind (`J` JSON, `D` data, `E` end of data), big-endian uint32 length.
A request is one `J` frame `{"id": n, "op": name, …}`, then `D` frames and one `E` where the operation takes data.
Its answers carry the same id: any number of `{"id", "event": {…}}`, then `{"id", "ok": true, "result": {…}}` or
`{"id", "ok": false, "error": {"code", "message"}}`; an answer with data has `"data": true` in its result and is
followed by `D` frames and one `E`.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

from edgeship.runtime.errors import ProtocolError

PROTOCOL = 1

MAX_JSON = 1 << 20  # bytes of one JSON frame
MAX_CHUNK = 1 << 18  # bytes of one data frame
MAX_BLOB = 4 << 30  # bytes of one file of a release
MAX_METADATA = 5_000_000  # bytes of one TUF metadata file (python-tuf's own limit for targets)
MAX_WINDOW = 64 << 10  # bytes of one encoded telemetry window
MAX_DEPTH = 32  # nesting of JSON

KIND_JSON, KIND_DATA, KIND_END = b"J", b"D", b"E"
HEADER = struct.Struct(">cI")

TEXT = "string"  # the dtype of an element that is text
TEXT_BYTES = 1024  # of such an element: UTF-8, zeros behind it, so that tensors of text have a fixed size too

#: dtype name -> (bytes per element, struct/array/memoryview code); float16 is "e".
DTYPES: dict[str, tuple[int, str]] = {
    "float32": (4, "f"), "float16": (2, "e"), "float64": (8, "d"),
    "int8": (1, "b"), "uint8": (1, "B"), "int16": (2, "h"), "uint16": (2, "H"),
    "int32": (4, "i"), "uint32": (4, "I"), "int64": (8, "q"), "uint64": (8, "Q"), "bool": (1, "?"),
    TEXT: (TEXT_BYTES, f"{TEXT_BYTES}s"),
}  # fmt: skip
#: dtype name -> data type of the Open Inference Protocol v2, and the other way round.
DATATYPES = {
    "float32": "FP32", "float16": "FP16", "float64": "FP64", "int8": "INT8", "uint8": "UINT8", "int16": "INT16",
    "uint16": "UINT16", "int32": "INT32", "uint32": "UINT32", "int64": "INT64", "uint64": "UINT64", "bool": "BOOL",
    TEXT: "BYTES",
}  # fmt: skip
DTYPE_OF = {datatype: dtype for dtype, datatype in DATATYPES.items()}

_SHA256 = re.compile(r"[0-9a-f]{64}")
MAX_NAME = 64  # characters of a plain name

_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME - 1}}}")

Json = Mapping[str, Any]


# ── frames ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def frame(kind: bytes, payload: bytes | memoryview = b"") -> bytes:
    """One frame as bytes. The payload must be within `MAX_JSON` or `MAX_CHUNK`."""
    if len(payload) > (MAX_JSON if kind == KIND_JSON else MAX_CHUNK):
        raise ProtocolError(f"a frame of {len(payload)} bytes is over the limit")
    return HEADER.pack(kind, len(payload)) + bytes(payload)


def json_frame(message: Json) -> bytes:
    """A `J` frame of compact JSON."""
    return frame(KIND_JSON, json.dumps(message, separators=(",", ":"), allow_nan=False).encode())


def data_frames(data: bytes | memoryview) -> Iterator[bytes]:
    """`D` frames of at most `MAX_CHUNK` bytes each, then the `E` frame."""
    view = memoryview(data)
    for start in range(0, len(view), MAX_CHUNK):
        yield frame(KIND_DATA, view[start : start + MAX_CHUNK])
    yield frame(KIND_END)


def read_frame(read: Callable[[int], bytes]) -> tuple[bytes, bytes] | None:
    """Read one frame: (kind, payload), or None at a clean end of the stream.

    Args:
        read: returns up to n bytes, b"" at the end of the stream.

    Raises:
        ProtocolError: unknown kind, oversized, or the stream ended inside a frame.
    """
    head = _exactly(read, HEADER.size, may_end=True)
    if head is None:
        return None
    kind, length = HEADER.unpack(head)
    if kind not in (KIND_JSON, KIND_DATA, KIND_END):
        raise ProtocolError(f"unknown frame kind {kind!r}")
    limit = {KIND_JSON: MAX_JSON, KIND_DATA: MAX_CHUNK, KIND_END: 0}[kind]
    if length > limit:
        raise ProtocolError(f"a {kind.decode()} frame of {length} bytes is over the limit of {limit}")
    payload = _exactly(read, length)
    assert payload is not None
    return kind, payload


def _exactly(read: Callable[[int], bytes], n: int, *, may_end: bool = False) -> bytes | None:
    parts: list[bytes] = []
    got = 0
    while got < n:
        part = read(n - got)
        if not part:
            if may_end and not got:
                return None
            raise ProtocolError(f"the stream ended after {got} of {n} bytes")
        parts.append(part)
        got += len(part)
    return b"".join(parts)


def read_json(read: Callable[[int], bytes]) -> dict[str, Any] | None:
    """Read one `J` frame and parse it; None at a clean end. Raises ProtocolError for anything else."""
    got = read_frame(read)
    if got is None:
        return None
    if got[0] != KIND_JSON:
        raise ProtocolError(f"a JSON frame was expected, {got[0]!r} came")
    return parse_object(got[1])


def read_data(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """Yield the payloads of `D` frames until the `E` frame."""
    while True:
        got = read_frame(read)
        if got is None or got[0] == KIND_JSON:
            raise ProtocolError("the data ended without an end frame")
        if got[0] == KIND_END:
            return
        yield got[1]


# ── strict JSON ──────────────────────────────────────────────────────────────────────────────────────────────────────


def parse_object(raw: bytes, *, limit: int = MAX_JSON) -> dict[str, Any]:
    """Parse one JSON object strictly.

    Raises:
        ProtocolError: over `limit` bytes, not UTF-8, not an object, duplicate keys, NaN or infinity, an integer of more
            than 20 digits, nested deeper than `MAX_DEPTH`.
    """
    if len(raw) > limit:
        raise ProtocolError(f"JSON of {len(raw)} bytes is over the limit of {limit}")
    try:
        value = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_bounded_int
        )
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ProtocolError(f"a JSON object was expected, not {type(value).__name__}")
    _check_depth(value, MAX_DEPTH)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("an object has the same key twice")
    return out


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not allowed")


def _bounded_int(text: str) -> int:
    if len(text) > 21:
        raise ValueError("an integer has more than 20 digits")
    return int(text)


def _check_depth(value: Any, left: int) -> None:
    if left < 0:
        raise ProtocolError(f"JSON is nested deeper than {MAX_DEPTH}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ProtocolError("a number is out of range")
    items: Iterable[Any] = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in items:
        _check_depth(item, left - 1)


def need(data: Json, key: str, kind: type | tuple[type, ...]) -> Any:
    """The value of `key`, which must be of `kind` (a bool is no int). Raises ProtocolError."""
    value = data.get(key)
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        names = " or ".join("null" if k is type(None) else k.__name__ for k in kinds)
        raise ProtocolError(f"{key!r} must be {names}, got {value!r:.80}")
    return value


def check_sha256(value: Any, what: str = "sha256") -> str:
    """`value` as 64 lower-case hexadecimal digits. Raises ProtocolError."""
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise ProtocolError(f"{what} is not a sha256: {value!r:.80}")
    return value


def check_name(value: Any, what: str = "name") -> str:
    """`value` as a plain name: letters, digits, `.`, `_`, `-`, at most `MAX_NAME`. Raises ProtocolError."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ProtocolError(f"{what} is not a plain name of at most {MAX_NAME} characters: {value!r:.80}")
    return value


def digest_of(file: Any) -> str:
    """The hexadecimal part of a `sha256:…` reference. Raises ProtocolError."""
    if not isinstance(file, str) or not file.startswith("sha256:"):
        raise ProtocolError(f"a file reference must be sha256:…, got {file!r:.80}")
    return check_sha256(file[7:], "file reference")


def objects(data: Json, key: str) -> list[dict[str, Any]]:
    """The list of objects at `key`. Raises ProtocolError."""
    items: list[dict[str, Any]] = need(data, key, list)
    if not all(isinstance(item, dict) for item in items):
        raise ProtocolError(f"{key!r} must be a list of objects")
    return items


# ── streams ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class ByteStream(Protocol):
    """What a transport opens on a device: standard input and output of a process there."""

    def read(self, n: int) -> bytes:
        """Up to n bytes; b"" at the end."""
        ...

    def write(self, data: bytes) -> None:
        """All of `data`."""
        ...

    def close(self) -> None:
        """End it; safe to call twice."""
        ...
