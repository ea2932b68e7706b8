"""One connection of a host: reads requests on standard input, answers on standard output.

Rules this module keeps:

* It stages files itself (under the staging lock, one connection at a time) and asks the supervisor for the rest,
  starting it when it is not there. What it is cut off from stays as it was or goes on without it.
* Received bytes are bounded before they are written, hashed after decompression, and named by their hash.
* A malformed frame ends the connection; a request that is wrong is answered with its reason.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from edgeship.runtime import __version__, boot, facts, logs, trust
from edgeship.runtime import disk as disks
from edgeship.runtime.caller import Supervisor
from edgeship.runtime.children import agent_argv, run
from edgeship.runtime.disk import Disk
from edgeship.runtime.errors import AgentError, ProtocolError
from edgeship.runtime.layout import Layout
from edgeship.runtime.settings import Settings
from edgeship.runtime.slots import Slots, sweep
from edgeship.runtime.staging import Put, accept
from edgeship.runtime.wire import (
    MAX_METADATA,
    PROTOCOL,
    check_sha256,
    data_frames,
    json_frame,
    need,
    objects,
    read_data,
    read_json,
)

MAX_BODY = 64 << 20  # of a request passed on to the served model
STALL_SECONDS = 60.0  # a host that is silent for so long while it holds the staging lock loses the lock

_WITH_DATA = ("put", "http")

Json = Mapping[str, Any]


class Channel:
    """Frames on two descriptors. Reads no byte too many, so that the process can be replaced between two requests."""

    def __init__(self, source: int, sink: int) -> None:
        self.source, self._sink = source, sink

    def read(self, n: int) -> bytes:
        """Up to n bytes, b"" at the end."""
        return os.read(self.source, n)

    def write(self, data: bytes) -> None:
        """All of `data`."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._sink, view) :]

    def silent(self, seconds: float) -> bool:
        """Whether nothing arrives for so long."""
        return not select.select([self.source], [], [], seconds)[0]


