"""The probe of a release on the device, and the measurement behind `bench`: both on golden samples, one at a time.

The golden file is read where it is needed and never held in memory; its layout is that of `manifest.Golden`.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgeship.runtime.errors import ProtocolError
from edgeship.runtime.manifest import VariantRef
from edgeship.runtime.memory import pss_bytes, rss_bytes
from edgeship.runtime.tensors import dequantize, numbers, winner

_RUNS, _SECONDS = 64, 2.0  # p95 of the probe: at least one run a sample, then until one of these
MAX_RUNS, MAX_WARMUP, MAX_SECONDS = 50_000, 10_000, 600.0

Run = Callable[[list[bytes]], list[bytes]]


class GoldenSamples:
    """The golden file behind a descriptor that was verified. Raises ProtocolError when its size is not as described."""

    def __init__(self, descriptor: int, variant: VariantRef) -> None:
        self._descriptor, self._variant = descriptor, variant
        self.count = variant.golden.samples
        inputs = sum(spec.nbytes for spec in variant.inputs)
        outputs = sum(4 * spec.count for spec in variant.outputs)
        wanted, size = self.count * (inputs + 4 + outputs), os.fstat(descriptor).st_size
        if size != wanted:
            raise ProtocolError(f"the golden samples take {wanted} bytes as described, the file has {size}")

    def inputs(self, sample: int) -> list[bytes]:
        """The inputs of one sample, raw in the variant's own dtypes."""
        return self._tensors(0, [spec.nbytes for spec in self._variant.inputs], sample)

    def expected(self, sample: int) -> list[tuple[float, ...]]:
        """What the source float model answered to it."""
        start = self.count * (sum(spec.nbytes for spec in self._variant.inputs) + 4)
        raw = self._tensors(start, [4 * spec.count for spec in self._variant.outputs], sample)
        return [numbers(data, "float32") for data in raw]

    def _tensors(self, start: int, sizes: list[int], sample: int) -> list[bytes]:
        out = []
        for size in sizes:
            out.append(os.pread(self._descriptor, size, start + sample * size))
            start += self.count * size
        return out


@dataclass(frozen=True)
class Probe:
    """What came out. `p95_us` is of one run of the model; `reason` says why it did not pass."""

    agreement: float
    max_abs: float
    samples: int
    p95_us: float
    pss_bytes: int
    reason: str

    @property
    def passed(self) -> bool:
        """Whether the release may serve."""
        return not self.reason

    def encode(self) -> dict[str, Any]:
        """To what `json.dumps` takes."""
        return {
            "agreement": self.agreement, "max_abs": self.max_abs, "samples": self.samples, "p95_us": self.p95_us,
            "pss_bytes": self.pss_bytes, "passed": self.passed, "reason": self.reason,
        }  # fmt: skip


def probe(run: Run, golden: GoldenSamples, variant: VariantRef) -> Probe:
    """Compare the model's answers with the source float model's, and its p95 and memory with the budget."""
    agreed, worst, latencies = 0, 0.0, list[float]()
    for sample in range(golden.count):
        inputs = golden.inputs(sample)
        start = time.perf_counter_ns()
        outputs = run(inputs)
        latencies.append((time.perf_counter_ns() - start) / 1000)
        expected = golden.expected(sample)
        off = max(
            _distance(dequantize(raw, spec), wanted)
            for raw, spec, wanted in zip(outputs, variant.outputs, expected, strict=True)
        )
        worst = max(worst, off)
        if variant.task == "classification":
            agreed += winner(outputs[0], variant.outputs[0])[0] == expected[0].index(max(expected[0]))
        else:
            agreed += off <= variant.golden.max_abs
    inputs = golden.inputs(0)
    until = time.monotonic() + _SECONDS
    while len(latencies) < _RUNS and time.monotonic() < until:
        start = time.perf_counter_ns()
        run(inputs)
        latencies.append((time.perf_counter_ns() - start) / 1000)
    p95 = sorted(latencies)[math.ceil(0.95 * len(latencies)) - 1]
    agreement, pss = agreed / golden.count, pss_bytes()
    return Probe(agreement, worst, golden.count, p95, pss, _verdict(variant, agreement, worst, p95, pss))


def _distance(values: tuple[float, ...], expected: tuple[float, ...]) -> float:
    far = max(abs(value - wanted) for value, wanted in zip(values, expected, strict=True))
    # NaN compares false with everything, so it must be looked for
    return far if math.isfinite(far) and all(map(math.isfinite, values)) else sys.float_info.max


def _verdict(variant: VariantRef, agreement: float, worst: float, p95_us: float, pss: int) -> str:
    golden, reasons = variant.golden, list[str]()
    if agreement < golden.min_agreement:
        reasons.append(
            f"{agreement:.1%} of {golden.samples} golden samples agree with the source model, "
            f"{golden.min_agreement:.1%} are needed"
        )
    if worst > golden.max_abs:
        far = "NaN or infinity" if worst == sys.float_info.max else f"{worst:.4g}"
        reasons.append(f"the worst answer is off by {far}, {golden.max_abs:.4g} is allowed")
    if variant.latency_p95_ms is not None and p95_us > 1000 * variant.latency_p95_ms:
        reasons.append(f"p95 is {p95_us / 1000:.3g} ms, {variant.latency_p95_ms:.3g} ms is the budget")
    if variant.memory_mb is not None and pss > variant.memory_mb * 1e6:
        reasons.append(f"the worker takes {pss / 1e6:.1f} MB, {variant.memory_mb:.1f} MB is the budget")
    return "; ".join(reasons)


def bench(
    run: Run, golden: GoldenSamples, *, runs: int, warmup: int, max_seconds: float, between: Callable[[], None]
) -> dict[str, Any]:
    """Time single runs on the first four golden samples in turn.

    Args:
        run: the model.
        golden: where inputs come from.
        runs: measured runs at most.
        warmup: runs before them.
        max_seconds: after which it ends, warm-up included.
        between: called after each run, outside of what is timed.

    Returns:
        `latencies_us` in the order of the runs, `warmup` as it was done, memory, processor seconds of measured runs.
    """
    until, done = time.monotonic() + max_seconds, 0
    samples = [golden.inputs(sample) for sample in range(min(golden.count, 4))]
    while done < warmup and time.monotonic() < until:
        run(samples[done % len(samples)])
        done += 1
        between()
    latencies, cpu = list[float](), 0.0
    while len(latencies) < runs and (not latencies or time.monotonic() < until):
        inputs = samples[len(latencies) % len(samples)]
        cpu_start, start = time.process_time(), time.perf_counter_ns()
        run(inputs)
        latencies.append((time.perf_counter_ns() - start) / 1000)
        cpu += time.process_time() - cpu_start
        between()
    return {
        "latencies_us": [round(us, 3) for us in latencies], "warmup": done, "cpu_seconds": cpu,
        "pss_bytes": pss_bytes(), "rss_bytes": rss_bytes(),
    }  # fmt: skip
