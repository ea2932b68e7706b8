"""What may be wrong with a measurement, in words: pure functions over the samples and the state of the machine.

A warning never changes a figure. Each names what was seen and what to do.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgeship.bench import statistics
from edgeship.bench.record import Record

#: Limits of the warnings. Shares, unless said.
DRIFT, DRIFT_P = 0.05, 0.01  # last quarter against first, and its p-value
WARM = 0.10  # how much slower the start must be to count as warm-up
WIDE = 0.05  # half of the median's interval
FAR = 0.05  # outliers
LOAD = 0.5  # processes that run beside, per core
WAITED = 0.15  # time that the runs waited for a core
COARSE_US = 5.0  # below this a clock read weighs
CLOCK = 0.90  # clock at the end against the start
HOT_CELSIUS = 80.0  # where the boards that we know begin to slow down

ARM = ("aarch64", "arm64", "armv7l", "armv8l")  # what `uname -m` says of them


def warnings(record: Record) -> tuple[str, ...]:
    """All that may be wrong with one measurement, the gravest first."""
    return (*_kernels(record), *_machine(record), *_series(record))


def no_kernels(format: str, precision: str, arch: str) -> bool:  # noqa: A002 - the domain's word
    """Whether a runtime has nothing but reference kernels there: int16×8 TFLite on other processors than Arm.

    Measured on x86-64: 25 to 70 times slower than float32, which says nothing of a board.
    """
    return format == "tflite" and precision == "int16x8" and arch not in ARM


def _kernels(record: Record) -> Iterator[str]:
    arch = record.place.arch
    if arch is not None and no_kernels(record.identity.format, record.identity.precision, arch):
        yield f"int16x8 runs reference kernels on {arch}, many times slower than on a board: measure it on a device"


def _series(record: Record) -> Iterator[str]:
    """What the samples themselves tell."""
    values = statistics.samples_of(record.latencies_us)
    asked, n = record.protocol.runs, len(values)
    summary = record.summary
    if n < asked:
        yield f"stopped after {n:,} of {asked:,} runs: the limit of {record.protocol.max_seconds:g} s was reached"
    if n < (least := statistics.runs_needed(95.0)):
        yield f"too few runs: {n}, and p95 needs at least {least}; take --runs {max(least, 512)}"
    settled = statistics.settled_at(values)
    if settled and _excess(values, settled) > WARM:
        yield (
            f"not warm at the start: the first {settled} runs are {_excess(values, settled):+.0%} against the rest; "
            f"take --warmup {record.protocol.warmup + settled}"
        )
    moved = statistics.drift(values)
    if abs(moved.relative) > DRIFT and moved.p_value < DRIFT_P:
        way = "slower" if moved.relative > 0 else "faster"
        yield f"drift in run order: the last quarter is {abs(moved.relative):.0%} {way} than the first"
    wide = summary.interval.half_width_of(summary.median)
    if wide > WIDE:
        yield f"the median is known to ±{wide:.0%} only; more runs on a quiet machine narrow it"
    if summary.outliers > FAR * n:
        share = summary.outliers / n
        yield f"{share:.0%} of the runs lie far from the median: something else runs in between, or the clock changes"
    if summary.median < COARSE_US:
        yield f"a run takes {summary.median:.1f} µs: reading the clock is part of that"


def _excess(values: statistics.Array, settled: int) -> float:
    rest = float(np.median(values[settled:]))
    return (float(np.median(values[:settled])) - rest) / rest if rest else 0.0


def _machine(record: Record) -> Iterator[str]:
    """What the state of the machine tells."""
    before, after, cores = record.before, record.after, record.place.cores or 1
    if before.clock_hertz and after.clock_hertz and after.clock_hertz < CLOCK * before.clock_hertz:
        yield f"the clock fell from {before.clock_hertz / 1e9:.2f} to {after.clock_hertz / 1e9:.2f} GHz during the run"
    if after.temperature_celsius is not None and after.temperature_celsius >= HOT_CELSIUS:
        yield f"hot at the end: {after.temperature_celsius:.0f} °C, where boards begin to slow down"
    if before.load1 is not None and before.load1 > LOAD * cores:
        yield f"other load on the machine: {before.load1:.1f} processes ran on {cores} cores when it began"
    if (waited := _waited(record)) > WAITED:
        yield f"the runs waited {waited:.0%} of their time for a core: other processes took it"
    governor = record.place.governor
    if governor is not None and governor != "performance":
        yield f"the CPU frequency governor is '{governor}': clocks may change during a run ('performance' holds them)"


def _waited(record: Record) -> float:
    """The share of the measured time in which the process had no core; 0 where it is not known."""
    wall = sum(record.latencies_us) / 1e6
    if record.cpu_seconds is None or wall <= 0:
        return 0.0
    return max(0.0, 1 - record.cpu_seconds / wall)