class Rpc:
    """The operations of one connection.

    Args:
        layout: the agent's folder, made if missing.
        app: path of this agent's zipapp.
        channel: the host.
    """

    def __init__(self, layout: Layout, disk: Disk, app: str, channel: Channel) -> None:
        self._layout, self._disk, self._app, self._channel = layout, disk, app, channel
        self._supervisor = Supervisor(layout, disk, app)
        self._lock: int | None = None
        self._host_clock: tuple[float, float] | None = None  # the host's clock, our monotonic one at that moment
        self._number: Any = None
        self._replace: str | None = None

    def serve(self) -> int:
        """Answer requests until the host ends the stream; returns the exit status."""
        try:
            while True:
                if self._lock is not None and self._channel.silent(STALL_SECONDS):
                    self._unlock()
                self._number = None
                request = read_json(self._channel.read)
                if request is None:
                    return 0
                self._answer(request)
                if self._replace is not None:
                    self._become(self._replace)
        except ProtocolError as error:
            with contextlib.suppress(OSError):
                self._fail(error)
            return 1
        except OSError:  # the host hung up
            return 0
        finally:
            self._unlock()

    def _answer(self, request: Json) -> None:
        self._number = request.get("id")
        operation = getattr(self, f"op_{request.get('op')}", None)
        try:
            if operation is None:
                raise AgentError(f"unknown operation {request.get('op')!r:.80}", "bad-request")
            self._reply(*operation(request))
        except AgentError as error:
            if isinstance(error, ProtocolError) and request.get("op") in _WITH_DATA:
                raise  # where the next request begins is not known
            self._fail(error)

    def _reply(self, result: Json, data: bytes | None = None) -> None:
        if data is None:
            self._channel.write(json_frame({"id": self._number, "ok": True, "result": result}))
            return
        self._channel.write(json_frame({"id": self._number, "ok": True, "result": {**result, "data": True}}))
        for frame in data_frames(data):
            self._channel.write(frame)

    def _fail(self, error: AgentError) -> None:
        failure = {"code": error.code, "message": str(error)[:4000]}
        self._channel.write(json_frame({"id": self._number, "ok": False, "error": failure}))

    def _emit(self, event: Json) -> None:
        with contextlib.suppress(OSError):  # an install goes on without the host
            self._channel.write(json_frame({"id": self._number, "event": event}))

    # ── telling ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def op_hello(self, request: Json) -> tuple[Json]:
        """Who is there; notes the host's clock."""
        if need(request, "protocol", int) != PROTOCOL:
            raise AgentError(f"this agent speaks protocol {PROTOCOL}", "protocol")
        clock, now = need(request, "clock", (int, float)), time.time()
        self._host_clock = (float(clock), time.monotonic())
        root = disks.read(self._layout.trusted_root, MAX_METADATA)
        own = disks.hash_file(self._app) if os.path.isfile(self._app) else None
        return ({
            "protocol": PROTOCOL, "agent": __version__, "agent_sha256": own[0] if own else "",
            "enrolled": root is not None, "root_sha256": root and hashlib.sha256(root).hexdigest(),
            "name": Settings.load(self._layout).name,
            "clock": now, "clock_skew_seconds": now - clock,
        },)  # fmt: skip

    def op_facts(self, _request: Json) -> tuple[Json]:
        """What this device is."""
        return (facts.gather(self._layout.root, arch=Settings.load(self._layout).arch),)

    def op_logs(self, request: Json) -> tuple[Json]:
        """The last lines of the log."""
        return ({"lines": logs.tail(self._layout.path("log"), min(need(request, "lines", int), 10_000))},)

    def op_have(self, request: Json) -> tuple[Json]:
        """Which blobs are here, whole or in part."""
        present, partial = [], {}
        for blob in objects(request, "blobs"):
            sha256, size = check_sha256(blob.get("sha256")), need(blob, "bytes", int)
            path = self._layout.blob(sha256)
            if os.path.isfile(path) and os.path.getsize(path) == size:
                present.append(sha256)
                continue
            for encoding in ("raw", "xz"):
                received = self._layout.partial(sha256, encoding)
                if os.path.isfile(received) and not os.path.islink(received):
                    partial[sha256] = {"encoding": encoding, "bytes": os.path.getsize(received)}
        free = os.statvfs(self._layout.root)
        return ({"present": present, "partial": partial, "disk_free_bytes": free.f_bavail * free.f_frsize},)

    # ── enrolling ────────────────────────────────────────────────────────────────────────────────────────────────────

    def op_enroll(self, request: Json) -> tuple[Json]:
        """Pin the fleet's root and take a name and a profile."""
        self._hold()
        try:
            root = base64.b64decode(need(request, "root", str), validate=True)
        except binascii.Error as error:
            raise AgentError(f"the root is not base64: {error}", "bad-request") from error
        enrolled = Settings.load(self._layout).enrolled(request)
        if os.path.lexists(self._layout.trusted_root):
            if not trust.knows_root(self._layout, root):
                raise AgentError("this device is enrolled with another fleet's root", "enrolled-elsewhere")
        else:
            trust.check_root(root)
        enrolled.save(self._layout, self._disk)
        if not os.path.lexists(self._layout.trusted_root):
            self._disk.write(self._layout.trusted_root, root)
        self._supervisor.ask({"op": "reload"}, self._emit, start=False)
        return ({},)

    def op_configure(self, request: Json) -> tuple[Json]:
        """Settings; what the request does not name stays."""
        before = Settings.load(self._layout)
        settings = before.configured(request)
        if settings != before or not os.path.exists(self._layout.config):
            self._hold()
            settings.save(self._layout, self._disk)
        if settings.boot_hook == "termux":
            boot.install(settings.python or (sys.executable,), self._layout, self._disk)
        elif before.boot_hook == "termux":
            boot.remove(self._layout, self._disk)
        moved = before.serve_port is not None and settings.serve_port != before.serve_port
        if not moved:
            self._supervisor.ask({"op": "reload"}, self._emit, start=False)
        elif (connection := self._supervisor.connect()) is not None:
            connection.close()
            self._supervisor.stop()
            self._supervisor.ensure().close()
        return ({},)

    # ── staging ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _hold(self) -> None:
        """Become the one connection that stages, until it ends or falls silent."""
        if self._lock is None:
            self._lock = self._disk.lock(self._layout.staging_lock, seconds=2.0)
            if self._lock is None:
                raise AgentError("another push is under way on this device", "busy")

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _chunks(self, most: int) -> Iterator[bytes]:
        """The request's data; a host that stalls in the middle of it is left. Raises ProtocolError."""

        def read(n: int) -> bytes:
            if self._channel.silent(STALL_SECONDS):
                raise ProtocolError(f"the host sent nothing for {STALL_SECONDS:.0f} s in the middle of a file")
            return self._channel.read(n)

        for data in read_data(read):
            most -= len(data)
            if most < 0:
                raise ProtocolError("more data than the request announced")
            yield data

    def op_put(self, request: Json) -> tuple[Json]:
        """Take a file: a blob of a release, a metadata file, another agent."""
        put = Put(request)
        path = self._layout.partial(put.sha256, put.encoding)
        try:
            self._hold()
            if put.offset and not os.path.exists(path):  # counted on before the lock was ours; its holder swept it
                raise AgentError("another push ended on this device meanwhile; what had arrived was cleaned up", "busy")
            with self._disk.growing(path, put.offset) as write:
                for data in self._chunks(put.encoded_bytes - put.offset):
                    write(data)
        except AgentError as error:
            if error.code == "disk-full":  # what cannot be finished must not keep the disk full
                self._disk.remove(path)
            if not isinstance(error, ProtocolError):
                for _ in self._chunks(put.encoded_bytes):  # so that the next request is found
                    pass
            raise
        if os.path.getsize(path) != put.encoded_bytes:
            raise AgentError(f"{os.path.getsize(path)} of {put.encoded_bytes} bytes arrived", "bad-request")
        if put.kind == "metadata":
            accept(self._disk, put, path, self._layout.path("incoming", put.name))
        elif put.kind == "agent":
            self._upgrade(put, path)
        else:
            accept(self._disk, put, path, self._layout.blob(put.sha256), mode=0o400)
        return ({"stored": True},)

    def _upgrade(self, put: Put, received: str) -> None:
        """Take another agent: try it, make it the current one, restart the supervisor, become it."""
        path = self._layout.path("agent", f"{put.sha256}.pyz")
        accept(self._disk, put, received, path)
        code, said = run(agent_argv(path, "version"), b"", 60.0)
        if code != 0:
            self._disk.remove(path)
            raise AgentError(f"the new agent does not run on this device: {said[-300:]!r}", "unfit")
        self._supervisor.stop()
        self._disk.link(os.path.basename(path), self._layout.agent_current)
        Supervisor(self._layout, self._disk, path).ensure().close()
        self._replace = path

    def _become(self, app: str) -> None:
        """Go on as another agent, on the same channel; no byte of the host's was read ahead."""
        self._unlock()
        argv = agent_argv(app, "rpc", "--root", self._layout.root)
        os.execv(argv[0], argv)  # noqa: S606  a list, no shell

    # ── asking the supervisor ────────────────────────────────────────────────────────────────────────────────────────

    def op_switch(self, request: Json) -> tuple[Json]:
        """Install what was staged; afterwards nothing unneeded is left."""
        self._hold()
        try:
            return (self._supervisor.ask(self._staged(request, "op", "manifest", "sha256"), self._emit),)
        finally:
            with contextlib.suppress(AgentError):
                sweep(self._layout, self._disk, Slots(self._layout, self._disk).journal)

    def op_trial(self, request: Json) -> tuple[Json]:
        """Time what was staged beside what serves. It stays staged: the next trial shares its runtime library."""
        self._hold()
        keys = ("op", "manifest", "sha256", "runs", "warmup", "max_seconds")
        return (self._supervisor.ask(self._staged(request, *keys), self._emit),)

    def op_sweep(self, _request: Json) -> tuple[Json]:
        """Remove what was staged and not installed."""
        self._hold()
        sweep(self._layout, self._disk, Slots(self._layout, self._disk).journal)
        return ({},)

    def _staged(self, request: Json, *keys: str) -> dict[str, Any]:
        """These fields of a request about a staged release, with the host's clock as it is now."""
        fields = {key: request[key] for key in keys if key in request}
        if self._host_clock is not None:
            host, then = self._host_clock
            fields["host_clock"] = host + time.monotonic() - then
        return fields

    def op_status(self, request: Json) -> tuple[Json]:
        """How it goes."""
        return (self._supervisor.ask(request, self._emit),)

    def op_bench(self, request: Json) -> tuple[Json]:
        """Time the served model."""
        return (self._supervisor.ask(request, self._emit),)

    def op_telemetry(self, request: Json) -> tuple[Json]:
        """Windows, or forget what was read."""
        return (self._supervisor.ask(request, self._emit),)

    def op_stop(self, _request: Json) -> tuple[Json]:
        """End the supervisor."""
        self._supervisor.stop()
        return ({},)

    def op_http(self, request: Json) -> tuple[Json, bytes]:
        """Pass a request on to the served model, through the same front as everybody's."""
        import http.client

        body = b"".join(self._chunks(MAX_BODY))
        headers = {str(key): str(value) for key, value in need(request, "headers", dict).items()}
        self._supervisor.ensure().close()
        connection = http.client.HTTPConnection("localhost", timeout=120)
        try:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(120)
            connection.sock.connect(self._layout.serve_socket())
            connection.request(need(request, "method", str), need(request, "path", str), body, headers)
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise AgentError(f"the served model did not answer: {error!r:.200}", "worker") from error
        finally:
            connection.close()
        return {"status": answer.status, "headers": {k.lower(): v for k, v in answer.getheaders()}}, data


def serve(layout: Layout, disk: Disk, app: str) -> int:
    """Serve one connection on standard input and output."""
    for number in (signal.SIGINT, signal.SIGHUP):  # a hang-up ends it even under nohup, and without a traceback
        signal.signal(number, signal.SIG_DFL)
    os.umask(0o077)
    for folder in layout.folders:
        disk.mkdir(folder)
    return Rpc(layout, disk, app, Channel(0, 1)).serve()
