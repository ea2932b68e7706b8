"""The worker: one process, one model. It may crash, hang or be killed without harm to anything but its own request.

    python -I AGENT worker --control FD --serve FD

Both descriptors are ends of socket pairs that the supervisor made. The control channel takes load, probe, bench and
stop, one at a time; its end is the end of the worker. The serve channel takes `http` requests, which are answered
between the runs of a bench too. Every file is verified through a descriptor, and loaded through the same descriptor,
so what was verified is what runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import selectors
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable
from typing import Any

from edgeship.runtime import engine
from edgeship.runtime.channel import Messages, encode, message_parts
from edgeship.runtime.errors import AgentError, DiskError, EngineError, ProtocolError, TrustError
from edgeship.runtime.manifest import TensorSpec, VariantRef
from edgeship.runtime.memory import give_back
from edgeship.runtime.oip import Endpoint, OipError, Response, error_response
from edgeship.runtime.probe import MAX_RUNS, MAX_SECONDS, MAX_WARMUP, GoldenSamples, bench, probe
from edgeship.runtime.tensors import winner
from edgeship.runtime.wire import check_name, check_sha256, need, parse_object

_READ = 1 << 16
_REMEMBERED = 64
_MAX_BODY = 1 << 30  # the front has a stricter limit of its own

Json = dict[str, Any]


def open_verified(path: str, sha256: str, size: int | None = None) -> int:
    """Open a file whose content has this hash; the descriptor is the caller's.

    Raises:
        DiskError: it cannot be read, or is no regular file (a link is none).
        TrustError: other content.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise DiskError(f"{path} cannot be opened: {error.strerror}") from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise DiskError(f"{path} is no regular file")
        digest = hashlib.sha256()
        while part := os.read(descriptor, 1 << 20):
            digest.update(part)
        if digest.hexdigest() != sha256 or (size is not None and found.st_size != size):
            raise TrustError(f"{path} is not what was signed: {found.st_size} bytes, sha256 {digest.hexdigest()}")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


class Served:
    """A model that is loaded, with its endpoint and golden samples."""

    def __init__(self, model: engine.Model, variant: VariantRef, golden: int, endpoint: Endpoint) -> None:
        self.model, self.variant, self.endpoint = model, variant, endpoint
        self.golden = GoldenSamples(golden, variant)
        # the release may list tensors in another order than the runtime library does
        self._inputs = _order(model.inputs, variant.inputs, "input")
        self._outputs = _order(variant.outputs, model.outputs, "output")
        self._plain = self._inputs == sorted(self._inputs) and self._outputs == sorted(self._outputs)

    def run(self, inputs: list[Any]) -> list[bytes]:
        """One inference, tensors in the release's order."""
        if self._plain:
            return self.model.run(*inputs)
        outputs = self.model.run(*[inputs[index] for index in self._inputs])
        return [outputs[index] for index in self._outputs]

    def http(self, request: Json, body: bytes) -> tuple[Response, Json]:
        """Answer one HTTP request: the response, and what telemetry counts of it."""
        method, path = need(request, "method", str), need(request, "path", str)
        headers: dict[str, str] = need(request, "headers", dict)
        try:
            response = self.endpoint.route(method, path)
            if response is not None:
                return response, {}
            inference, tensors = self.endpoint.decode(headers, body)
            start = time.perf_counter_ns()
            outputs = self.run(tensors)
            counted: Json = {"compute_us": (time.perf_counter_ns() - start) / 1000}
            if self.variant.task == "classification":
                index, confidence = winner(outputs[0], self.variant.outputs[0])
                labels = self.variant.labels
                counted |= {"class": labels[index] if index < len(labels) else str(index), "confidence": confidence}
            return self.endpoint.encode(inference, outputs), counted
        except OipError as error:
            response = error_response(error.status, str(error))
            if error.status == 405:
                response.headers["allow"] = "POST" if path.partition("?")[0].endswith("/infer") else "GET"
            return response, {}
        except EngineError as error:
            return error_response(500, str(error)), {}


