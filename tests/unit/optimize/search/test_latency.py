"""Where candidates are timed, and where a time would say nothing."""

from __future__ import annotations

import json
import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeship.bench import host
from edgeship.dataset import Dataset
from edgeship.optimize.search.latency import OPTIONS, Host, Latency
from tests.simulators import bench
from tests.simulators.models import samples
from tests.simulators.searched import candidate, variant


def stopwatch(folder: Path, threads: int = 1) -> Host:
    return Host(Dataset({"x": samples(4)[0]}), b"agent", folder, threads)


@pytest.mark.parametrize(
    ("words", "machine", "refused"),
    [
        ("tflite int16x8", "x86_64", True), ("tflite int16x8", "aarch64", False), ("onnx int16x8", "x86_64", False),
        ("tflite int8", "x86_64", False), ("tflite dynamic", "x86_64", False),
    ],
)  # fmt: skip
def test_int16_is_not_timed_where_it_has_no_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, machine: str, refused: bool
) -> None:
    """On x86 TFLite's int16×8 is 25 to 70 times slower than float32; on a board it is not."""
    monkeypatch.setattr(platform, "machine", lambda: machine)
    why = stopwatch(tmp_path).refuses(variant(candidate(words)))
    assert (why is not None) == refused
    assert why is None or "time it with --on DEVICE" in why


def test_a_measurement_is_kept_under_what_decides_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def run(*args: Any, **named: Any) -> Any:
        asked.append((args, named))
        return bench.record("host")

    monkeypatch.setattr(host, "run", run)
    one = variant(candidate("tflite int8"))
    first = stopwatch(tmp_path).time(one)
    assert first == Latency.of(bench.record("host"))
    assert json.loads(json.dumps(first.encode()))["interval_us"] == list(first.interval_us)
    assert stopwatch(tmp_path).time(one) == first
    assert len(asked) == 1, "it is not measured twice"
    assert asked[0][0][3] == OPTIONS
    stopwatch(tmp_path, threads=2).time(one)
    stopwatch(tmp_path).time(replace(one, sha256="12" * 32))
    other = Dataset({"x": samples(4)[0] + 1})  # a model with branches takes its time from what it is asked
    Host(other, b"agent", tmp_path, 1).time(one)
    assert [named["threads"] for _, named in asked] == [1, 2, 1, 1]
