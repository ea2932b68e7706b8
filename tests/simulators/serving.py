"""The serve path in pieces that tests drive: a real worker process, a scripted one, a front in a thread of its own.

with WorkerProcess() as worker, FrontThread(tmp_path) as front:
    worker.load(tiny, variant, golden)
    front.attach(worker.serve)
    front.post(b'{"inputs": …}')          # (status, headers, body) over the Unix socket
"""

from __future__ import annotations

import contextlib
import http.client
import json
import queue
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from edgeship.runtime.channel import Messages, encode, message_parts
from edgeship.runtime.manifest import VariantRef
from edgeship.runtime.serve import Answered, Front
from edgeship.runtime.wire import parse_object
from tests.simulators.models import TinyModel, library, sha256

T = TypeVar("T")
Json = dict[str, Any]
INFER = "/v2/models/digits/infer"

_WORKER = "import sys; from edgeship.runtime.worker import main; sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))"


def load_message(tiny: TinyModel, variant: VariantRef, golden: Path) -> Json:
    """The fields of a `load` for a tiny model under the name digits, version 7."""
    runtime = library(tiny.format)
    return {
        "variant": variant.encode(), "model": str(tiny.path), "library": str(runtime), "golden": str(golden),
        "library_sha256": sha256(runtime), "name": "digits", "version": "7",
    }  # fmt: skip


class Control:
    """Our end of a control channel: blocking requests."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._messages = Messages(parse_object, lambda _message: False, 0)

    def request(self, op: str, **fields: Any) -> Json:
        """The whole answer: `ok` with `result`, or `error`."""
        for part in message_parts(encode({"id": 1, "op": op, **fields})):
            self.sock.sendall(part)
        while True:
            raw = self.sock.recv(1 << 16)
            if not raw:
                raise EOFError
            for answer, _ in self._messages.feed(raw):
                return answer


class WorkerProcess:
    """A real worker as a child process."""

    def __enter__(self) -> Self:
        ours, control = socket.socketpair()
        self.serve, serve = socket.socketpair()
        descriptors = [control.fileno(), serve.fileno()]
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", _WORKER, *map(str, descriptors)], pass_fds=descriptors, stderr=subprocess.PIPE
        )
        control.close()
        serve.close()
        ours.settimeout(60)
        self.control = Control(ours)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.control.sock.close()
        self.serve.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.process.communicate()

    def load(self, tiny: TinyModel, variant: VariantRef, golden: Path) -> Json:
        """Load a model; the result."""
        answer = self.control.request("load", **load_message(tiny, variant, golden))
        assert answer["ok"], answer
        result: Json = answer["result"]
        return result


class ScriptedWorker:
    """The other end of a serve channel, answering by a function in a thread.

    Args:
        answer: (message, body) -> (result, data); None ends the channel without an answer.
    """

    def __init__(self, answer: Callable[[Json, bytes], tuple[Json, bytes] | None]) -> None:
        self.channel, self._far = socket.socketpair()
        self.seen: list[Json] = []
        self._answer = answer
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        messages = Messages(parse_object, lambda _message: True, 1 << 30)
        with self._far, contextlib.suppress(ConnectionResetError):  # the supervisor may hang up with bytes unread
            while raw := self._far.recv(1 << 16):
                for message, body in messages.feed(raw):
                    self.seen.append(message)
                    answer = self._answer(message, body)
                    if answer is None:
                        return
                    result, data = answer
                    whole = {"id": message["id"], "ok": True, "result": {**result, "data": True}}
                    try:
                        for part in message_parts(encode(whole), data):
                            self._far.sendall(part)
                    except OSError:
                        return


def echo(status: int = 200) -> Callable[[Json, bytes], tuple[Json, bytes]]:
    """A scripted answer: the body, back again."""

    def answer(_message: Json, body: bytes) -> tuple[Json, bytes]:
        headers = {"content-type": "application/octet-stream"}
        return {"status": status, "headers": headers, "class": "3", "confidence": 0.5, "compute_us": 1.5}, body

    return answer


class FrontThread:
    """A front in a loop of its own on a Unix socket and a TCP port; `call` runs a function in that loop."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.path = str(folder / "s.sock")
        self.records: list[Answered] = []
        self.stuck = threading.Event()
        self.clock: Callable[[], float] = time.monotonic
        self._selector = selectors.DefaultSelector()
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._wake, self._woken = socket.socketpair()
        self.front = Front(self._selector, self.records.append, self.stuck.set, **options)
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._running = True

    def __enter__(self) -> Self:
        unix, tcp = socket.socket(socket.AF_UNIX), socket.socket()
        unix.bind(self.path)
        tcp.bind(("127.0.0.1", 0))
        self.port = int(tcp.getsockname()[1])
        for listener in (unix, tcp):
            listener.listen(64)
            self.front.listen(listener)
        self._selector.register(self._woken, selectors.EVENT_READ, lambda _mask: self._drain())
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running = False
        self._wake.send(b"x")
        self._thread.join(10)
        self.front.close()
        self._selector.close()
        self._wake.close()
        self._woken.close()

    def _loop(self) -> None:
        while self._running:
            for key, mask in self._selector.select(0.05):
                key.data(mask)
            self.front.tick(self.clock())

    def _drain(self) -> None:
        self._woken.recv(64)
        while not self._calls.empty():
            self._calls.get()()

    def call(self, function: Callable[[], T]) -> T:
        """Run in the loop's thread and return what it returns."""
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(function())
            except BaseException as error:
                done.set_exception(error)

        self._calls.put(run)
        self._wake.send(b"x")
        return done.result(30)

    def attach(self, channel: socket.socket | None) -> None:
        """Attach a worker's channel in the loop; the front owns it, so it must end before the worker does."""
        self.call(lambda: self.front.attach(channel))

    def connect(self) -> socket.socket:
        """A raw connection to the Unix socket."""
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(30)
        sock.connect(self.path)
        return sock

    def raw(self, data: bytes) -> bytes:
        """Send bytes on a new connection and read until the other side closes."""
        with self.connect() as sock:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: sock.recv(1 << 16), b""))

    def http(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """One request on a connection of its own: status, headers in lower case, body."""
        connection = http.client.HTTPConnection("localhost", timeout=30)
        connection.sock = self.connect()
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        finally:
            connection.close()

    def post(self, body: bytes, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
        """One inference."""
        return self.http("POST", INFER, body, headers)


def infer_json(values: list[float], datatype: str = "FP32", shape: tuple[int, ...] = (1, 8, 8, 1)) -> bytes:
    """An inference of the tiny classifier as JSON."""
    tensor = {"name": "image", "shape": list(shape), "datatype": datatype, "data": values}
    return json.dumps({"inputs": [tensor]}).encode()
