"""A device in memory: the agent's side of the protocol over a stream that never touches a process or a network.

board = Board()
monkeypatch.setattr("edgeship.deploy.contact.connect", lambda *_, **__: board.transport())
board.cut_after = 5_000      # the connection breaks once, after that many bytes from the host
board.refuse["switch"] = ("rolled-back", "agreement 0.1")
"""

from __future__ import annotations

import base64
import hashlib
import lzma
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeship.deploy.endpoint import NO_AGENT, STARTER
from edgeship.deploy.transport import Ended
from edgeship.errors import UnreachableError
from edgeship.runtime.wire import KIND_DATA, KIND_END, KIND_JSON, data_frames, json_frame, parse_object

FACTS: dict[str, Any] = {
    "arch": "aarch64", "machine": "aarch64", "kernel": "6.6", "os": "Raspberry Pi OS", "libc": ["glibc", "2.36"],
    "python": "3.11.2", "ctypes": True, "lzma": True, "libstdcxx": True, "cores": 4, "memory_bytes": 8 << 30,
    "disk_free_bytes": 8 << 30, "disk_total_bytes": 32 << 30, "inodes_free": 100_000, "init": "systemd",
    "hostname": "pi", "boot_id": "b", "board": "Raspberry Pi 5", "clock": 0.0,
}  # fmt: skip


@dataclass
class Board:
    """What the device is and remembers, what shall go wrong with it, and what was seen."""

    facts: dict[str, Any] = field(default_factory=lambda: dict(FACTS))
    installed: str | None = None  # sha256 of its agent
    version: str = "0.1.0"
    protocol: int = 1
    skew: float = 0.0
    root: bytes | None = None
    config: dict[str, Any] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    partial: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    incoming: dict[str, bytes] = field(default_factory=dict)
    serving: tuple[str, str] | None = None
    switches: int = 0

    cuts: list[int] = field(default_factory=list)  # the connection breaks after so many bytes of the host; one by one
    cut_in_switch: int = 0  # so many times it breaks when a switch is asked for
    dead: bool = False  # nothing answers any more
    dies_after: int = -1  # nothing answers after so many connections
    refuse: dict[str, tuple[str, str]] = field(default_factory=dict)  # operation -> error
    busy: int = 0  # so many files are refused because another push is under way
    exits: tuple[int, str] | None = None  # the process ends at once, with this status and standard error
    raw_answers: list[bytes] = field(default_factory=list)  # bytes that come instead of the next answers
    results: dict[str, dict[str, Any]] = field(default_factory=dict)  # operation -> another result

    commands: list[tuple[str, ...]] = field(default_factory=list)
    operations: list[str] = field(default_factory=list)
    puts: list[dict[str, Any]] = field(default_factory=list)
    connections: int = 0

    def transport(self) -> BoardTransport:
        """A connection to it. Raises as `connect` does where it is dead."""
        if self.dead or self.connections == self.dies_after:
            raise UnreachableError("pi: nothing answers", device="pi", stage="connect")
        self.connections += 1
        return BoardTransport(self)


