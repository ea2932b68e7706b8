"""Golden samples: chosen by the source alone, laid out as the device reads them, with a tolerance that tells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.dataset import Dataset
from edgeship.errors import InputError
from edgeship.optimize import golden, quality
from edgeship.reporter import Reporter
from edgeship.runtime.manifest import TensorSpec
from edgeship.targets import registry
from edgeship.targets.base import Variant
from edgeship.targets.scheme import Scheme
from tests.simulators import inline
from tests.simulators.models import SHAPE, pair_tflite, samples, source, tiny_onnx, tiny_tflite

INT8 = TensorSpec("p", "int8", (1, 10), 1 / 256, -128)


@dataclass(frozen=True)
class Budget:
    max_drop: float = 1.0
    max_class_drop: float = 5.0


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    inline.patch(monkeypatch)


def data(n: int = 200) -> Dataset:
    x, labels = samples(n)
    return Dataset({"image": x.reshape(n, *SHAPE)}, labels)


def built(folder: Path, format_name: str = "tflite", calibration: Dataset | None = None) -> tuple[Any, Variant]:
    maker: Any = tiny_tflite if format_name == "tflite" else tiny_onnx
    facts = registry.inspect(maker(folder / f"m.{format_name}", "float32").path)
    variant = registry.target(format_name).build(
        facts, Scheme("int8"), calibration or data(100), folder / "c", Reporter()
    )
    return facts, variant


# ── choosing ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_samples_cover_the_classes_and_are_right_and_clear() -> None:
    x, labels = samples(300)
    scores = source(x)
    at = golden.choose(scores, labels, 1 / 256, 16)
    assert len(at) == len(set(at.tolist())) == 16
    assert set(labels[at].tolist()) == set(range(10))
    assert (scores[at].argmax(1) == labels[at]).all()
    ordered = np.sort(scores[at], axis=1)
    assert (ordered[:, -1] - ordered[:, -2] >= 8 / 256).all()
    assert at.tolist() == golden.choose(scores, labels, 1 / 256, 16).tolist()


def test_wrong_and_unclear_samples_serve_where_there_are_no_others() -> None:
    scores = np.tile(np.array([0.5, 0.5], np.float32), (4, 1))
    assert golden.choose(scores, np.array([0, 1, 1, 1], np.int32), 0.01, 3).size == 3


def test_fewer_samples_than_classes_are_spread() -> None:
    scores = np.eye(100, dtype=np.float32)
    labels = np.arange(100, dtype=np.int32)
    assert labels[golden.choose(scores, labels, 0.001, 4)].tolist() == [0, 25, 50, 75]


def test_without_labels_the_source_says_the_class() -> None:
    x, _ = samples(100)
    scores = source(x)
    assert len(set(scores[golden.choose(scores, None, 1 / 256, 10)].argmax(1).tolist())) == 10


def test_outputs_of_one_number_and_small_data_are_taken_as_they_are() -> None:
    assert golden.choose(np.zeros((3, 1), np.float32), None, 0.1, 16).tolist() == [0, 1, 2]


def test_samples_that_the_source_cannot_answer_are_left_out() -> None:
    scores = np.eye(10, dtype=np.float32)
    scores[3] = np.nan
    assert 3 not in golden.choose(scores, None, 0.001, 16)
    with pytest.raises(InputError, match="every evaluation sample with NaN"):
        golden.choose(np.full((4, 2), np.nan, np.float32), None, 0.1, 2)


# ── tolerance ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_step_is_the_scale_or_a_part_of_the_range() -> None:
    assert golden.output_step(INT8, np.zeros((1, 10), np.float32)) == 1 / 256
    wide = np.array([[0.0, 512.0, np.nan]], np.float32)
    assert golden.output_step(TensorSpec("y", "float32", (1, 3)), wide) == 2.0
    assert golden.output_step(TensorSpec("y", "float32", (1, 1)), np.array([[np.nan]], np.float32)) == 0.0


def test_the_largest_error_is_measured_plus_two_steps() -> None:
    wanted, given = np.zeros((2, 3), np.float32), np.array([[0, 0.25, 0], [0, 0, -0.5]], np.float32)
    assert golden.tolerance([wanted], [given], [0.01]) == pytest.approx(0.52)
    assert np.isfinite(golden.tolerance([wanted], [given * np.nan], [0.01]))


def test_agreement_counts_what_two_steps_cannot_turn() -> None:
    wanted = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], np.float32)
    given = np.array([[0.9, 0.1], [0.52, 0.48], [0.4, 0.6], [0.1, 0.9]], np.float32)
    assert golden.steady(wanted, given, 0.01) == 0.5  # clear, within four steps, wrong, clear
    assert golden.steady(np.ones((2, 1), np.float32), np.ones((2, 1), np.float32), 0.1) == 1.0


# ── the file ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("format_name", ["tflite", "onnx"])
def test_the_file_holds_inputs_labels_and_the_sources_outputs(tmp_path: Path, format_name: str) -> None:
    facts, variant = built(tmp_path, format_name)
    evaluation = data()
    verdict = quality.check(facts, variant, evaluation, Budget())
    made = golden.make(facts, variant, evaluation, verdict=verdict)
    raw = made.path.read_bytes()
    spec = variant.inputs[0]
    assert len(raw) == made.golden.file.bytes == 16 * (spec.nbytes + 4 + 40)
    inputs = np.frombuffer(raw[: 16 * spec.nbytes], spec.dtype).reshape(16, 64).astype(np.float32)
    real = (inputs - spec.zero_point) * spec.scale if spec.scale else inputs
    labels = np.frombuffer(raw[16 * spec.nbytes :][:64], "<i4")
    outputs = np.frombuffer(raw[16 * spec.nbytes + 64 :], "<f4").reshape(16, 10)
    assert (outputs.argmax(1) == labels).all()
    assert np.allclose(outputs, source(real), atol=0.05 if spec.scale else 1e-4)
    assert made.golden.min_agreement == 1.0
    assert 0 < made.golden.max_abs < 0.1
    assert golden.make(facts, variant, evaluation, verdict=verdict) == made


@pytest.mark.parametrize("format_name", ["tflite", "onnx"])
def test_forced_past_the_check_the_probe_still_refuses_a_wrong_scale(tmp_path: Path, format_name: str) -> None:
    wrong = Dataset({"image": data(100).inputs["image"] / np.float32(255)})
    facts, variant = built(tmp_path, format_name, wrong)
    made = golden.make(facts, variant, data(), verdict=None)
    assert made.golden.min_agreement == golden.UNCHECKED_AGREEMENT == 0.875
    assert probed(made, variant, tmp_path) < 0.875
    facts, good = built(tmp_path, format_name)
    assert probed(golden.make(facts, good, data(), verdict=None), good, tmp_path) == 1.0


def probed(made: golden.GoldenFile, variant: Variant, folder: Path) -> float:
    """The agreement that a device would find: the golden inputs run in the engine, read back from the file."""
    from edgeship.targets import answers
    from edgeship.targets.base import dequantize_output

    raw, spec, n = made.path.read_bytes(), variant.inputs[0], made.golden.samples
    parts = [dequantize_output(raw[i * spec.nbytes : (i + 1) * spec.nbytes], spec) for i in range(n)]
    (given,) = answers.of_variant(variant, Dataset({spec.name: np.stack(parts)}))
    wanted = np.frombuffer(raw[n * (spec.nbytes + 4) :], "<f4").reshape(n, -1)
    return float((given.reshape(n, -1).argmax(1) == wanted.argmax(1)).mean())


def test_other_tasks_have_no_labels_and_are_compared_by_distance(tmp_path: Path) -> None:
    facts = registry.inspect(pair_tflite(tmp_path / "m.tflite").path)
    variant = registry.target("tflite").build(facts, Scheme("float32"), None, tmp_path / "c", Reporter())
    rng = np.random.default_rng(0)
    pairs = Dataset({name: rng.random((20, 1, 4)).astype(np.float32) for name in ("a", "b")})
    verdict = quality.check(facts, variant, pairs, Budget())
    made = golden.make(facts, variant, pairs, samples=4, verdict=verdict)
    assert (made.golden.samples, made.golden.min_agreement) == (4, 1.0)
    raw = made.path.read_bytes()
    assert np.frombuffer(raw[4 * 32 :][:16], "<i4").tolist() == [-1] * 4
