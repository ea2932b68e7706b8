"""How a benchmark is run: one protocol for the host and for every device.

The agent's worker does the timing, wherever it runs: it answers `bench` with the raw latencies of single runs in run
order, after the warm-up. This module asks, bounds and checks what comes back (a device may lie), and makes the record.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from edgeship.bench import validity
from edgeship.bench.record import Conditions, Identity, Memory, Place, Protocol, Quality, Record, Software
from edgeship.errors import DeviceError, UsageError
from edgeship.runtime.errors import ProtocolError
from edgeship.runtime.wire import Json, need

MAX_RUNS = 50_000  # their latencies fit one JSON frame
MAX_WARMUP = 10_000
MAX_SECONDS = 600.0

#: Asks a worker for an operation with fields; returns its result.
Ask = Callable[[str, Mapping[str, Any]], Json]


@dataclass(frozen=True)
class BenchOptions:
    """What is asked for. Stops at `runs`, or after `max_seconds` whatever has been reached."""

    runs: int = 512
    warmup: int = 32
    max_seconds: float = 30.0

    def __post_init__(self) -> None:
        if not 1 <= self.runs <= MAX_RUNS:
            raise UsageError(f"--runs must be 1 to {MAX_RUNS:,}, got {self.runs}", hint="such as --runs 1000")
        if not 0 <= self.warmup <= MAX_WARMUP:
            raise UsageError(f"--warmup must be 0 to {MAX_WARMUP:,}, got {self.warmup}", hint="such as --warmup 50")
        if not 0 < self.max_seconds <= MAX_SECONDS:
            raise UsageError(
                f"--max-seconds must be above 0 and at most {MAX_SECONDS:g}, got {self.max_seconds:g}",
                hint="such as --max-seconds 30",
            )


@dataclass(frozen=True)
class Raw:
    """What a worker's `bench` answered."""

    latencies_us: tuple[float, ...]
    warmup: int
    pss_bytes: int | None
    rss_bytes: int | None
    cpu_seconds: float | None

    @classmethod
    def parse(cls, data: Json, most: int) -> Raw:
        """From decoded JSON. Raises ProtocolError: not the protocol, or more than `most` latencies."""
        latencies = need(data, "latencies_us", list)
        if not 0 < len(latencies) <= most:
            raise ProtocolError(f"{len(latencies)} latencies came, 1 to {most} were asked for")
        none = type(None)
        sizes = [need(data, key, (int, none)) for key in ("pss_bytes", "rss_bytes")]
        seconds = need(data, "cpu_seconds", (int, float, none))
        for number in (*latencies, *sizes, seconds):
            ok = number is None or (
                isinstance(number, (int, float)) and not isinstance(number, bool) and 0 <= number < 1e15
            )
            if not ok or (isinstance(number, float) and not math.isfinite(number)):
                raise ProtocolError(f"a measured number is out of range: {number!r:.40}")
        if any(latency is None for latency in latencies):
            raise ProtocolError("a latency is null")
        return cls(tuple(float(v) for v in latencies), need(data, "warmup", int), sizes[0], sizes[1], seconds)


@dataclass(frozen=True)
class Subject:
    """What is measured and where: all of the record that is known before the measurement."""

    identity: Identity
    place: Place
    software: Software
    quality: Quality | None = None
    budget_p95_us: float | None = None
    load_us: float | None = None
    first_us: float | None = None


def measure(
    ask: Ask, subject: Subject, options: BenchOptions, conditions: Callable[[], Conditions], *,
    source: str = "the first four golden samples of the release",
) -> Record:  # fmt: skip
    """Run the protocol once.

    Args:
        ask: sends `bench` to the worker, on this host or on a device.
        subject: what is measured and where.
        options: how often.
        conditions: reads the state of the machine, called before and after.
        source: of the inputs, in words; the worker takes them in turn.

    Raises:
        DeviceError: what came back is not the protocol.
    """
    before = conditions()
    fields = {"runs": options.runs, "warmup": options.warmup, "max_seconds": options.max_seconds}
    answer = ask("bench", fields)
    after = conditions()
    try:
        raw = Raw.parse(answer, options.runs)
    except ProtocolError as error:
        name = subject.place.name
        raise DeviceError(
            f"the measurement of {name} cannot be used: {error}", device=name, stage="bench",
            hint="edgeship bench run again; if it stays so, edgeship logs says more",
        ) from error  # fmt: skip
    record = Record(
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        identity=subject.identity,
        place=subject.place,
        software=subject.software,
        protocol=Protocol(
            options.runs, raw.warmup, options.max_seconds, subject.software.threads, f"{source}, in turn"
        ),
        latencies_us=raw.latencies_us,
        memory=Memory(raw.pss_bytes, raw.rss_bytes),
        cpu_seconds=raw.cpu_seconds,
        load_us=subject.load_us,
        first_us=subject.first_us,
        before=before,
        after=after,
        quality=subject.quality,
        budget_p95_us=subject.budget_p95_us,
    )
    return replace(record, warnings=validity.warnings(record))