class BoardTransport:
    """Opens the agent of a board."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self.closed = False

    def open(self, argv: Sequence[str]) -> BoardStream:
        """Start its agent, or its loader."""
        self._board.commands.append(tuple(argv))
        return BoardStream(self._board, loader=STARTER not in argv)

    def close(self) -> None:
        """Nothing more comes."""
        self.closed = True


class BoardStream:
    """Standard input and output of the agent."""

    def __init__(self, board: Board, *, loader: bool) -> None:
        self._board, self._input, self._output = board, b"", b""
        self._header, self._loading = loader, 0
        self._broken = False
        self._request: dict[str, Any] | None = None
        self._data: list[bytes] = []
        self._status: tuple[int | None, str] = (None, "")
        if board.exits is not None:
            self._status = board.exits
        elif not loader and board.installed is None:
            self._status = (NO_AGENT, "")

    def read(self, n: int) -> bytes:
        """What the agent answered."""
        if self._broken:
            raise ConnectionResetError("the connection was lost")
        if not self._output and self._status[0] is None:
            raise TimeoutError("the agent said nothing")
        out, self._output = self._output[:n], self._output[n:]
        return out

    def write(self, data: bytes) -> None:
        """Take what the host says and answer it at once."""
        if self._broken:
            raise ConnectionResetError("the connection was lost")
        if self._status[0] is not None:
            raise BrokenPipeError("the process on the device takes no more data")
        if self._board.cuts:
            if len(data) >= self._board.cuts[0]:
                self._input += data[: self._board.cuts.pop(0)]
                self._take()
                self._keep()
                self._broken = True
                raise ConnectionResetError("the connection was lost")
            self._board.cuts[0] -= len(data)
        self._input += data
        self._take()

    def ended(self) -> Ended:
        """Exit status and last words."""
        status, text = self._status
        return Ended(status, tuple(text.splitlines()))

    def close(self) -> None:
        """The host hangs up: what came of a file is kept."""
        self._keep()

    def _take(self) -> None:
        if self._header and b"\n" in self._input:
            line, self._input = self._input.split(b"\n", 1)
            self._header, self._loading = False, int(line.split()[-1])
        if self._loading and len(self._input) >= self._loading:
            app, self._input = self._input[: self._loading], self._input[self._loading :]
            self._board.installed, self._loading = hashlib.sha256(app).hexdigest(), 0
        while not self._header and not self._loading and len(self._input) >= 5:
            size = int.from_bytes(self._input[1:5], "big")
            if len(self._input) < 5 + size:
                return
            kind, payload = self._input[:1], self._input[5 : 5 + size]
            self._input = self._input[5 + size :]
            self._frame(kind, payload)

    def _frame(self, kind: bytes, payload: bytes) -> None:
        if kind == KIND_JSON:
            self._request, self._data = parse_object(payload), []
            self._board.operations.append(self._request["op"])
            if self._request["op"] not in ("put", "http"):
                self._answer(b"")
        elif kind == KIND_DATA:
            self._data.append(payload)
        elif kind == KIND_END:
            self._answer(b"".join(self._data))

    def _answer(self, data: bytes) -> None:
        assert self._request is not None
        request, self._request = self._request, None
        number, op = request["id"], request["op"]
        if self._board.raw_answers:
            self._output += self._board.raw_answers.pop(0)
            return
        if op == "switch" and self._board.cut_in_switch:
            self._board.cut_in_switch -= 1
            self._broken = True
            return
        if op == "put" and self._board.busy:
            self._board.busy -= 1
            error = {"code": "busy", "message": "another push is under way"}
            self._output += json_frame({"id": number, "ok": False, "error": error})
            return
        if op in self._board.refuse:
            code, message = self._board.refuse[op]
            self._output += json_frame({"id": number, "ok": False, "error": {"code": code, "message": message}})
            return
        result = getattr(self, f"_op_{op}")(request, data)
        body = result.pop("__data__", None)
        result = self._board.results.get(op, result) | ({"data": True} if body is not None else {})
        self._output += json_frame({"id": number, "ok": True, "result": result})
        if body is not None:
            self._output += b"".join(data_frames(body))

    def _keep(self) -> None:
        """A file that is cut stays as far as it came: whole frames, and the part of the last one."""
        if self._request is None or self._request["op"] != "put" or self._request["kind"] != "blob":
            return
        tail = self._input[5:] if self._input[:1] == KIND_DATA else b""
        sha, encoding, offset = self._request["sha256"], self._request["encoding"], self._request["offset"]
        before = self._board.partial.get(sha, (encoding, b""))[1][:offset]
        self._board.partial[sha] = (encoding, before + b"".join(self._data) + tail)
        self._request = None

    # ── operations ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _op_hello(self, _request: dict[str, Any], _data: bytes) -> dict[str, Any]:
        board = self._board
        return {
            "protocol": board.protocol, "agent": board.version, "agent_sha256": board.installed,
            "enrolled": board.root is not None, "name": board.config.get("name", ""), "clock": time.time(),
            "root_sha256": None if board.root is None else hashlib.sha256(board.root).hexdigest(),
            "clock_skew_seconds": board.skew,
        }  # fmt: skip

    def _op_facts(self, _request: dict[str, Any], _data: bytes) -> dict[str, Any]:
        return {**self._board.facts, "arch": self._board.config.get("arch") or self._board.facts["arch"]}

    def _op_enroll(self, request: dict[str, Any], _data: bytes) -> dict[str, Any]:
        self._board.root = base64.b64decode(request["root"])
        self._board.config |= {"name": request["name"], "profile": request["profile"]}
        return {}

    def _op_configure(self, request: dict[str, Any], _data: bytes) -> dict[str, Any]:
        self._board.config |= {key: value for key, value in request.items() if key not in ("id", "op")}
        return {}

    def _op_have(self, request: dict[str, Any], _data: bytes) -> dict[str, Any]:
        wanted = [blob["sha256"] for blob in request["blobs"]]
        partial = {
            sha: {"encoding": self._board.partial[sha][0], "bytes": len(self._board.partial[sha][1])}
            for sha in wanted if sha in self._board.partial
        }  # fmt: skip
        present = [sha for sha in wanted if sha in self._board.blobs]
        return {"present": present, "partial": partial, "disk_free_bytes": self._board.facts["disk_free_bytes"]}

    def _op_put(self, request: dict[str, Any], data: bytes) -> dict[str, Any]:
        self._board.puts.append({key: value for key, value in request.items() if key not in ("id", "op")})
        sha = request["sha256"]
        _, before = self._board.partial.pop(sha, ("", b""))
        whole = before[: request["offset"]] + data
        assert len(whole) == request["encoded_bytes"]
        decoded = lzma.decompress(whole) if request["encoding"] == "xz" else whole
        assert hashlib.sha256(decoded).hexdigest() == sha
        assert len(decoded) == request["bytes"]
        if request["kind"] == "agent":
            self._board.installed, self._board.version = sha, "0.1.0"
        elif request["kind"] == "metadata":
            self._board.incoming[request["name"]] = decoded
        else:
            self._board.blobs[sha] = decoded
        return {"stored": True}

    def _op_switch(self, request: dict[str, Any], _data: bytes) -> dict[str, Any]:
        for stage in ("verify", "start", "probe", "switch"):
            self._output += json_frame({"id": request["id"], "event": {"stage": stage, "text": stage}})
        assert request["sha256"] in self._board.blobs
        self._board.serving = (request["manifest"], request["sha256"])
        self._board.switches += 1
        return {"slot": "1-x", "counter": 1, "model": "digits", "probe": {"agreement": 1.0}, "seconds": 0.1}

    def _op_logs(self, _request: dict[str, Any], _data: bytes) -> dict[str, Any]:
        return {"lines": ["a line of the log", "\x1b[31mred"]}

    def _op_http(self, _request: dict[str, Any], data: bytes) -> dict[str, Any]:
        return {"status": 200, "headers": {}, "__data__": data[::-1]}
