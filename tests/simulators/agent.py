"""A device for tests: a folder, the real agent started in it as child processes, and a host that speaks frames.

    device = SimulatedDevice(tmp_path / "device", development_app(tmp_path))
    with device.connect() as host:
        host.ask("hello", protocol=1, clock=time.time())
        host.push(repo, release)
    device.kill()                     # a power cut: every process of it ends at once
    device.stop()                     # in order

`development_app` is the agent as a folder instead of a zipapp, so that coverage sees which lines ran.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import lzma
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import edgeship.runtime
from edgeship.deploy.zipapp import MAIN
from edgeship.runtime.layout import Layout
from edgeship.runtime.wire import PROTOCOL, data_frames, json_frame, read_data, read_json
from tests.simulators import models
from tests.simulators.repository import SimulatedRelease, SimulatedRepository

PROFILE = "generic-x86-64"
RUNTIME = Path(next(iter(edgeship.runtime.__path__))).resolve()


class Refused(Exception):
    """The agent said no."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


def add_tiny_release(
    repo: SimulatedRepository, folder: Path, *, counter: int = 1, format: str = "tflite", bad: bool = False,  # noqa: A002
    threads: int = 1, **variant: Any,
) -> SimulatedRelease:  # fmt: skip
    """Put a release of the tiny classifier into a repository and publish it; `bad` fails its probe."""
    make = {"tflite": models.tiny_tflite, "onnx": models.tiny_onnx}[format]
    stem = f"{format}-{'bad' if bad else 'good'}-{counter}"
    tiny = make(folder / f"{stem}.{format}", bad=bad)
    golden = folder / f"{stem}.golden"
    ref = models.variant_ref(tiny, golden, profiles=(PROFILE,), threads=threads, **variant)
    paths = (tiny.path, golden, models.library(format))
    release = repo.add(ref, {models.sha256(path): path.read_bytes() for path in paths}, counter=counter)
    repo.publish()
    return release


def tiny_request(index: int = 0) -> tuple[bytes, int]:
    """Body of an inference request for the tiny classifier, and the class that is right."""
    x, labels = models.samples(index + 1)
    tensor = {"name": "image", "datatype": "FP32", "shape": [1, 8, 8, 1], "data": x[index].reshape(-1).tolist()}
    return json.dumps({"inputs": [tensor]}).encode(), int(labels[index])


def answered_class(body: bytes) -> int:
    """The class that an inference answer says."""
    scores = json.loads(body)["outputs"][0]["data"]
    return int(max(range(len(scores)), key=scores.__getitem__))


def development_app(folder: Path, main: str = MAIN) -> Path:
    """The agent as a folder that Python can run, linked to the sources; `main` is its `__main__.py`."""
    app = folder / "app"
    (app / "edgeship").mkdir(parents=True)
    (app / "edgeship" / "__init__.py").write_bytes(b"")
    (app / "edgeship" / "runtime").symlink_to(RUNTIME)
    (app / "__main__.py").write_text(main)
    return app


