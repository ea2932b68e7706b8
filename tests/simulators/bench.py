"""Benchmark records made from a seed, a worker and an agent that answer `bench` from a list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgeship.bench.record import (
    Conditions,
    Identity,
    Memory,
    Place,
    Protocol,
    Quality,
    Record,
    Software,
)
from edgeship.runtime.wire import json_frame, read_json


def latencies(n: int = 512, *, median: float = 100.0, seed: int = 1) -> list[float]:
    """Steady latencies in µs, skewed to the right as real ones are."""
    skew = np.random.default_rng(seed).gamma(2.0, 1.0, n)
    return [float(v) for v in median * (0.95 + 0.03 * skew)]


def record(name: str = "pi", *, samples: Sequence[float] | None = None, **changes: Any) -> Record:
    """A record without anything to warn of; `changes` replace its fields."""
    runs = tuple(latencies() if samples is None else samples)
    whole = Record(
        created="2026-11-22T10:30:00Z",
        identity=Identity("digits", "tflite", "int8", "ab" * 32, 113_456, 3, "cd" * 32),
        place=Place(
            name, "raspberry-pi-5", "Raspberry Pi 5", "aarch64", "Cortex-A76", 4, 8_000_000_000, "6.12", "Debian 12"
        ),
        software=Software("0.1.0", "ef" * 32, "litert-2.3.0", "12" * 32, 4),
        protocol=Protocol(len(runs), 32, 30.0, threads=4),
        latencies_us=runs,
        memory=Memory(16_100_000, 17_500_000),
        cpu_seconds=sum(runs) / 1e6,
        load_us=6000.0,
        first_us=900.0,
        before=Conditions(load1=0.2, temperature_celsius=51.0),
        after=Conditions(load1=0.4, temperature_celsius=54.0),
        quality=Quality("top1", 0.984, 0.983, 1000, (-0.4, 0.6)),
    )
    return replace(whole, **changes)


class FakeWorker:
    """Answers `bench` with the samples given and remembers what it was asked."""

    def __init__(self, samples: Sequence[float], **changes: Any) -> None:
        self.answer: dict[str, Any] = {
            "latencies_us": list(samples), "warmup": 32, "pss_bytes": 16_000_000, "rss_bytes": 17_000_000,
            "cpu_seconds": 0.06, **changes,
        }  # fmt: skip
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, op: str, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        self.asked.append((op, dict(fields)))
        return self.answer


# ── a device ─────────────────────────────────────────────────────────────────────────────────────────────────────────

FACTS = {
    "arch": "aarch64", "python": "3.11.2", "libc": ["glibc", "2.36"], "ctypes": True, "lzma": True, "libstdcxx": True,
    "disk_free_bytes": 1 << 30, "cores": 4, "memory_bytes": 8 << 30, "kernel": "6.12", "os": "Debian 12",
    "board": "Raspberry Pi 5",
}  # fmt: skip
HELLO = {
    "protocol": 1, "agent": "0.1.0", "agent_sha256": "ef" * 32, "enrolled": True, "root_sha256": None, "name": "pi",
    "clock_skew_seconds": 0.0,
}  # fmt: skip
STATUS = {"model": "digits", "counter": 3, "format": "tflite", "precision": "int8",
          "sensors": {"load": 0.4, "temperature_celsius": 51.5}}  # fmt: skip
BENCH = {"latencies_us": latencies(100), "warmup": 32, "pss_bytes": 16_000_000, "rss_bytes": 17_000_000,
         "cpu_seconds": 0.0105}  # fmt: skip


class Agent:
    """A byte stream with an agent behind it that answers from a table."""

    def __init__(self, **answers: Mapping[str, Any]) -> None:
        self.answers = {"hello": HELLO, "facts": FACTS, "status": STATUS, "bench": BENCH, **answers}
        self.asked: list[dict[str, Any]] = []
        self._out = bytearray()

    def write(self, data: bytes) -> None:
        view = memoryview(data)

        def read(n: int) -> bytes:
            nonlocal view
            part, view = bytes(view[:n]), view[n:]
            return part

        request = read_json(read)
        assert request is not None
        self.asked.append(request)
        self._out += json_frame({"id": request["id"], "ok": True, "result": dict(self.answers[request["op"]])})

    def read(self, n: int) -> bytes:
        part = bytes(self._out[:n])
        del self._out[:n]
        return part

    def close(self) -> None:
        pass
