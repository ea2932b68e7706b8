"""One interval of telemetry, and the mergeable latency histogram in it.

A device may lie: `Window.parse` bounds and checks every field before the host stores it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeship.runtime.errors import ProtocolError
from edgeship.runtime.wire import Json, check_name, need, objects

WINDOW_SCHEMA = "edgeship.window/v1"

#: Latency histogram: bucket k counts latencies in microseconds in (GROWTH**(k-1), GROWTH**k]; bucket 0 is ≤ 1 µs.
#: Relative error of a quantile ≤ 1 %; the idea is DDSketch (Masson, Rim, Lee, VLDB 2019). Mergeable by addition.
GROWTH = 1.02
_LOG_GROWTH = math.log(GROWTH)


def bucket_of(microseconds: float) -> int:
    """The histogram bucket of a latency."""
    return 0 if microseconds <= 1 else math.ceil(math.log(microseconds) / _LOG_GROWTH - 1e-9)


def bucket_value(bucket: int) -> float:
    """The latency in microseconds that stands for a bucket: the harmonic middle of its bounds (≤ 1 % off)."""
    return 1.0 if bucket <= 0 else 2 * GROWTH**bucket / (GROWTH + 1)


def quantile(histogram: Mapping[int, int], q: float) -> float | None:
    """The q-quantile (0 to 1) in microseconds of a bucket histogram, None when it is empty (nearest rank)."""
    total = sum(histogram.values())
    if not total:
        return None
    rank = max(1, math.ceil(q * total))
    seen = 0
    for bucket in sorted(histogram):
        seen += histogram[bucket]
        if seen >= rank:
            return bucket_value(bucket)
    raise AssertionError


@dataclass(frozen=True)
class Window:
    """One interval of telemetry of one device.

    (spool, seq) names a window for ever: `spool` is a random id made with the device's spool, `seq` counts from 1
    without gaps. Order and duration come from (boot, mono) and seq, never from the wall clock alone.
    """

    spool: str
    seq: int
    boot: str  # kernel boot id
    mono_start: float  # seconds, CLOCK_BOOTTIME
    mono_end: float
    wall_end: float  # seconds since 1970 as the device believes
    model: str | None = None
    counter: int | None = None  # release counter of what was served
    precision: str | None = None
    ok: int = 0  # answered requests
    failed: int = 0  # requests that ended in an error of ours (5xx)
    refused: int = 0  # bad or oversized requests (4xx)
    latency: Mapping[int, int] = field(default_factory=dict)  # bucket -> count, response time of answered requests
    compute: Mapping[int, int] = field(default_factory=dict)  # bucket -> count, time inside the runtime library
    classes: Mapping[str, int] = field(default_factory=dict)  # predicted class -> count
    confidence: tuple[int, ...] = ()  # 20 bins of the winning score over [0, 1]
    sensors: Mapping[str, float] = field(default_factory=dict)  # see `sensors.py`: base units, e.g. temperature_celsius
    events: tuple[Json, ...] = ()  # {"kind": "worker-exit"|"switch"|"revert"|"boot"|"gap"|…, "text": …}

    def encode(self) -> dict[str, Any]:
        """To what `json.dumps` takes."""
        return {
            "schema": WINDOW_SCHEMA, "spool": self.spool, "seq": self.seq, "boot": self.boot,
            "mono": [self.mono_start, self.mono_end], "wall_end": self.wall_end, "model": self.model,
            "counter": self.counter, "precision": self.precision,
            "requests": {"ok": self.ok, "failed": self.failed, "refused": self.refused},
            "latency": {str(k): v for k, v in self.latency.items()},
            "compute": {str(k): v for k, v in self.compute.items()},
            "classes": dict(self.classes), "confidence": list(self.confidence), "sensors": dict(self.sensors),
            "events": [dict(e) for e in self.events],
        }  # fmt: skip

    @classmethod
    def parse(cls, data: Json) -> Window:
        """From decoded JSON of a device that may lie: every field bounded and checked. Raises ProtocolError."""
        if data.get("schema") != WINDOW_SCHEMA:
            raise ProtocolError(f"not a telemetry window: {data.get('schema')!r:.80}")
        mono, requests = need(data, "mono", list), need(data, "requests", dict)
        if len(mono) != 2:
            raise ProtocolError("'mono' must hold start and end")
        start, end = (_number(m, "mono") for m in mono)
        seq = need(data, "seq", int)
        if not 1 <= seq < 1 << 53 or end < start:
            raise ProtocolError(f"window {seq}: sequence or clock is out of range")
        counts = [need(requests, key, int) for key in ("ok", "failed", "refused")]
        confidence = need(data, "confidence", list)
        if any(not 0 <= n < 1 << 53 for n in counts) or len(confidence) not in (0, 20):
            raise ProtocolError(f"window {seq}: a count is out of range")
        none = type(None)
        model = need(data, "model", (str, none))
        precision = need(data, "precision", (str, none))
        return cls(
            spool=check_name(data.get("spool"), "spool"), seq=seq, boot=check_name(data.get("boot"), "boot"),
            mono_start=start, mono_end=end, wall_end=_number(data.get("wall_end"), "wall_end"),
            model=None if model is None else check_name(model, "model"), counter=need(data, "counter", (int, none)),
            precision=None if precision is None else check_name(precision, "precision"),
            ok=counts[0], failed=counts[1], refused=counts[2],
            latency=_histogram(data, "latency"), compute=_histogram(data, "compute"),
            classes={str(k)[:64]: _count(v) for k, v in _bounded(data, "classes", 1100).items()},
            confidence=tuple(_count(c) for c in confidence),
            sensors={check_name(k, "sensor"): _number(v, k) for k, v in _bounded(data, "sensors", 64).items()},
            events=tuple(_event(e) for e in objects(data, "events")[:64]),
        )  # fmt: skip


def _bounded(data: Json, key: str, most: int) -> dict[str, Any]:
    value: dict[str, Any] = need(data, key, dict)
    if len(value) > most:
        raise ProtocolError(f"{key!r} has {len(value)} entries, at most {most} are allowed")
    return value


def _histogram(data: Json, key: str) -> dict[int, int]:
    out: dict[int, int] = {}
    for bucket, count in _bounded(data, key, 2048).items():
        if not bucket.isascii() or not bucket.isdigit() or len(bucket) > 4:
            raise ProtocolError(f"{key!r}: bucket {bucket!r:.20} is not a small number")
        out[int(bucket)] = _count(count)
    return out


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 53:
        raise ProtocolError(f"a count is out of range: {value!r:.40}")
    return value


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or abs(value) > 1e15:
        raise ProtocolError(f"{what!r:.80} is not a number in range: {value!r:.40}")
    return float(value)


def _event(data: Json) -> dict[str, Any]:
    return {"kind": check_name(data.get("kind"), "event"), "text": str(data.get("text", ""))[:500]}