def _order(wanted: tuple[TensorSpec, ...], given: tuple[TensorSpec, ...], what: str) -> list[int]:
    """For each of `wanted`, which of `given` it is: by name where the names are the same ones, else by position."""
    names = [spec.name for spec in given]
    if sorted(names) == sorted(spec.name for spec in wanted):
        order = [names.index(spec.name) for spec in wanted]
    else:
        order = list(range(len(given)))
    if [(s.dtype, s.shape) for s in wanted] != [(given[i].dtype, given[i].shape) for i in order]:
        raise EngineError(f"the {what}s of the model file are not those that the release describes")
    return order


class Worker:
    """The two channels and the model between them."""

    def __init__(self, control: socket.socket, serve: socket.socket) -> None:
        self._control, self._serve = control, serve
        self._served: Served | None = None
        self._running = True
        self._open = {control, serve}
        self._selector = selectors.DefaultSelector()
        self._operations: dict[str, Callable[[Json], Json]] = {
            "load": self._load, "probe": self._probe, "bench": self._bench, "stop": self._stop,
        }  # fmt: skip
        orders = Messages(parse_object, lambda _message: False, 0)
        requests = Messages(_remembering(parse_object), lambda message: message.get("op") == "http", _MAX_BODY)
        self._selector.register(control, selectors.EVENT_READ, lambda: self._read(control, orders, self._order))
        self._selector.register(serve, selectors.EVENT_READ, lambda: self._read(serve, requests, self._request))

    def run(self) -> None:
        """Work until the control channel ends or says stop."""
        while self._running:
            for key, _ in self._selector.select():
                key.data()
        self._selector.close()

    def _read(self, sock: socket.socket, messages: Messages, handle: Callable[[Json, bytes], None]) -> None:
        try:
            # a bench may have read what the selector reported
            raw = sock.recv(_READ, socket.MSG_DONTWAIT)
            for message, data in messages.feed(raw):
                handle(message, data)
        except BlockingIOError:
            return
        except (ProtocolError, OSError) as error:
            _log(f"a channel broke: {error}")
            raw = b""
        if not raw:
            self._end(sock)

    def _end(self, sock: socket.socket) -> None:
        self._running = self._running and sock is not self._control
        if sock in self._open:
            self._open.remove(sock)
            self._selector.unregister(sock)
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # the other side must not wait for answers

    def _order(self, message: Json, _data: bytes) -> None:
        answer: Json = {"id": message.get("id")}
        try:
            operation = self._operations.get(str(message.get("op")))
            if operation is None:
                raise ProtocolError(f"unknown operation {message.get('op')!r:.40}")
            answer |= {"ok": True, "result": operation(message)}
        except AgentError as error:
            answer |= {"ok": False, "error": {"code": error.code, "message": str(error)}}
        except Exception as error:  # noqa: BLE001 - a defect must reach the supervisor as an answer, not as silence
            answer |= {"ok": False, "error": {"code": "internal", "message": f"{type(error).__name__}: {error}"}}
        for part in message_parts(encode(answer)):
            self._control.sendall(part)

    def _request(self, message: Json, body: bytes) -> None:
        counted: Json = {}
        if self._served is None:
            response = error_response(503, "no model is loaded")
        else:
            try:
                response, counted = self._served.http(message, body)
            except Exception as error:  # noqa: BLE001 - one request may fail, the worker goes on
                _log(f"{type(error).__name__}: {error}")
                response = error_response(500, "a defect of the agent; its log says more")
        result = {"status": response.status, "headers": response.headers, "data": True, **counted}
        for part in message_parts(encode({"id": message.get("id"), "ok": True, "result": result}), response.body):
            self._serve.sendall(part)

    # ── control operations ───────────────────────────────────────────────────────────────────────────────────────────

    def _load(self, message: Json) -> Json:
        if self._served is not None:
            raise AgentError("this worker has its model; another one needs another worker", "bad-request")
        variant = VariantRef.parse(need(message, "variant", dict))
        name, version = check_name(need(message, "name", str)), need(message, "version", str)
        paths = [need(message, key, str) for key in ("model", "library", "golden")]
        refs = [
            (variant.file.sha256, variant.file.bytes), (check_sha256(message.get("library_sha256")), None),
            (variant.golden.file.sha256, variant.golden.file.bytes),
        ]  # fmt: skip
        opened: list[int] = []
        try:
            for path, (sha256, size) in zip(paths, refs, strict=True):
                opened.append(open_verified(path, sha256, size))
            start = time.perf_counter_ns()
            model = _load_model(variant, opened, paths)
            loaded = time.perf_counter_ns()
            endpoint = Endpoint(name, version, variant.format, variant.inputs, variant.outputs)
            try:
                served = Served(model, variant, os.dup(opened[2]), endpoint)
            except AgentError:
                model.close()
                raise
        finally:
            # the library's stays open: the loader knows a library by its path, and would take the next file that gets
            # the same number for it
            for descriptor in (*opened[:1], *opened[2:]):
                os.close(descriptor)
        first = time.perf_counter_ns()
        served.run(served.golden.inputs(0))
        first_us = (time.perf_counter_ns() - first) / 1000
        give_back()
        self._served = served
        return {
            "load_us": (loaded - start) / 1000, "first_us": first_us, "inputs": [s.encode() for s in variant.inputs],
            "outputs": [s.encode() for s in variant.outputs], "notes": list(model.notes),
        }  # fmt: skip

    def _need_model(self) -> Served:
        if self._served is None:
            raise AgentError("no model is loaded", "no-model")
        return self._served

    def _probe(self, _message: Json) -> Json:
        served = self._need_model()
        return probe(served.run, served.golden, served.variant).encode()

    def _bench(self, message: Json) -> Json:
        served = self._need_model()
        runs, warmup = need(message, "runs", int), need(message, "warmup", int)
        max_seconds = float(need(message, "max_seconds", (int, float)))
        if not (1 <= runs <= MAX_RUNS and 0 <= warmup <= MAX_WARMUP and 0 < max_seconds <= MAX_SECONDS):
            raise AgentError(
                f"bench takes 1 to {MAX_RUNS} runs, at most {MAX_WARMUP} to warm up and {MAX_SECONDS:.0f} seconds",
                "bad-request",
            )
        return bench(
            served.run, served.golden, runs=runs, warmup=warmup, max_seconds=max_seconds, between=self._between
        )

    def _between(self) -> None:
        # requests are answered while a bench goes on; the control channel waits for its answer anyway
        for key, _ in self._selector.select(0):
            if key.fileobj is self._serve:
                key.data()

    def _stop(self, _message: Json) -> Json:
        self._running = False
        return {}


