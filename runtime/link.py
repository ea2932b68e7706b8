"""The supervisor's end of one worker's serve channel: requests out, answers in, never blocking.

Answers come in the order of the requests. Two requests may be on their way, so that the worker finds the next one when
it has answered the last; only the first of them can have harmed it when it dies.
"""

from __future__ import annotations

import collections
import selectors
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from edgeship.runtime.channel import Messages, message_parts
from edgeship.runtime.errors import ProtocolError

DEPTH = 2  # requests on their way to one worker
_READ = 1 << 18
#: What a worker may set; anything else that it says is dropped.
_HEADERS = frozenset(("content-type", "inference-header-content-length", "allow"))
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


@dataclass
class Exchange:
    """A request on its way to an answer. `reply` is called exactly once."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    reply: Callable[[Reply], None]
    started: float  # time.monotonic()
    counted: bool = True
    retried: bool = False
    done: bool = field(default=False, init=False)

    def finish(self, reply: Reply) -> None:
        """Answer, unless that was done before."""
        if not self.done:
            self.done = True
            self.reply(reply)


class WorkerLink:
    """One worker's serve channel.

    Args:
        sock: our end, owned from now on.
        selector: where it is registered, with a callable as data.
        on_reply: an exchange and its answer.
        on_gone: the channel broke or the worker talks nonsense; `flight` holds what has no answer.
        max_body: bytes that one answer may have.
    """

    def __init__(
        self,
        sock: socket.socket,
        selector: selectors.BaseSelector,
        on_reply: Callable[[Exchange, Reply], None],
        on_gone: Callable[[WorkerLink], None],
        max_body: int,
    ) -> None:
        self._sock, self._selector, self._on_reply, self._on_gone = sock, selector, on_reply, on_gone
        self._messages = Messages(_has_data, max_body)
        self._out: collections.deque[memoryview] = collections.deque()
        self._next_id = 0
        self.flight: collections.deque[tuple[int, Exchange]] = collections.deque()
        self.replaced = False  # another worker took over; this one answers what it has and is closed
        self.stuck = False
        self.closed = False
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ, self._ready)

    @property
    def free(self) -> bool:
        """Whether it takes one more request."""
        return not self.closed and len(self.flight) < DEPTH

    def send(self, exchange: Exchange) -> None:
        """Put a request on its way."""
        self._next_id += 1
        self.flight.append((self._next_id, exchange))
        headers = {name: exchange.headers[name] for name in _FORWARDED if name in exchange.headers}
        message = {
            "id": self._next_id, "op": "http", "method": exchange.method, "path": exchange.path, "headers": headers,
        }  # fmt: skip
        waiting = bool(self._out)
        self._out.extend(memoryview(part) for part in message_parts(message, exchange.body))
        if not waiting:
            self._flush()

    def close(self) -> None:
        """Close the channel; the worker sees its end."""
        if not self.closed:
            self.closed = True
            self._selector.unregister(self._sock)
            self._sock.close()

    def _ready(self, mask: int) -> None:
        if mask & selectors.EVENT_WRITE and not self.closed:
            self._flush()
        if mask & selectors.EVENT_READ and not self.closed:
            self._receive()

    def _flush(self) -> None:
        try:
            while self._out:
                view = self._out[0]
                sent = self._sock.send(view)
                if sent < len(view):
                    self._out[0] = view[sent:]
                    break
                self._out.popleft()
        except BlockingIOError:
            pass
        except OSError:
            self._gone()
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._out else 0)
        if self._selector.get_key(self._sock).events != events:
            self._selector.modify(self._sock, events, self._ready)

    def _receive(self) -> None:
        try:
            raw = self._sock.recv(_READ)
            if not raw:
                self._gone()
                return
            for message, data in self._messages.feed(raw):
                if not self.flight or message.get("id") != self.flight[0][0]:
                    raise ProtocolError("an answer to no request")
                reply = _reply_of(message, data)
                self._on_reply(self.flight.popleft()[1], reply)
        except BlockingIOError:
            pass
        except (OSError, ProtocolError):
            self._gone()

    def _gone(self) -> None:
        if not self.closed:
            self.close()
            self._on_gone(self)


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
    return Reply(
        status, clean, data, cls[:64] if isinstance(cls, str) else None,
        confidence if isinstance(confidence, float) else None, compute if isinstance(compute, float) else None,
    )  # fmt: skip