class Host:
    """One connection to a device's `rpc`."""

    def __init__(self, argv: list[str], *, preface: bytes = b"", environment: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
        self._number = 0
        self.events: list[dict[str, Any]] = []
        self.data = b""
        if preface:
            self.write(preface)

    def write(self, data: bytes) -> None:
        """Raw bytes to the device."""
        assert self.process.stdin is not None
        view = memoryview(data)
        while view:
            view = view[self.process.stdin.write(view) or 0 :]

    def read(self, n: int) -> bytes:
        """Raw bytes from the device."""
        assert self.process.stdout is not None
        return self.process.stdout.read(n) or b""

    def send(self, op: str, data: bytes | None = None, **fields: Any) -> int:
        """A request, without waiting."""
        self._number += 1
        self.write(json_frame({"id": self._number, "op": op, **fields}))
        for part in data_frames(data) if data is not None else ():
            self.write(part)
        return self._number

    def receive(self) -> dict[str, Any]:
        """The next answer; events are kept, data too. Raises Refused."""
        while (answer := read_json(self.read)) is not None:
            if "event" in answer:
                self.events.append(answer["event"])
                continue
            if not answer["ok"]:
                raise Refused(answer["error"]["code"], answer["error"]["message"])
            result: dict[str, Any] = answer["result"]
            self.data = b"".join(read_data(self.read)) if result.get("data") else b""
            return result
        raise EOFError("the agent ended the stream")

    def ask(self, op: str, data: bytes | None = None, **fields: Any) -> dict[str, Any]:
        """A request and its answer. Raises Refused."""
        self.send(op, data, **fields)
        return self.receive()

    # ── what a push does ─────────────────────────────────────────────────────────────────────────────────────────────

    def hello(self) -> dict[str, Any]:
        """Greet."""
        return self.ask("hello", protocol=PROTOCOL, clock=time.time())

    def enroll(self, repo: SimulatedRepository, *, window_seconds: float = 3600.0, **settings: Any) -> None:
        """Enrol as `device` of the generic profile, and configure."""
        root = base64.b64encode(repo.root_bytes).decode()
        self.ask("enroll", name="device", profile=PROFILE, root=root)
        self.ask("configure", window_seconds=window_seconds, **settings)

    def put(self, kind: str, content: bytes, *, name: str = "", encoding: str = "raw", offset: int = 0) -> None:
        """Send a file."""
        encoded = lzma.compress(content) if encoding == "xz" else content
        self.ask(
            "put", encoded[offset:], kind=kind, name=name, sha256=hashlib.sha256(content).hexdigest(),
            bytes=len(content), encoding=encoding, offset=offset, encoded_bytes=len(encoded),
        )  # fmt: skip

    def stage(self, repo: SimulatedRepository) -> None:
        """Send everything that the device has not got."""
        wanted = [{"sha256": sha, "bytes": len(content)} for sha, content in repo.blobs.items()]
        present = set(self.ask("have", blobs=wanted)["present"])
        for sha, content in repo.blobs.items():
            if sha not in present:
                self.put("blob", content)
        for name, content in repo.metadata.items():
            self.put("metadata", content, name=name)

    def switch(self, release: SimulatedRelease) -> dict[str, Any]:
        """Ask for the release."""
        return self.ask("switch", manifest=release.target, sha256=release.sha256)

    def push(self, repo: SimulatedRepository, release: SimulatedRelease) -> dict[str, Any]:
        """Stage and switch."""
        self.stage(repo)
        return self.switch(release)

    def infer(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> int:
        """POST to the served model through the agent; the answer's body is in `data`."""
        answer = self.ask("http", body, method="POST", path=path, headers=dict(headers or {}))
        status: int = answer["status"]
        return status

    def classify(self, index: int = 0) -> bool:
        """Whether the tiny classifier that is served is right on a sample."""
        body, label = tiny_request(index)
        assert self.infer("/v2/models/digits/infer", body) == 200, self.data
        return answered_class(self.data) == label

    def close(self) -> int:
        """Hang up in order; the exit status of `rpc`."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()
            self.process.stdout.close()
            self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class SimulatedDevice:
    """A device's folder and its processes.

    Args:
        root: the agent's folder.
        app: what Python runs: a zipapp, or `development_app`.
        environment: for its processes, beside this one's.
    """

    def __init__(self, root: Path, app: Path, *, environment: Mapping[str, str] | None = None) -> None:
        self.root, self.app, self.environment = root, app, dict(environment or {})
        self.layout = Layout.of(str(root))
        self._supervisor: subprocess.Popen[bytes] | None = None

    def argv(self, *words: str) -> list[str]:
        """The command line of one of its processes."""
        return [sys.executable, "-I", str(self.app), *words]

    def connect(self) -> Host:
        """Log in."""
        return Host(self.argv("rpc", "--root", str(self.root)), environment=self.environment)

    def start(self) -> None:
        """Start the supervisor as its boot hook does, in this process's own group."""
        self._supervisor = subprocess.Popen(
            self.argv("supervise", "--root", str(self.root)), stdin=subprocess.DEVNULL,
            env={**os.environ, **self.environment}, start_new_session=True,
        )  # fmt: skip

    def control(self, op: str, **fields: Any) -> dict[str, Any]:
        """Ask the supervisor itself, once it listens. Raises Refused, EOFError when it died over the request."""
        end = time.monotonic() + 30
        with socket.socket(socket.AF_UNIX) as connection:
            while True:
                try:
                    connection.connect(self.layout.control_socket())
                    break
                except OSError:
                    if self._supervisor is not None and self._supervisor.poll() is not None:
                        raise EOFError("the supervisor died") from None
                    assert time.monotonic() < end, "the supervisor does not listen"
                    time.sleep(0.01)
            try:
                connection.sendall(json_frame({"id": 1, "op": op, **fields}))
                while (answer := read_json(connection.recv)) is not None:
                    if answer.get("ok"):
                        result: dict[str, Any] = answer["result"]
                        return result
                    if "error" in answer:
                        raise Refused(answer["error"]["code"], answer["error"]["message"])
            except ConnectionError:
                pass
        raise EOFError("the supervisor died over the request")

    def classify(self, index: int = 0) -> bool:
        """Whether the tiny classifier that is served is right, asked on the serving socket as any client does."""
        body, label = tiny_request(index)
        self.control("status")  # listens by now
        connection = http.client.HTTPConnection("localhost", timeout=30)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(30)
        connection.sock.connect(self.layout.serve_socket())
        try:
            connection.request("POST", "/v2/models/digits/infer", body)
            answer = connection.getresponse()
            raw = answer.read()
            assert answer.status == 200, raw
            return answered_class(raw) == label
        finally:
            connection.close()

    def processes(self) -> list[int]:
        """Ids of every process that works for this folder, workers too."""
        own: dict[int, int] = {}
        found: set[int] = set()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                if stat[0] == "Z":
                    continue
                own[int(entry.name)] = int(stat[1])
                if os.fsencode(self.layout.root) in words or os.fsencode(self.root) in words:
                    found.add(int(entry.name))
        return sorted(found | {pid for pid, parent in own.items() if parent in found})

    def kill(self) -> None:
        """A power cut."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._wait()

    def stop(self) -> None:
        """Let the supervisor end in order."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        self._wait()

    def _wait(self) -> None:
        if self._supervisor is not None:
            self._supervisor.wait(30)
            self._supervisor = None
        end = time.monotonic() + 30
        while self.processes() and time.monotonic() < end:
            time.sleep(0.02)
        assert not self.processes(), "processes of the device are left"
        shutil.rmtree(self.layout.sockets(), ignore_errors=True)  # a power cut empties /tmp

    def status(self) -> dict[str, Any]:
        """Through a connection of its own."""
        with self.connect() as host:
            return host.ask("status")

    def wait_for(self, state: str, seconds: float = 60.0) -> dict[str, Any]:
        """The status, once it says so."""
        end = time.monotonic() + seconds
        with self.connect() as host:
            while (status := host.ask("status"))["state"] != state:
                assert time.monotonic() < end, f"still {status['state']}: {status['outcome']}"
                time.sleep(0.02)
        return status