def _remembering(parse: Callable[[bytes], Json]) -> Callable[[bytes], Json]:
    """`parse`, but bytes that came before are not parsed again: clients repeat themselves. Results stay unchanged."""
    known: dict[bytes, Json] = {}

    def parse_or_recall(payload: bytes) -> Json:
        message = known.get(payload)
        if message is None:
            message = parse(payload)
            if len(known) >= _REMEMBERED:
                known.clear()
            known[payload] = message
        return message

    return parse_or_recall


def _log(text: str) -> None:
    sys.stderr.write(f"worker: {text}\n")
    sys.stderr.flush()


def _load_model(variant: VariantRef, opened: list[int], paths: list[str]) -> engine.Model:
    model, library = (f"/proc/self/fd/{descriptor}" for descriptor in opened[:2])
    try:
        return engine.load(variant.format, library, model, threads=variant.threads)
    except EngineError as error:
        raise EngineError(str(error).replace(model, paths[0]).replace(library, paths[1])) from error


def main(control: int, serve: int) -> int:
    """Run a worker on two inherited descriptors, ends of socket pairs. Returns the exit code."""
    # Ctrl-C in a terminal reaches the whole group; the supervisor decides when a worker ends
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=control) as orders, socket.socket(fileno=serve) as requests:
        Worker(orders, requests).run()
    return 0
