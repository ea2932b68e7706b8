"""The protocol asks a worker, bounds what comes back and makes the record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from edgeship.bench.protocol import BenchOptions, Raw, Subject, measure
from edgeship.bench.record import Conditions, Identity, Place, Quality, Software
from edgeship.errors import DeviceError, UsageError
from edgeship.runtime.errors import ProtocolError
from tests.simulators.bench import FakeWorker, latencies

SUBJECT = Subject(
    Identity("digits", "tflite", "int8"), Place("pi", cores=4), Software(threads=4),
    quality=Quality("top1", 0.984, 0.983, 1000), budget_p95_us=20_000.0, load_us=6000.0,
)  # fmt: skip


def two_states() -> Iterator[Conditions]:
    yield Conditions(load1=0.1)
    yield Conditions(load1=0.9)


def test_a_measurement_becomes_a_record_with_its_raw_samples() -> None:
    worker, states = FakeWorker(latencies(100)), two_states()
    made = measure(worker, SUBJECT, BenchOptions(100, 8, 5.0), lambda: next(states))
    assert worker.asked == [("bench", {"runs": 100, "warmup": 8, "max_seconds": 5.0})]
    assert made.latencies_us == tuple(latencies(100))
    assert made.protocol.warmup == 32  # what the worker did, not what was asked
    assert (made.before.load1, made.after.load1) == (0.1, 0.9)
    assert made.protocol.threads == 4
    assert made.memory.pss_bytes == 16_000_000
    assert made.budget_p95_us == 20_000.0
    assert made.quality == SUBJECT.quality
    assert made.created.endswith("Z")


def test_warnings_are_part_of_the_record() -> None:
    made = measure(FakeWorker(latencies(10)), SUBJECT, BenchOptions(512), Conditions)
    assert any("stopped after 10 of 512" in w for w in made.warnings)


@pytest.mark.parametrize(
    "changes",
    [
        {"latencies_us": []},
        {"latencies_us": [1.0] * 101},
        {"latencies_us": [None]},
        {"latencies_us": ["1"]},
        {"latencies_us": [float("nan")]},
        {"latencies_us": [-1.0]},
        {"pss_bytes": -5},
        {"pss_bytes": True},
        {"cpu_seconds": "long"},
        {"warmup": None},
    ],
)
def test_a_device_that_answers_nonsense_is_named(changes: dict[str, Any]) -> None:
    with pytest.raises(DeviceError, match="pi") as caught:
        measure(FakeWorker(latencies(100), **changes), SUBJECT, BenchOptions(100), Conditions)
    assert caught.value.stage == "bench"


def test_memory_that_the_kernel_does_not_tell_is_unknown() -> None:
    answer = FakeWorker([1.0], pss_bytes=None, rss_bytes=None, cpu_seconds=None).answer
    assert Raw.parse(answer, 1) == Raw((1.0,), 32, None, None, None)
    with pytest.raises(ProtocolError):
        Raw.parse(answer, 0)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"runs": 0}, "--runs"),
        ({"runs": 50_001}, "--runs"),
        ({"warmup": -1}, "--warmup"),
        ({"max_seconds": 0.0}, "--max-seconds"),
        ({"max_seconds": 601.0}, "--max-seconds"),
    ],
)
def test_options_out_of_range_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        BenchOptions(**changes)
