"""Server processor time per request: the agent (front + worker) beside FastAPI + uvicorn around ai-edge-litert.

    python benchmarks/serve_cpu.py [--requests 2000] [--rounds 5] [--json FILE]

Same TFLite int8 model, same requests over a Unix socket with keep-alive, one client, in one run; the servers take turns
in rounds, so that a busy machine harms both. Time is what the kernel's scheduler gave to every thread of the servers'
processes (/proc/PID/task/*/schedstat), and nothing of the client's. Three requests are measured: `binary` (raw int8 in,
raw int8 out: the binary tensor extension there, request.body() and numpy here), `json` (numbers as JSON, FP32), and
`live` (the health check: the front ends alone).
"""

from __future__ import annotations

import argparse
import json
import platform
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from edgeship.runtime.channel import Messages  # noqa: E402 - the path is set above, for a plain checkout
from edgeship.runtime.manifest import VariantRef  # noqa: E402
from edgeship.runtime.wire import json_frame  # noqa: E402

WORKER = """
import sys
sys.path.insert(0, sys.argv[3])
from edgeship.runtime.worker import main
sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
"""
PEER = Path(__file__).with_name("serve_cpu_peer.py")


@dataclass(frozen=True)
class Server:
    """One server under test."""

    name: str
    path: str
    pids: list[int]
    requests: dict[str, bytes]

    def cpu_ns(self) -> int:
        """Processor time that its threads have had."""
        tasks = [task for pid in self.pids for task in Path(f"/proc/{pid}/task").iterdir()]
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)

    def pss_mb(self) -> float:
        """Memory of all its processes."""
        rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in self.pids]
        return sum(int(r.partition("\nPss:")[2].split()[0]) for r in rollups) / 1024


# ── the agent ────────────────────────────────────────────────────────────────────────────────────────────────────────


def serve_agent(path: str, load: dict[str, Any]) -> None:
    """Be the supervisor as far as serving goes: a worker, a front, the loop."""
    from edgeship.runtime.serve import Front

    control, far_control = socket.socketpair()
    serve, far_serve = socket.socketpair()
    descriptors = [far_control.fileno(), far_serve.fileno()]
    worker = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", WORKER, *map(str, descriptors), str(ROOT)], pass_fds=descriptors
    )
    far_control.close()
    far_serve.close()
    control.sendall(json_frame({"id": 1, "op": "load", **load}))
    answer, _ = next(Messages(json.loads, lambda _message: False, 0).feed(control.recv(1 << 16)))
    if not answer["ok"]:
        raise SystemExit(str(answer))
    selector = selectors.DefaultSelector()
    front = Front(selector, lambda _answered: None, lambda: None)
    front.attach(serve)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(16)
    front.listen(listener)
    print(worker.pid, flush=True)
    while True:
        for key, mask in selector.select(1):
            key.data(mask)
        front.tick(time.monotonic())


def agent_requests(variant: VariantRef, values: list[float], raw: bytes) -> dict[str, bytes]:
    """The requests in the Open Inference Protocol."""
    spec, output = variant.inputs[0], variant.outputs[0]
    tensor = {"name": spec.name, "shape": list(spec.shape)}
    head = json.dumps({
        "inputs": [{**tensor, "datatype": "INT8", "parameters": {"binary_data_size": len(raw)}}],
        "outputs": [{"name": output.name, "parameters": {"binary_data": True}}],
    }).encode()  # fmt: skip
    body = json.dumps({"inputs": [{**tensor, "datatype": "FP32", "data": values}]}).encode()
    target = "/v2/models/digits/infer"
    return {
        "binary": _post(target, head + raw, f"Inference-Header-Content-Length: {len(head)}\r\n"),
        "json": _post(target, body),
        "live": b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n",
    }


# ── the peer ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def peer_requests(values: list[float], raw: bytes) -> dict[str, bytes]:
    """The same requests for the peer."""
    return {
        "binary": _post("/binary", raw, "Content-Type: application/octet-stream\r\n"),
        "json": _post("/json", json.dumps({"data": values}).encode(), "Content-Type: application/json\r\n"),
        "live": b"GET /live HTTP/1.1\r\nHost: x\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n",
    }


# ── the client ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _post(target: str, body: bytes, headers: str = "") -> bytes:
    head = f"POST {target} HTTP/1.1\r\nHost: x\r\nUser-Agent: bench\r\nAccept: */*\r\n{headers}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def connect(path: str, seconds: float = 60) -> socket.socket:
    """A connection to a server that may still be starting."""
    until = time.monotonic() + seconds
    while True:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(path)
            return sock
        except OSError:
            sock.close()
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def ask(sock: socket.socket, request: bytes) -> bytes:
    """One request and its whole answer: the body."""
    sock.sendall(request)
    got = b""
    while b"\r\n\r\n" not in got:
        got += sock.recv(1 << 16)
    head, _, body = got.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"the server said {head[:200]!r} {body[:200]!r}")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += sock.recv(1 << 16)
    return body


