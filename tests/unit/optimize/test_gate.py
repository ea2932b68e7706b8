"""The gate refuses what computes something else, and lets good int8 through."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeship.dataset import Dataset
from edgeship.errors import GateError
from edgeship.optimize import gate
from edgeship.optimize.gate import GateVerdict, judge
from edgeship.reporter import Reporter
from edgeship.runtime.manifest import TensorSpec
from edgeship.targets import registry
from edgeship.targets.scheme import Scheme
from tests.simulators import inline
from tests.simulators.models import SHAPE, samples, source, tiny_onnx, tiny_tflite

Array = NDArray[np.float32]


def round_to(values: Array, scale: float, low: int = -128, high: int = 127, zero: int = 0) -> Array:
    """What an int8 output with this scale can say."""
    steps = np.clip(np.rint(values / scale) + zero, low, high) - zero
    return np.asarray(steps * scale, np.float32)


def verdict_on(wanted: Array, given: Array, kind: str = "quantization") -> GateVerdict:
    return judge([wanted], [given], [TensorSpec("out", "float32", wanted.shape[1:])], kind)


def detector(n: int = 60, seed: int = 0) -> Array:
    """[n, 1, 100, 14]: four box numbers of 0 to 320, ten scores, of which one in twenty-five is loud."""
    rng = np.random.default_rng(seed)
    boxes = rng.uniform(0, 320, (n, 1, 100, 4))
    scores = rng.uniform(0, 0.05, (n, 1, 100, 10))
    loud = rng.random(scores.shape) < 0.04
    scores[loud] = rng.uniform(0.3, 0.95, loud.sum())
    return np.concatenate([boxes, scores], axis=-1).astype(np.float32)


def classifier(n: int = 200) -> Array:
    x, _ = samples(n)
    return source(x)[:, None, :]


def noisy(values: Array, share: float, seed: int = 1) -> Array:
    """With normal noise of `share` of the range, as a quantized inside makes it."""
    size = share * (values.max() - values.min())
    return (values + np.random.default_rng(seed).normal(0, size, values.shape)).astype(np.float32)


# ── quantization: what must be refused ───────────────────────────────────────────────────────────────────────────────


def test_boxes_and_scores_that_share_one_scale_are_refused_though_the_whole_looks_perfect() -> None:
    wanted = detector()
    given = round_to(wanted, 320 / 255, zero=-128)
    verdict = verdict_on(wanted, given)
    assert verdict.outputs[0].cosine > 0.9995
    assert not verdict.passed
    assert {part.part for part in verdict.worst} <= {f"column {i}" for i in range(4, 14)}
    assert "out, column" in verdict.reason
    assert "SQNR" in verdict.reason


def test_an_integer_output_whose_step_is_larger_than_a_part_is_refused_for_that() -> None:
    """Scores that are all close to 1 look right with a step of 1.13: those of other samples will not."""
    wanted = detector()
    wanted[..., 4:] = np.where(wanted[..., 4:] > 0.3, 0.97, 0.0)
    wanted[..., 4:] += np.random.default_rng(0).uniform(0, 0.02, wanted[..., 4:].shape)
    given = round_to(wanted, 1.13, zero=-128, high=255)
    spec = TensorSpec("out", "int8", wanted.shape[1:], 1.13, -128)
    verdict = judge([wanted], [given], [spec], "quantization")
    assert not verdict.passed
    assert "one integer step of this output is 1.13" in verdict.reason


def test_the_same_detector_with_a_scale_for_each_passes() -> None:
    wanted = detector()
    given = np.concatenate(
        [round_to(wanted[..., :4], 320 / 255, zero=-128), round_to(wanted[..., 4:], 1 / 256, zero=-128)], axis=-1
    )
    assert verdict_on(wanted, given).passed
    assert verdict_on(wanted, given).reason.startswith("SQNR ")


def test_a_vector_of_two_ranges_is_taken_apart_too() -> None:
    """A regression of 0…1000 and −2…2 in one tensor."""
    rng = np.random.default_rng(2)
    wanted = np.stack([rng.uniform(0, 1000, 80), rng.uniform(-2, 2, 80)], axis=1)[:, None].astype(np.float32)
    verdict = verdict_on(wanted, round_to(wanted, 1000 / 250, zero=-127))
    assert verdict.outputs[0].cosine > 0.9999
    assert not verdict.passed
    assert verdict.worst[0].part == "column 1"


def test_a_variant_that_is_blind_is_refused_whatever_its_cosine() -> None:
    wanted = (10 + np.random.default_rng(3).normal(0, 1, (100, 1, 8))).astype(np.float32)
    given = np.broadcast_to(wanted.mean(axis=0), wanted.shape).copy()
    verdict = verdict_on(wanted, given)
    assert verdict.outputs[0].cosine > 0.99
    assert not verdict.passed
    assert "the same whatever the sample" in verdict.reason


def test_answers_of_other_samples_are_refused() -> None:
    wanted = (10 + np.random.default_rng(3).normal(0, 1, (100, 1, 8))).astype(np.float32)
    verdict = verdict_on(wanted, np.roll(wanted, 1, axis=0))
    assert not verdict.passed
    assert "after the mean is removed" in verdict.reason


def test_a_classifier_at_ten_percent_is_refused() -> None:
    """As MatMul + Add became BATCH_MATMUL in int8: plausible probabilities of other classes."""
    wanted = classifier()
    verdict = verdict_on(wanted, np.roll(wanted, 3, axis=2))
    assert not verdict.passed
    assert verdict.outputs[0].clear == 0.0


def test_saturated_answers_are_refused() -> None:
    """A scale for a range of a tenth of the real one."""
    wanted = np.random.default_rng(4).uniform(-30, 30, (100, 1, 10)).astype(np.float32)
    assert not verdict_on(wanted, round_to(wanted, 6 / 255)).passed
    assert verdict_on(wanted, round_to(wanted, 60 / 255)).passed


def test_answers_with_nan_are_refused_and_named() -> None:
    wanted = classifier()
    given = wanted.copy()
    given[3, 0, 2] = np.nan
    verdict = verdict_on(wanted, given)
    assert not verdict.passed
    assert "1 numbers are NaN or infinite" in verdict.reason
    assert verdict.worst[0].broken == 1


def test_one_broken_head_among_several_outputs_is_named() -> None:
    wanted, other = classifier(), detector()[:, :, 0, 4:]
    outputs = [TensorSpec("scores", "float32", (1, 10)), TensorSpec("more", "float32", (1, 10))]
    wanted = wanted[:60]
    verdict = judge([wanted, other], [wanted, np.zeros_like(other)], outputs, "quantization")
    assert not verdict.passed
    assert verdict.reason.startswith("more")
    assert len(verdict.outputs) == 2


# ── quantization: what must not be refused ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("share", [0.004, 0.02, 0.04])
def test_a_softmax_classifier_with_the_noise_of_int8_passes(share: float) -> None:
    wanted = classifier()
    assert verdict_on(wanted, round_to(np.clip(noisy(wanted, share), 0, 1), 1 / 256, zero=-128)).passed


def test_a_sure_classifier_that_is_wrong_on_one_in_twenty_is_for_the_budget_to_judge() -> None:
    classes = np.arange(400) % 10
    other = classes.copy()
    other[::20] = (other[::20] + 1) % 10
    wanted, given = (np.eye(10, dtype=np.float32)[c][:, None] * np.float32(0.99) for c in (classes, other))
    assert verdict_on(wanted, given).passed
    assert not verdict_on(wanted, given, "conversion").passed
    other = np.where(np.arange(400) % 2 == 0, classes, (classes + 1) % 10)
    assert not verdict_on(wanted, np.eye(10, dtype=np.float32)[other][:, None]).passed


def test_a_map_of_shares_may_err_at_the_edges() -> None:
    """A mask whose borders move by a pixel, and columns of the picture where there is next to nothing."""
    wanted = np.zeros((20, 1, 1, 32, 48), np.float32)
    wanted[..., 8:24, 10:30] = 1.0
    wanted[3, ..., 2, 46] = 0.2
    given = np.roll(wanted, 1, axis=-1)
    assert verdict_on(wanted, given).passed
    assert not verdict_on(wanted, np.roll(wanted, 16, axis=-1)).passed


def test_classes_that_the_samples_do_not_show_may_be_lost() -> None:
    """A thousand classes of which two hundred samples show a few: int8 rounds the others to 0."""
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 1, (200, 1000))
    logits[np.arange(200), rng.integers(0, 20, 200)] += 12
    wanted = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)[:, None]
    verdict = verdict_on(wanted, round_to(wanted, 1 / 256, zero=-128))
    assert verdict.passed
    assert verdict.parts == 1001


@pytest.mark.parametrize("offset", [0.0, 13.0])
def test_a_small_regression_passes(offset: float) -> None:
    wanted = (offset + np.random.default_rng(6).normal(0, 1, (100, 1, 1))).astype(np.float32)
    span = float(max(wanted.max(), 0) - min(wanted.min(), 0))
    assert verdict_on(wanted, round_to(noisy(wanted, 0.01), span / 255, low=-255, high=255)).passed


def test_features_that_hardly_move_may_be_lost() -> None:
    rng = np.random.default_rng(7)
    wanted = np.abs(rng.normal(0, 3, (100, 1, 256))).astype(np.float32)
    wanted[..., :4] *= 0.002
    given = round_to(wanted, float(wanted.max()) / 255, zero=-128)
    assert verdict_on(wanted, given).passed
    wanted[..., :60] *= 0.002
    assert not verdict_on(wanted, round_to(wanted, float(wanted.max()) / 255, zero=-128)).passed


def test_what_the_source_always_answers_is_no_reason() -> None:
    wanted = classifier()
    still = np.concatenate([wanted, np.zeros_like(wanted[..., :1])], axis=2)
    assert verdict_on(still, round_to(still, 1 / 256, zero=-128)).passed


def test_one_sample_can_be_judged() -> None:
    wanted = classifier(1)
    assert verdict_on(wanted, round_to(wanted, 1 / 256, zero=-128)).passed
    assert not verdict_on(wanted, np.roll(wanted, 1, axis=2)).passed


# ── conversion ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("error", [0.0, 1e-7, 1e-4])
def test_a_float_conversion_may_round(error: float) -> None:
    wanted = detector()
    assert verdict_on(wanted, (wanted * (1 + error)).astype(np.float32), "conversion").passed


@pytest.mark.parametrize("broken", ["two percent", "another class", "one wrong element", "columns swapped"])
def test_a_float_conversion_may_not_change(broken: str) -> None:
    wanted = classifier()
    given = wanted.copy()
    if broken == "two percent":
        given = wanted * np.float32(1.02)
    elif broken == "another class":
        given[:10] = np.roll(given[:10], 1, axis=2)
    elif broken == "one wrong element":
        given[7, 0, 3] += 0.2
    else:
        given[..., [1, 2]] = given[..., [2, 1]]
    assert not verdict_on(wanted, given, "conversion").passed


def test_a_mangled_layout_is_refused() -> None:
    """Channels first read as channels last: the same numbers in another order."""
    wanted = np.random.default_rng(8).normal(size=(30, 1, 8, 8, 3)).astype(np.float32)
    given = np.ascontiguousarray(wanted.transpose(0, 1, 4, 2, 3)).reshape(wanted.shape)
    for kind in gate.LIMITS:
        assert not verdict_on(wanted, given, kind).passed


def test_a_failed_step_raises_and_says_what_to_do() -> None:
    wanted = classifier()
    verdict = verdict_on(wanted, np.roll(wanted, 1, axis=2), "conversion")
    with pytest.raises(GateError, match=r"m\.onnx: onnx float32 does not compute what its source does: out") as caught:
        verdict.require("m.onnx: onnx float32")
    assert "layout" in str(caught.value.hint)
    verdict_on(wanted, wanted).require("fine")


# ── with real models in the engine ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("format_name", ["tflite", "onnx"])
def test_good_variants_pass_and_a_wrong_scale_of_calibration_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_name: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    inline.patch(monkeypatch)
    maker = tiny_tflite if format_name == "tflite" else tiny_onnx
    facts = registry.inspect(maker(tmp_path / f"m.{format_name}", "float32").path)
    x, _ = samples(200)
    data = Dataset({"image": x.reshape(200, *SHAPE)})
    target = registry.target(format_name)

    def verdict(precision: str, calibration: Dataset) -> GateVerdict:
        variant = target.build(facts, Scheme(precision), calibration, tmp_path / "c", Reporter())
        return gate.check(facts, variant, data)

    exact = verdict("float32", data)
    assert (exact.kind, exact.passed, exact.samples) == ("conversion", True, 200)
    good = verdict("int8", data)
    assert (good.kind, good.passed) == ("quantization", True)
    wrong = verdict("int8", Dataset({"image": data.inputs["image"] / np.float32(255)}))
    assert not wrong.passed
    assert "calibration" in gate._HINTS[wrong.kind]
