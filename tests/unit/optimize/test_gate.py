"""The gate refuses what computes something else, and lets good int8 through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeship.dataset import Dataset
from edgeship.errors import GateError
from edgeship.model import ModelFacts
from edgeship.optimize import gate
from edgeship.optimize.gate import GateVerdict, judge
from edgeship.optimize.parts import PartError
from edgeship.reporter import Reporter
from edgeship.runtime.manifest import TensorSpec
from edgeship.targets import registry
from edgeship.targets.scheme import Scheme
from tests.simulators import inline
from tests.simulators.models import SHAPE, samples, source, tiny_onnx, tiny_tflite
from tests.simulators.searched import candidate, variant

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


# ── the limits, one by one ───────────────────────────────────────────────────────────────────────────────────────────


def part(**changes: Any) -> PartError:
    """A part that is as good as int8 makes it, but for `changes`."""
    good: dict[str, Any] = {
        "output": "out", "part": "column 0", "axis": "column", "elements": 1, "low": 0.0, "high": 10.0, "unit": False,
        "loud": 10.0, "cosine": 0.99, "sqnr_db": 20.0, "centred": 0.95, "varies": 0.3, "rms": 0.05, "worst": 0.3,
        "broken": 0, "constant": False,
    }  # fmt: skip
    return PartError(**good | changes)


UNIT: dict[str, Any] = {"unit": True, "high": 1.0, "loud": 1.0}


@pytest.mark.parametrize(
    ("changes", "more", "words"),
    [
        ({}, {}, None),
        # agreement counts from five clear samples on
        ({"clear": 0.79, "clear_samples": 5}, {}, "the highest score is the source's in 79% of 5 clear samples"),
        ({"clear": 0.80, "clear_samples": 5}, {}, None),
        ({"clear": 0.0, "clear_samples": 4}, {}, None),
        # a class that the samples do not show is judged in the range of the loudest
        ({**UNIT, "high": 0.049, "sqnr_db": -20.0, "worst": 10.0}, {"loudest": 1.0}, None),
        ({**UNIT, "high": 0.049, "sqnr_db": 50.0, "worst": 10.3}, {"loudest": 1.0}, "off by up to 50% of its range"),
        ({**UNIT, "high": 0.051, "sqnr_db": -20.0, "worst": 10.0}, {"loudest": 1.0}, "SQNR"),
        ({"high": 0.049, "sqnr_db": -20.0, "worst": 10.0}, {"loudest": 1.0}, "SQNR"),
        # eight integer steps a part, but for the step that shares cannot be without
        ({"high": 0.8}, {"scale": 0.101}, "one integer step of this output is 0.101"),
        ({"high": 0.8}, {"scale": 0.1}, None),
        ({"high": 0.8, "varies": 0.0}, {"scale": 0.4}, None),
        ({**UNIT, "high": 0.02}, {"scale": 1 / 256}, None),
        ({**UNIT, "high": 0.02}, {"scale": 1 / 255}, "one integer step"),
        # small errors are nobody's fault, a large one is, however small its mean
        ({"rms": 1 / 64, "worst": 0.25, "sqnr_db": -5.0}, {}, None),
        ({"rms": 1 / 64, "worst": 0.26, "sqnr_db": -5.0}, {}, "SQNR"),
        ({"rms": 1 / 63, "worst": 0.25, "sqnr_db": -5.0}, {}, "SQNR"),
        ({**UNIT, "high": 0.1, "rms": 0.039, "worst": 0.117, "sqnr_db": -5.0}, {}, None),
        ({**UNIT, "high": 0.1, "rms": 0.040, "worst": 0.117, "sqnr_db": -5.0}, {}, "SQNR"),
        # blind, lost in noise, or about other samples
        ({"constant": True, "varies": 0.016}, {}, "it answers the same whatever the sample"),
        ({"constant": True, "varies": 0.015}, {}, None),
        ({"sqnr_db": 11.9}, {}, "SQNR 11.9 dB, at least 12 are wanted"),
        ({"sqnr_db": 12.0}, {}, None),
        ({"centred": 0.79, "varies": 0.06}, {}, "cosine 0.790 after the mean is removed (0.9900 with it)"),
        ({"centred": 0.80, "varies": 0.06}, {}, None),
        ({"centred": 0.0, "varies": 0.03}, {}, None),
        ({"broken": 1, "rms": 0.0, "worst": 0.0}, {}, "1 numbers are NaN or infinite"),
    ],
)  # fmt: skip
def test_each_limit_of_a_quantization_is_where_it_says(
    changes: dict[str, Any], more: dict[str, float], words: str | None
) -> None:
    found = gate._complaint(part(**changes), gate.QUANTIZATION, **more)
    assert (found is None) == (words is None)
    assert words is None or found is None or found.words.startswith(words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sqnr_db": 60.0, "centred": 1.0, "worst": 0.05, "rms": 0.002}, None),
        ({"sqnr_db": 60.0, "centred": 1.0, "worst": 0.051, "rms": 0.002}, "off by up to 5%"),
        ({"sqnr_db": 39.9, "centred": 1.0, "worst": 0.02}, "SQNR"),
        ({"sqnr_db": 60.0, "centred": 0.9989, "worst": 0.02}, "cosine"),
        # beside boxes in the hundreds float32 has no digits for what is a millionth of them
        ({"high": 1e-4, "loud": 100.0, "rms": 0.9, "worst": 2.9, "sqnr_db": -5.0}, None),
        ({"high": 1e-4, "loud": 10.0, "rms": 0.9, "worst": 2.9, "sqnr_db": -5.0}, "off by up to"),
    ],
)
def test_each_limit_of_a_conversion_is_where_it_says(changes: dict[str, Any], words: str | None) -> None:
    found = gate._complaint(part(**changes), gate.CONVERSION)
    assert (found is None) == (words is None)
    assert words is None or found is None or found.words.startswith(words)


def test_one_lost_column_is_forgiven_of_features_and_of_pictures_alone() -> None:
    rng = np.random.default_rng(9)
    picture = np.zeros((20, 1, 64, 64), np.float32)
    picture[:, :, 8:24, 10:30] = 1.0
    picture[3, 0, 2, 60] = 0.9
    lost = picture.copy()
    lost[3, 0, 2, 60] = 0.0
    assert verdict_on(picture, lost).passed
    table = np.concatenate([rng.uniform(0, 320, (20, 1, 100, 4)), rng.uniform(0, 1, (20, 1, 100, 96))], axis=-1)
    wanted = table.astype(np.float32)
    given = wanted.copy()
    given[..., 50] = 0.5
    verdict = verdict_on(wanted, given)
    assert not verdict.passed
    assert {e.part for e in verdict.worst} == {"column 50"}


def test_a_number_that_is_none_is_named_by_its_part_among_features_too() -> None:
    wanted = np.random.default_rng(7).normal(0, 3, (100, 1, 256)).astype(np.float32)
    given = wanted.copy()
    given[5, 0, 17] = np.inf
    verdict = verdict_on(wanted, given)
    assert not verdict.passed
    assert [e.part for e in verdict.worst] == ["", "column 17"]


@pytest.mark.parametrize(
    ("source_is", "variant_is", "kind"),
    [
        ("float32", "float32", "conversion"), ("float32", "float16", "conversion"), ("int8", "int8", "conversion"),
        ("dynamic", "dynamic", "conversion"), ("float32", "dynamic", "quantization"),
        ("float32", "int8-weights", "quantization"), ("float32", "int8", "quantization"),
        ("float32", "int16x8", "quantization"), ("dynamic", "int8", "quantization"),
    ],
)  # fmt: skip
def test_limits_are_tight_where_nothing_was_rounded(source_is: str, variant_is: str, kind: str) -> None:
    facts = ModelFacts(Path("m"), "tflite", "ab" * 32, 100, source_is, (), (), {}, 5)
    assert gate.kind_of(facts, variant(candidate(f"tflite {variant_is}"))) == kind


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


def test_shares_of_a_thousand_classes_that_are_rounded_to_nothing_are_refused() -> None:
    """A MobileNetV2 that was never trained: every class has 0.001, and the step of an int8 softmax is 1/256."""
    rng = np.random.default_rng(0)
    even = rng.uniform(0.9, 1.1, (40, 1, 1000))
    wanted = np.asarray(even / even.sum(axis=-1, keepdims=True), np.float32)
    spec = TensorSpec("out", "int8", (1, 1000), 1 / 256, -128)
    given = np.zeros_like(wanted)
    verdict = judge([wanted], [given], [spec], "quantization")
    assert not verdict.passed
    assert "100% of its answers are nothing but 0, though shares are 1 in all" in verdict.reason
    assert "one integer step of it is 0.00391, its highest share 0.001" in verdict.reason
    few = np.asarray(np.round(wanted * 4096) / 4096, np.float32)
    few[:4] = 0
    assert judge([wanted], [few], [spec], "quantization").passed  # how many may be lost is for the budget


def test_a_model_that_selects_rows_is_refused_with_the_way_out() -> None:
    """After a NonMaxSuppression one box that changes places moves all behind it: rows cannot be compared."""
    wanted = np.random.default_rng(0).normal(size=(12, 1, 8)).astype(np.float32)
    spec = TensorSpec("boxes", "float32", (1, 8))
    lost, kept = (judge([wanted], [got], [spec], "quantization") for got in (wanted[::-1].copy(), wanted))
    told = gate.selecting(lost, ("Conv", "NonMaxSuppression"))
    assert not told.passed
    assert told.reason.startswith(lost.reason)
    assert "NonMaxSuppression selects rows by score" in told.reason
    assert "cut it off the model" in told.reason
    assert gate.selecting(lost, ("Conv", "Relu")) is lost
    assert gate.selecting(kept, ("Conv", "TopK")) is kept