@contextmanager
def running(arguments: list[str], path: str, name: str, requests: dict[str, bytes]) -> Iterator[Server]:
    """A server as child processes."""
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        first = int(process.stdout.readline())
        yield Server(name, path, sorted({process.pid, first}), requests)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def measure(servers: list[Server], requests: int, rounds: int) -> dict[str, dict[str, float]]:
    """Median over the rounds of processor microseconds a request: kind -> server -> µs."""
    kinds, found = list(servers[0].requests), dict[tuple[str, str], list[float]]()
    connections = [connect(server.path) for server in servers]
    for server, sock in zip(servers, connections, strict=True):
        for kind in kinds:
            for _ in range(200):
                ask(sock, server.requests[kind])
    for _ in range(rounds):
        for kind in kinds:
            for server, sock in zip(servers, connections, strict=True):
                start = server.cpu_ns()
                for _ in range(requests):
                    ask(sock, server.requests[kind])
                found.setdefault((kind, server.name), []).append((server.cpu_ns() - start) / requests / 1000)
    for sock in connections:
        sock.close()
    return {kind: {s.name: statistics.median(found[kind, s.name]) for s in servers} for kind in kinds}


def check_answers(servers: list[Server]) -> None:
    """Both must answer the same, or the comparison is worth nothing."""
    answers = []
    for server in servers:
        with connect(server.path) as sock:
            binary = ask(sock, server.requests["binary"])[-10:]
            data = json.loads(ask(sock, server.requests["json"]))
            answers.append((binary, data["data"] if "data" in data else data["outputs"][0]["data"]))
    if answers[0] != answers[1]:
        raise SystemExit(f"the servers disagree: {answers}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1000, help="a round, kind and server")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the results here too")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)  # PATH and what to load: be the agent
    options = parser.parse_args()
    if options.serve:
        serve_agent(options.serve[0], json.loads(options.serve[1]))
    from tests.simulators.models import library, samples, sha256, tiny_tflite, variant_ref

    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        tiny = tiny_tflite(here / "digits.tflite", "int8")
        variant, runtime = variant_ref(tiny, here / "golden"), library("tflite")
        load = {
            "variant": variant.encode(), "model": str(tiny.path), "library": str(runtime),
            "library_sha256": sha256(runtime), "golden": str(here / "golden"), "name": "digits", "version": "1",
        }  # fmt: skip
        x = samples(1)[0]
        raw, values = tiny.quantize(x), x.ravel().tolist()
        agent, peer = str(here / "agent.sock"), str(here / "peer.sock")
        with (
            running([__file__, "--serve", agent, json.dumps(load)], agent, "edgeship agent",
                    agent_requests(variant, values, raw)) as ours,
            running([str(PEER), peer, str(tiny.path)], peer, "FastAPI + uvicorn", peer_requests(values, raw)) as theirs,
        ):  # fmt: skip
            connect(peer).close()
            check_answers([ours, theirs])
            found = measure([ours, theirs], options.requests, options.rounds)
            memory = {server.name: round(server.pss_mb(), 1) for server in (ours, theirs)}
    report(found, memory, [ours.name, theirs.name], options.json)


def report(found: dict[str, dict[str, float]], memory: dict[str, float], names: list[str], path: Path | None) -> None:
    """Print the table, write the JSON."""
    ours, theirs = names
    ratios = {kind: round(times[ours] / times[theirs], 3) for kind, times in found.items()}
    print(f"server processor time a request, µs, {platform.machine()}, Python {platform.python_version()}")
    print(f"{'':8}{ours:>20}{theirs:>20}{'ratio':>8}")
    for kind, times in found.items():
        print(f"{kind:8}{times[ours]:>20.1f}{times[theirs]:>20.1f}{ratios[kind]:>8.2f}")
    print(f"{'PSS MB':8}{memory[ours]:>20.1f}{memory[theirs]:>20.1f}{memory[ours] / memory[theirs]:>8.2f}")
    if path is not None:
        rounded = {kind: {name: round(us, 2) for name, us in times.items()} for kind, times in found.items()}
        result = {"cpu_us": rounded, "ratio": ratios, "pss_mb": memory}
        path.write_text(json.dumps({"schema": "edgeship.benchmark.serve_cpu/v1", "data": result}, indent=2) + "\n")


if __name__ == "__main__":
    main()
