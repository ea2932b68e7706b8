"""The HTTP/1.1 front of the agent: clients on one side, one worker at a time on the other, no thread of its own.

What a client can count on: a new worker under load loses no request; when a worker dies, the request that it was
working on gets 503 with Retry-After, those behind it wait for the next worker. What the device can count on: memory,
connections and times are bounded, whatever clients do (slow, huge, malformed, pipelined, gone).

Runs in the supervisor's loop, `for key, mask in selector.select(1): key.data(mask)`, and must be called there only.
"""

from __future__ import annotations

import collections
import contextlib
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from edgeship.runtime.http1 import CONTINUE, HttpError, Request, RequestReader, response_head
from edgeship.runtime.link import Exchange, Reply, WorkerLink
from edgeship.runtime.oip import error_response, json_response
from edgeship.runtime.stream import SCRATCH, Stream

_JOINED = 1 << 16  # bytes of an answer that is sent in one piece with its head
_READ_AHEAD = 1 << 16  # bytes of pipelined requests that are read while one is answered
_SPARE = 4 << 20  # bytes that all requests together may hold beyond one of the largest size
_LINGER = 2.0  # seconds that a refused client gets to read why
_IDLE = 4  # times the timeout: how long a connection may be kept alive without a request


@dataclass(frozen=True)
class Answered:
    """One answered request, for telemetry.

    `seconds` run from the whole request to its answer; `compute_us` is the time inside the runtime library.
    """

    status: int
    seconds: float
    compute_us: float | None
    cls: str | None
    confidence: float | None


