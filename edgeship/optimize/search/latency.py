"""How fast variants are: on this host by the device's own worker, one after the other with nothing else running.

A measurement is kept under what decides it (model, inputs, runtime library, agent, threads, protocol, machine), so a
search that is started again measures nothing twice.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edgeship import libraries
from edgeship.bench import host, source
from edgeship.bench.protocol import BenchOptions
from edgeship.bench.record import Record
from edgeship.bench.validity import no_kernels
from edgeship.dataset import Dataset
from edgeship.targets import cache
from edgeship.targets.base import Variant

#: Short: many candidates are measured; `edgeship bench run` measures longer.
OPTIONS = BenchOptions(runs=256, warmup=16, max_seconds=4.0)

HOST = "host"  # the place of what was measured on this machine; a device has its own name


@dataclass(frozen=True)
class Latency:
    """One measurement, in microseconds."""

    place: str  # device, or "host"
    arch: str
    median_us: float
    interval_us: tuple[float, float]  # 95 %, of the median
    p95_us: float | None
    pss_bytes: int | None
    runs: int

    @classmethod
    def of(cls, record: Record) -> Latency:
        """What a record says."""
        summary = record.summary
        return cls(
            record.place.name, record.place.arch or platform.machine(), summary.median,
            (summary.interval.low, summary.interval.high), summary.percentile(95.0), record.memory.pss_bytes, summary.n,
        )  # fmt: skip

    def encode(self) -> dict[str, Any]:
        """To what `json.dumps` takes."""
        return {
            "place": self.place, "arch": self.arch, "median_us": self.median_us,
            "interval_us": list(self.interval_us), "p95_us": self.p95_us, "pss_bytes": self.pss_bytes,
            "runs": self.runs,
        }  # fmt: skip


class Stopwatch(Protocol):
    """Where candidates are timed."""

    @property
    def place(self) -> str:
        """Device, or "host"."""
        ...

    def refuses(self, variant: Variant) -> str | None:
        """Why this variant is not worth timing here, or None."""
        ...

    def time(self, variant: Variant) -> Latency:
        """Measure it. Raises InputError, DeviceError."""
        ...


class Host:
    """Times on this machine.

    Args:
        samples: real inputs.
        agent: the zipapp whose worker runs the model.
        folder: the cache.
        threads: of the engine.
    """

    place = HOST

    def __init__(self, samples: Dataset, agent: bytes, folder: Path, threads: int) -> None:
        self._samples, self._agent = samples, agent
        self._folder, self._threads = folder, threads

    def refuses(self, variant: Variant) -> str | None:
        """int16x8 has reference kernels alone on other processors than Arm: 25 to 70 times slower than on a board."""
        if no_kernels(variant.format, variant.precision, platform.machine()):
            return "int16x8 runs reference kernels on this processor: time it with --on DEVICE"
        return None

    def time(self, variant: Variant) -> Latency:
        """Measure it, or take what was measured. Raises InputError."""
        library = libraries.for_host(variant.format)
        key = cache.key_of(
            "latency/2", variant.sha256, self._samples.inputs_sha256, library.sha256,
            hashlib.sha256(self._agent).hexdigest(), self._threads,
            [OPTIONS.runs, OPTIONS.warmup, OPTIONS.max_seconds], platform.node(), platform.machine(),
        )  # fmt: skip

        def make(place: Path) -> Mapping[str, Any]:
            model = source.host_model("candidate", variant)  # a file may be named as no model may
            record = host.run(model, library, self._agent, OPTIONS, threads=self._threads, samples=self._samples)
            (place / "record.json").write_text(json.dumps(record.encode()), encoding="utf-8")
            return Latency.of(record).encode()

        facts = cache.keep(self._folder, key, make).facts
        low, high = facts["interval_us"]
        return Latency(**{**facts, "interval_us": (float(low), float(high))})


class Untimed:
    """No stopwatch: for a search in which latency decides nothing."""

    place = "nowhere"

    def refuses(self, variant: Variant) -> str | None:  # noqa: ARG002 - the shape of every stopwatch
        """Always a reason."""
        return "latency was not asked for"

    def time(self, variant: Variant) -> Latency:
        """Never called."""
        raise AssertionError(variant)
