"""The probe's verdict and the measurement, with a model that the test scripts."""

from __future__ import annotations

import math
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edgeship.runtime.errors import ProtocolError
from edgeship.runtime.manifest import VariantRef
from edgeship.runtime.probe import GoldenSamples, Probe, bench, probe
from edgeship.runtime.tensors import pack
from tests.simulators.models import TinyModel, samples, source, tiny_onnx, tiny_tflite, variant_ref


@pytest.fixture
def tiny(tmp_path: Path) -> TinyModel:
    return tiny_tflite(tmp_path / "m")


@pytest.fixture
def variant(tiny: TinyModel, tmp_path: Path) -> VariantRef:
    return variant_ref(tiny, tmp_path / "golden")


@pytest.fixture
def golden(variant: VariantRef, tmp_path: Path) -> GoldenSamples:
    return GoldenSamples(os.open(tmp_path / "golden", os.O_RDONLY), variant)


def test_samples_are_read_one_by_one_from_where_the_manifest_says(tiny: TinyModel, golden: GoldenSamples) -> None:
    x, _ = samples(16, seed=7)
    for sample in (0, 5, 15):
        assert golden.inputs(sample) == [tiny.quantize(x[sample : sample + 1])]
        assert golden.expected(sample) == [tuple(source(x)[sample].tolist())]


def test_a_golden_file_of_another_size_is_refused(variant: VariantRef, tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes((tmp_path / "golden").read_bytes()[:-1])
    with pytest.raises(ProtocolError, match=r"take \d+ bytes as described, the file has"):
        GoldenSamples(os.open(tmp_path / "short", os.O_RDONLY), variant)


def test_a_model_that_answers_as_it_should_passes(tiny: TinyModel, variant: VariantRef, golden: GoldenSamples) -> None:
    result = probe(lambda inputs: tiny.reference(*inputs), golden, variant)
    assert result.passed
    assert result.reason == ""
    assert result.agreement == 1.0
    assert 0 < result.max_abs < 0.05
    assert result.samples == 16
    assert result.p95_us > 0
    assert result.pss_bytes > 1 << 20
    assert result.encode()["passed"] is True


def test_a_model_that_answers_wrongly_does_not(variant: VariantRef, golden: GoldenSamples, tmp_path: Path) -> None:
    bad = tiny_tflite(tmp_path / "bad", bad=True)
    result = probe(lambda inputs: bad.reference(*inputs), golden, variant)
    assert not result.passed
    assert result.agreement == 0
    assert "0.0% of 16 golden samples agree with the source model, 87.5% are needed" in result.reason
    assert "the worst answer is off by" in result.reason
    assert result.encode()["passed"] is False


def test_agreement_may_be_less_than_whole(tiny: TinyModel, variant: VariantRef, golden: GoldenSamples) -> None:
    calls = 0

    def sometimes(inputs: list[bytes]) -> list[bytes]:
        nonlocal calls
        calls += 1
        return [bytes(reversed(tiny.reference(*inputs)[0]))] if calls <= 2 else tiny.reference(*inputs)

    generous = replace(variant, golden=replace(variant.golden, max_abs=1.0))
    assert probe(sometimes, golden, generous).agreement == 0.875
    calls = 0
    assert probe(sometimes, golden, generous).passed


def test_not_a_number_never_passes_and_stays_finite(tmp_path: Path) -> None:
    tiny = tiny_onnx(tmp_path / "m", "float32")
    variant = variant_ref(tiny, tmp_path / "golden", max_abs=1e30)
    golden = GoldenSamples(os.open(tmp_path / "golden", os.O_RDONLY), variant)
    for value in (math.nan, math.inf):
        result = probe(lambda _inputs, value=value: [pack([value] * 10, "float32")], golden, variant)  # type: ignore[misc]
        assert result.max_abs == sys.float_info.max
        assert "NaN or infinity" in result.reason


def test_other_tasks_agree_where_all_is_near(tiny: TinyModel, golden: GoldenSamples, variant: VariantRef) -> None:
    other = replace(variant, task="regression")
    assert probe(lambda inputs: tiny.reference(*inputs), golden, other).passed
    exact = replace(other, golden=replace(other.golden, max_abs=0.0))
    result = probe(lambda inputs: tiny.reference(*inputs), golden, exact)
    assert result.agreement < 1
    assert not result.passed


def test_budgets_of_time_and_memory(tiny: TinyModel, golden: GoldenSamples, variant: VariantRef) -> None:
    strict = replace(variant, latency_p95_ms=1e-6, memory_mb=0.5)
    result = probe(lambda inputs: tiny.reference(*inputs), golden, strict)
    assert "p95 is" in result.reason
    assert "1e-06 ms is the budget" in result.reason
    assert "0.5 MB is the budget" in result.reason
    roomy = replace(variant, latency_p95_ms=60_000, memory_mb=100_000)
    assert probe(lambda inputs: tiny.reference(*inputs), golden, roomy).passed


def test_a_bench_warms_up_measures_and_lets_others_in_between(golden: GoldenSamples) -> None:
    runs, between = list[bytes](), 0

    def others() -> None:
        nonlocal between
        between += 1

    def run(inputs: list[bytes]) -> list[bytes]:
        runs.append(inputs[0])
        return []

    result = bench(run, golden, runs=10, warmup=3, max_seconds=60, between=others)
    assert len(result["latencies_us"]) == 10
    assert result["warmup"] == 3
    assert result["cpu_seconds"] >= 0
    assert result["pss_bytes"] <= result["rss_bytes"]
    assert (len(runs), between) == (13, 13)
    assert len(set(runs)) == 4  # samples in turn


def test_a_bench_ends_in_time_with_one_run_at_least(golden: GoldenSamples) -> None:
    result = bench(lambda _inputs: [], golden, runs=50_000, warmup=10_000, max_seconds=1e-9, between=lambda: None)
    assert result["warmup"] == 0
    assert len(result["latencies_us"]) == 1


def test_a_probe_with_a_reason_has_not_passed() -> None:
    assert not Probe(1.0, 0.0, 16, 1.0, 1, "why").passed