class Front:
    """Accepts connections, hands requests to the attached worker, gives answers back.

    Args:
        selector: the supervisor's; every registration's data is a callable that takes the event mask.
        record: called for each inference, and for each request that was refused.
        on_stuck: the worker has not answered within the timeout; somebody should end it.
        max_connections: at the same time; beyond it the longest idle one is closed, else clients wait to be accepted.
        max_body: bytes of one request.
        timeout: seconds for a request to arrive, for the worker to answer it, and for the client to take the answer.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        record: Callable[[Answered], None],
        on_stuck: Callable[[], None],
        *,
        max_connections: int = 64,
        max_body: int = 64 << 20,
        timeout: float = 30.0,
    ) -> None:
        self.selector, self.max_body, self.timeout = selector, max_body, timeout
        self.scratch = memoryview(bytearray(SCRATCH))
        self.held = 0  # bytes of requests in memory
        self._record, self._on_stuck, self._max_connections = record, on_stuck, max_connections
        self._listeners: dict[socket.socket, bool] = {}  # -> whether it is registered
        self._clients: set[_Client] = set()
        self._queue: collections.deque[Exchange] = collections.deque()
        self._link: WorkerLink | None = None
        self._old: list[WorkerLink] = []
        self._expecting = False  # the worker died and another one will be attached

    # ── the supervisor's side ────────────────────────────────────────────────────────────────────────────────────────

    def listen(self, sock: socket.socket) -> None:
        """Accept clients on a socket that is bound and listening; it is closed with the front."""
        sock.setblocking(False)
        self._listeners[sock] = False
        self._accept_more()

    def attach(self, channel: socket.socket | None) -> None:
        """Send requests to another worker from now on; the front owns the channel.

        Requests under way are finished by the old worker, then its channel is closed (see `draining`). None means that
        there is no model: everything is answered with 503.
        """
        old, self._link, self._expecting = self._link, None, False
        if old is not None:
            old.replaced = True
            self._old.append(old)
            self._drained(old)
        if channel is not None:
            self._link = WorkerLink(channel, self.selector, self._on_reply, self._on_gone, self.max_body, self.scratch)
            self._pump()
        else:
            while self._queue:
                self._queue.popleft().finish(_unavailable("no model is served here"))

    def expect(self) -> None:
        """A worker is being started: requests wait for it instead of being told that there is no model."""
        self._expecting = self._link is None

    @property
    def draining(self) -> bool:
        """Whether an old worker still works on requests: end it when this is False."""
        return bool(self._old)

    def submit(
        self, method: str, path: str, headers: dict[str, str], body: bytes, reply: Callable[[Reply], None]
    ) -> None:
        """One request that did not come through a socket (the agent's `http` operation), treated alike."""
        self._dispatch(Exchange(method, path, headers, body, self._count, reply, time.monotonic()))

    def tick(self, now: float) -> None:
        """Let time pass (`time.monotonic()`): end what took too long. Call it at least once a second."""
        for client in list(self._clients):
            client.tick(now)
        while self._queue and now - self._queue[0].started > self.timeout:
            self._queue.popleft().finish(_unavailable("no worker took the request in time"))
        for link in [*self._old, *([self._link] if self._link else [])]:
            if link.flight and now - link.flight[0][1].started > self.timeout:
                self._stuck(link, now)
        self._accept_more()

    def close(self) -> None:
        """Close everything; requests under way are dropped."""
        for sock, registered in self._listeners.items():
            if registered:
                self.selector.unregister(sock)
            sock.close()
        self._listeners.clear()
        for client in list(self._clients):
            client.close()
        for link in [*self._old, *([self._link] if self._link else [])]:
            link.close()
        self._old, self._link = [], None
        self._queue.clear()

    # ── clients ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _accept_more(self) -> None:
        if len(self._clients) >= self._max_connections and not any(client.idle for client in self._clients):
            return
        for sock, registered in self._listeners.items():
            if not registered:
                self._listeners[sock] = True
                self.selector.register(sock, selectors.EVENT_READ, lambda _mask, sock=sock: self._accept(sock))

    def _accept(self, listener: socket.socket) -> None:
        if len(self._clients) >= self._max_connections:
            idle = [client for client in self._clients if client.idle]
            if not idle:
                self._pause(listener)
                return
            min(idle, key=lambda client: client.deadline).close()
        try:
            sock, _ = listener.accept()
        except BlockingIOError:
            return
        except OSError:
            self._pause(listener)  # out of descriptors: `tick` tries again
            return
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._clients.add(_Client(self, sock))

    def _pause(self, listener: socket.socket) -> None:
        self.selector.unregister(listener)
        self._listeners[listener] = False

    def forget(self, client: _Client) -> None:
        """A client is closed."""
        self._clients.discard(client)
        if not all(self._listeners.values()):
            self._accept_more()

    def over_budget(self) -> bool:
        """Whether requests hold more memory than they may."""
        return self.held > self.max_body + _SPARE

    def refused(self, status: int) -> None:
        """A request could not be read."""
        self._record(Answered(status, 0.0, None, None, None))

    def request(self, request: Request, reply: Callable[[Reply], None]) -> None:
        """A client's request."""
        method = "GET" if request.method == "HEAD" else request.method
        self.submit(method, request.path, request.headers, request.body, reply)

    def _count(self, exchange: Exchange, reply: Reply) -> None:
        # health checks and metadata would drown what inferences take
        if exchange.path.partition("?")[0].endswith("/infer") or 400 <= reply.status < 500:
            seconds = time.monotonic() - exchange.started
            self._record(Answered(reply.status, seconds, reply.compute_us, reply.cls, reply.confidence))

    # ── workers ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _dispatch(self, exchange: Exchange) -> None:
        path = exchange.path.partition("?")[0].rstrip("/")
        if path == "/v2/health/live" and exchange.method == "GET":
            live = json_response(200, {"live": True})
            exchange.finish(Reply(live.status, live.headers, live.body))
        elif self._link is None and (not self._expecting or path == "/v2/health/ready"):
            exchange.finish(_unavailable("the worker is starting" if self._expecting else "no model is served here"))
        else:
            self._queue.append(exchange)
            self._pump()

    def _pump(self) -> None:
        while self._queue and self._link is not None and self._link.free:
            self._link.send(self._queue.popleft())

    def _on_reply(self, exchange: Exchange, reply: Reply) -> None:
        exchange.finish(reply)
        self._pump()
        for link in list(self._old):
            self._drained(link)

    def _drained(self, link: WorkerLink) -> None:
        if not link.flight or link.closed:
            link.close()
            self._old.remove(link)

    def _on_gone(self, link: WorkerLink) -> None:
        flight = [exchange for _, exchange in link.flight]
        link.flight.clear()
        if link is self._link:
            self._link, self._expecting = None, True
        else:
            self._old.remove(link)
        if flight and not flight[0].done:
            head = flight[0]
            if link.replaced and not head.retried:
                head.retried = True  # ended with the switch, most likely: the new worker may try it once
            else:
                head.finish(_unavailable("the worker died over this request"))
        self._take_back(flight)

    def _stuck(self, link: WorkerLink, now: float) -> None:
        flight = [exchange for _, exchange in link.flight]
        if link.replaced:
            link.flight.clear()
            self._drained(link)
        elif not link.stuck:
            link.stuck = True
            self._on_stuck()
        for exchange in flight:
            if now - exchange.started > self.timeout:
                exchange.finish(_unavailable("the worker did not answer in time"))
        if link.replaced:
            self._take_back(flight)

    def _take_back(self, flight: list[Exchange]) -> None:
        self._queue.extendleft(exchange for exchange in reversed(flight) if not exchange.done)
        if self._link is None and not self._expecting:
            self.attach(None)
        self._pump()


class _Client:
    """One connection: reads requests, one at a time is answered."""

    def __init__(self, front: Front, sock: socket.socket) -> None:
        self._front = front
        self._stream = Stream(sock, front.selector, self._ready, front.scratch)
        self._reader = RequestReader(front.max_body)
        self._exchanging = 0  # 1 + bytes of the request that is being answered
        self._advancing = False
        self._held = 0
        self._ending = False  # close when the answer is out
        self._lingering = False
        self._eof = False
        self.deadline = time.monotonic() + front.timeout * _IDLE

    @property
    def idle(self) -> bool:
        """Kept alive, with nothing to do."""
        return not (self._exchanging or self._stream.pending or self._reader.begun or self._lingering)

    def tick(self, now: float) -> None:
        """Close or refuse when the deadline has passed."""
        if now < self.deadline or self._exchanging:
            return
        if self._reader.begun and not self._stream.pending and not self._lingering:
            self._refuse(408, "the request did not arrive in time")
        else:
            self.close()

    def close(self) -> None:
        """Close the connection."""
        if not self._stream.closed:
            self._stream.close()
            self._front.held -= self._held
            self._front.forget(self)

    def _ready(self, mask: int) -> None:
        try:
            if mask & selectors.EVENT_WRITE and not self._stream.closed:
                self._stream.flush()
                self._sent()
            if mask & selectors.EVENT_READ and not self._stream.closed:
                self._receive()
        except OSError:
            self.close()

    def _receive(self) -> None:
        raw = self._stream.receive()
        if raw is None or (raw and self._ending):
            return
        if not raw:
            self._eof = True  # a half-closed client still gets its answers
            self._settle()
            return
        if not self._reader.begun:
            self.deadline = time.monotonic() + self._front.timeout
        self._reader.feed(raw)
        self._advance()

    def _settle(self) -> None:
        """After something changed: nothing more to come closes, else read as long as there is room."""
        if self._eof and not (self._exchanging or self._stream.pending):
            self.close()
        else:
            self._stream.read(not self._eof and (not self._exchanging or self._reader.held < _READ_AHEAD))

    def _account(self) -> None:
        held = self._reader.held + self._exchanging
        self._front.held += held - self._held
        self._held = held

    def _advance(self) -> None:
        """Begin requests until one is not answered at once."""
        if self._advancing:
            return
        self._advancing = True
        try:
            while not (self._exchanging or self._stream.pending or self._ending or self._stream.closed):
                request = self._reader.next()
                if request is None:
                    break
                self._begin(request)
            if not self._exchanging and self._reader.wants_continue():
                self._send([CONTINUE])
        except HttpError as error:
            self._refuse(error.status, str(error))
        finally:
            self._advancing = False
        if self._stream.closed:
            return
        self._account()
        if self._front.over_budget() and self._held > _READ_AHEAD and not self._exchanging:
            self._refuse(503, "too many large requests at once")
        self._settle()

    def _begin(self, request: Request) -> None:
        def reply(answer: Reply) -> None:
            self._exchanging = 0
            if not self._stream.closed:
                self._answer(answer, request)

        self._exchanging = 1 + len(request.body)
        self._front.request(request, reply)

    def _answer(self, reply: Reply, request: Request) -> None:
        self._ending = self._ending or not request.keep_alive
        headers = {**reply.headers, "retry-after": "1"} if reply.status == 503 else reply.headers
        head = response_head(reply.status, headers, len(reply.body), keep_alive=not self._ending)
        if request.method == "HEAD":
            self._send([head])
        elif len(reply.body) <= _JOINED:
            self._send([head + reply.body])
        else:
            self._send([head, reply.body])

    def _refuse(self, status: int, message: str) -> None:
        self._front.refused(status)
        self._reader = RequestReader(self._front.max_body)
        self._account()
        self._ending = True
        response = error_response(status, message)
        headers = {**response.headers, "retry-after": "1"} if status == 503 else response.headers
        self._send([response_head(status, headers, len(response.body), keep_alive=False) + response.body])

    def _send(self, parts: list[bytes]) -> None:
        try:
            self._stream.send(parts)
        except OSError:
            self.close()
        else:
            self._sent()

    def _sent(self) -> None:
        """After something went out."""
        now, timeout = time.monotonic(), self._front.timeout
        if self._stream.pending:
            self.deadline = now + timeout
        elif not self._ending:
            self.deadline = now + timeout * (1 if self._reader.begun else _IDLE)
            if self._reader.begun:
                self._advance()
            elif not self._advancing:
                self._account()
                self._settle()
        elif self._eof:
            self.close()
        elif not self._lingering:
            # closing with unread bytes would reset the connection before the client has read the answer
            self._lingering = True
            self.deadline = now + _LINGER
            with contextlib.suppress(OSError):
                self._stream.finish()


def _unavailable(message: str) -> Reply:
    response = error_response(503, message)
    return Reply(503, response.headers, response.body)
