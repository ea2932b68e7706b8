"""The supervisor's end of one worker's serve channel: requests out, answers in, never blocking.

Answers come in the order of the requests. Two requests may be on their way, so that the worker finds the next one when
it has answered the last; only the first of them can have harmed it when it dies.
"""

from __future__ import annotations

import collections
import json
import math
import selectors
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from edgeship.runtime.channel import Messages, encode, message_parts
from edgeship.runtime.errors import ProtocolError
from edgeship.runtime.stream import Stream

DEPTH = 2  # requests on their way to one worker
_IDS = 8  # ids go round, so that the worker sees the same bytes again and remembers what they say
_REMEMBERED = 64  # kinds of requests whose encoding is kept
#: What a worker may set; anything else that it says is dropped.
_HEADERS = frozenset(("content-type", "inference-header-content-length", "allow"))
_DECODE = json.JSONDecoder().decode
#: What a worker needs to see of a request.
_FORWARDED = ("content-type", "content-encoding", "inference-header-content-length")


@dataclass(frozen=True)
class Reply:
    """An answer on its way to the client."""

    status: int
    headers: dict[str, str]
    body: bytes
    cls: str | None = None
    confidence: float | None = None
    compute_us: float | None = None


@dataclass(eq=False)
class Exchange:
    """A request on its way to an answer. `count` and `reply` are called exactly once."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    count: Callable[[Exchange, Reply], None]
    reply: Callable[[Reply], None]
    started: float  # time.monotonic()
    retried: bool = False
    done: bool = field(default=False, init=False)

    def finish(self, reply: Reply) -> None:
        """Answer, unless that was done before."""
        if not self.done:
            self.done = True
            self.count(self, reply)
            self.reply(reply)


class WorkerLink:
    """One worker's serve channel.

    Args:
        sock: our end, owned from now on.
        selector: where it is registered, with a callable as data.
        on_reply: an exchange and its answer.
        on_gone: the channel broke or the worker talks nonsense; `flight` holds what has no answer.
        max_body: bytes that one answer may have.
        scratch: memory to receive into.
    """

    def __init__(
        self,
        sock: socket.socket,
        selector: selectors.BaseSelector,
        on_reply: Callable[[Exchange, Reply], None],
        on_gone: Callable[[WorkerLink], None],
        max_body: int,
        scratch: memoryview,
    ) -> None:
        self._on_reply, self._on_gone = on_reply, on_gone
        self._messages = Messages(_parse, _has_data, max_body)
        self._next_id = 0
        self._encoded: dict[tuple[str | None, ...], str] = {}
        self.flight: collections.deque[tuple[int, Exchange]] = collections.deque()
        self.replaced = False  # another worker took over; this one answers what it has and is closed
        self.stuck = False
        self._stream = Stream(sock, selector, self._ready, scratch)

    @property
    def free(self) -> bool:
        """Whether it takes one more request."""
        return not self.closed and len(self.flight) < DEPTH

    @property
    def closed(self) -> bool:
        """Whether the channel is closed."""
        return self._stream.closed

    def send(self, exchange: Exchange) -> None:
        """Put a request on its way."""
        self._next_id = ident = (self._next_id + 1) % _IDS
        self.flight.append((ident, exchange))
        message = f'{{"id":{ident},{self._encode(exchange)}'
        try:
            self._stream.send(message_parts(message, exchange.body))
        except OSError:
            self._gone()

    def _encode(self, exchange: Exchange) -> str:
        """The message without its id, which is its first member."""
        headers = exchange.headers
        key = (exchange.method, exchange.path, *[headers.get(name) for name in _FORWARDED])
        known = self._encoded.get(key)
        if known is None:
            forwarded = {name: headers[name] for name in _FORWARDED if name in headers}
            message = {"op": "http", "method": exchange.method, "path": exchange.path, "headers": forwarded}
            known = encode(message)[1:]
            if len(self._encoded) >= _REMEMBERED:
                self._encoded.clear()
            self._encoded[key] = known
        return known

    def close(self) -> None:
        """Close the channel; the worker sees its end."""
        self._stream.close()

    def _ready(self, mask: int) -> None:
        try:
            if mask & selectors.EVENT_WRITE and not self.closed:
                self._stream.flush()
        except OSError:
            self._gone()
        if mask & selectors.EVENT_READ and not self.closed:
            self._receive()

    def _receive(self) -> None:
        replies: list[tuple[Exchange, Reply]] = []
        try:
            raw = self._stream.receive()
            if raw is None:
                return
            gone = not raw
            for message, data in self._messages.feed(raw):
                if not self.flight or message.get("id") != self.flight[0][0]:
                    raise ProtocolError("an answer to no request")
                reply = _reply_of(message, data)
                replies.append((self.flight.popleft()[1], reply))
        except (OSError, ProtocolError):
            gone = True
        for exchange, reply in replies:
            self._on_reply(exchange, reply)
        if gone:
            self._gone()

    def _gone(self) -> None:
        if not self.closed:
            self.close()
            self._on_gone(self)


def _parse(payload: bytes) -> dict[str, Any]:
    # whatever it says, `_reply_of` takes only what has the right type; so no duplicate keys are looked for here
    try:
        message = _DECODE(payload.decode())
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a worker's answer is not JSON: {error}") from error
    if not isinstance(message, dict):
        raise ProtocolError("a worker's answer is no object")
    return message


def _has_data(message: dict[str, Any]) -> bool:
    result = message.get("result")
    return isinstance(result, dict) and result.get("data") is True


def _reply_of(message: dict[str, Any], data: bytes) -> Reply:
    # a worker whose library ran wild may say anything: nothing of it reaches the client's headers unchecked
    result = message.get("result")
    if message.get("ok") is not True or not isinstance(result, dict):
        raise ProtocolError("a worker answered without a result")
    status, headers = result.get("status"), result.get("headers")
    if not isinstance(status, int) or not 200 <= status < 600 or not isinstance(headers, dict):
        raise ProtocolError("a worker answered without status or headers")
    clean = {
        name: value
        for name, value in headers.items()
        if name in _HEADERS and isinstance(value, str) and value.isascii() and value.isprintable()
    }
    cls, confidence, compute = result.get("class"), result.get("confidence"), result.get("compute_us")
    return Reply(status, clean, data, cls[:64] if isinstance(cls, str) else None, _real(confidence), _real(compute))


def _real(value: Any) -> float | None:
    return value if isinstance(value, float) and math.isfinite(value) else None
