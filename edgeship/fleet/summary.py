"""What is known of an interval of time: counters, histograms, sensors; mergeable over windows, devices and time.

Everything bounded: a device may invent class names and sensors, the sum over its windows stays small.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeship.fleet.histogram import CAP, Histogram
from edgeship.fleet.packing import compress
from edgeship.fleet.timeline import Placed

MAX_CLASSES = 2000
OTHER = "(other)"  # where classes beyond the limit are counted
MAX_SENSORS = 128
BINS = 20  # of confidence, over [0, 1]

#: Columns of a roll-up in the order of `Summary.merge_columns`; the lean ones are read several times faster.
LEAN = ("first", "last", "windows", "seconds", "ok", "failed", "refused", "restarts", "latency")
COLUMNS = (*LEAN, "compute", "detail")

_encode = json.JSONEncoder(separators=(",", ":")).encode

#: Events that count as a restart of the worker.
RESTARTS = ("worker-exit",)


@dataclass
class Reading:
    """One sensor over an interval, in base units."""

    count: int
    total: float
    low: float
    high: float
    last: float
    at: float  # when `last` was read

    @property
    def mean(self) -> float:
        """Mean of the readings."""
        return self.total / self.count

    def encode(self) -> list[float]:
        """To what `decode` takes; a single reading, as most minutes hold, is short."""
        if self.count == 1:
            return [self.last, self.at]
        return [self.count, self.total, self.low, self.high, self.last, self.at]

    @classmethod
    def decode(cls, values: Sequence[float]) -> Reading:
        """The inverse of `encode`."""
        if len(values) == 2:
            value, at = values
            return cls(1, value, value, value, value, at)
        count, total, low, high, last, at = values
        return cls(int(count), total, low, high, last, at)

    def merge(self, other: Reading) -> None:
        """Add the readings of another interval."""
        self.count += other.count
        self.total += other.total
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        if other.at >= self.at:
            self.last, self.at = other.last, other.at


@dataclass
class Summary:
    """One interval of one device, one release, or a whole fleet."""

    first: float = math.inf  # start of the earliest window, host axis
    last: float = -math.inf  # end of the latest window
    windows: int = 0
    seconds: float = 0.0  # device-seconds covered by windows
    ok: int = 0
    failed: int = 0
    refused: int = 0
    restarts: int = 0
    latency: Histogram = field(default_factory=Histogram)
    compute: Histogram = field(default_factory=Histogram)
    classes: dict[str, int] = field(default_factory=dict)
    confidence: list[int] = field(default_factory=lambda: [0] * BINS)
    sensors: dict[str, Reading] = field(default_factory=dict)

    @classmethod
    def of(cls, parts: Iterable[Summary]) -> Summary:
        """The sum of several intervals."""
        whole = cls()
        for part in parts:
            whole.merge(part)
        return whole

    @property
    def requests(self) -> int:
        """Requests of any outcome."""
        return self.ok + self.failed + self.refused

    @property
    def error_ratio(self) -> float | None:
        """Share of valid requests that ended in an error of ours; None without any."""
        valid = self.ok + self.failed
        return self.failed / valid if valid else None

    @property
    def samples(self) -> int:
        """Answers with a confidence."""
        return sum(self.confidence)

    @property
    def mean_confidence(self) -> float | None:
        """Mean of the winning score from its bins (each bin counts as its middle); None without samples."""
        if not self.samples:
            return None
        return sum(n * (i + 0.5) / BINS for i, n in enumerate(self.confidence)) / self.samples

    def rate(self) -> float | None:
        """Answered requests a second over the time from the first to the last window; None without a window."""
        return self.ok / (self.last - self.first) if self.last > self.first else None

    def add(self, placed: Placed) -> None:
        """Add a window."""
        window = placed.window
        self.first, self.last = min(self.first, placed.start), max(self.last, placed.end)
        self.windows += 1
        self.seconds += placed.end - placed.start
        self.ok += window.ok
        self.failed += window.failed
        self.refused += window.refused
        self.restarts += sum(event["kind"] in RESTARTS for event in window.events)
        if window.latency:
            self.latency.add(window.latency)
        if window.compute:
            self.compute.add(window.compute)
        self._add_classes(window.classes)
        for index, count in enumerate(window.confidence):
            self.confidence[index] += count
        for name, value in window.sensors.items():
            self._add_reading(name, Reading(1, value, value, value, value, placed.end))

    def merge(self, other: Summary) -> None:
        """Add another interval."""
        self._merge_scalars(
            other.first, other.last, other.windows, other.seconds, other.ok, other.failed, other.refused, other.restarts
        )
        self.latency.merge(other.latency)
        self.compute.merge(other.compute)
        self._add_classes(other.classes)
        if other.samples:
            self.confidence = [a + b for a, b in zip(self.confidence, other.confidence, strict=True)]
        for name, reading in other.sensors.items():
            self._add_reading(name, Reading(**vars(reading)))

    def _merge_scalars(
        self, first: float, last: float, windows: int, seconds: float, ok: int, failed: int, refused: int, restarts: int
    ) -> None:
        if first < self.first:
            self.first = first
        if last > self.last:
            self.last = last
        self.windows += windows
        self.seconds += seconds
        self.ok += ok
        self.failed += failed
        self.refused += refused
        self.restarts += restarts

    def _add_classes(self, classes: Mapping[str, int]) -> None:
        mine = self.classes
        for name, count in classes.items():
            known = name if name in mine or len(mine) < MAX_CLASSES else OTHER
            mine[known] = mine.get(known, 0) + count

    def _add_reading(self, name: str, reading: Reading) -> None:
        if name in self.sensors:
            self.sensors[name].merge(reading)
        elif len(self.sensors) < MAX_SENSORS:
            self.sensors[name] = reading

    # ── the database's form ──────────────────────────────────────────────────────────────────────────────────────────

    def columns(self) -> dict[str, Any]:
        """The columns of a roll-up, `COLUMNS`."""
        return {
            "first": self.first, "last": self.last, "windows": self.windows, "seconds": self.seconds,
            "ok": min(self.ok, CAP), "failed": min(self.failed, CAP), "refused": min(self.refused, CAP),
            "restarts": self.restarts, "latency": self.latency.pack(), "compute": self.compute.pack(),
            "detail": self._pack_detail(),
        }  # fmt: skip

    def merge_columns(self, values: Sequence[Any]) -> None:
        """Add a roll-up: the values of `COLUMNS`, or of `LEAN` alone, in that order."""
        self._merge_scalars(*values[:8])
        self.latency.merge_packed(values[8])
        if len(values) == len(LEAN):
            return
        self.compute.merge_packed(values[9])
        if values[10]:
            data = json.loads(zlib.decompress(values[10]))
            self._add_classes(data["classes"])
            for index, count in enumerate(data["confidence"]):
                self.confidence[index] += count
            for name, reading in data["sensors"].items():
                self._add_reading(name, Reading.decode(reading))

    def _pack_detail(self) -> bytes:
        if not (self.classes or self.samples or self.sensors):
            return b""
        data = {
            "classes": {name: min(count, CAP) for name, count in self.classes.items()},
            "confidence": [min(count, CAP) for count in self.confidence] if self.samples else [],
            "sensors": {name: reading.encode() for name, reading in self.sensors.items()},
        }
        return compress(_encode(data).encode())
