"""The check's verdict: what is measured, what is proven, what is refused, and the line that says it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeship.dataset import Dataset
from edgeship.errors import InputError, UsageError
from edgeship.optimize import paired, quality
from edgeship.optimize.agreement import agreeing
from edgeship.optimize.gate import GateVerdict
from edgeship.optimize.quality import Verdict, judge, signed
from edgeship.reporter import Reporter
from edgeship.runtime.manifest import TensorSpec
from edgeship.targets import registry
from edgeship.targets.scheme import Scheme
from tests.simulators import inline
from tests.simulators.models import SHAPE, samples, tiny_onnx, tiny_tflite

SCORES = TensorSpec("p", "float32", (1, 10))


@dataclass(frozen=True)
class Budget:
    max_drop: float = 1.0
    max_class_drop: float = 5.0


def scores(classes: NDArray[np.int64]) -> NDArray[np.float32]:
    """Answers [n, 1, 10] whose highest score is the class."""
    out = np.full((len(classes), 1, 10), 0.01, np.float32)
    out[np.arange(len(classes)), 0, classes] = 0.9
    return out


def verdict_of(
    lost: int = 0, gained: int = 0, n: int = 1000, budget: Budget | None = None, spread: bool = True
) -> Verdict:  # fmt: skip
    """A source that is wrong on the last `gained` samples, a variant that is wrong on the first `lost`."""
    truth = np.arange(n) % 10 if spread else np.sort(np.arange(n) % 10)
    source, variant = truth.copy(), truth.copy()
    variant[:lost] = (variant[:lost] + 1) % 10
    if gained:
        source[-gained:] = (source[-gained:] + 1) % 10
    return judge(
        [scores(source)], [scores(variant)], [SCORES], budget or Budget(), truth=truth.astype(np.int32),
    )  # fmt: skip


def test_equal_answers_pass_and_lose_nothing() -> None:
    verdict = verdict_of()
    assert (verdict.float_value, verdict.variant_value, verdict.drop, verdict.agreement) == (1.0, 1.0, 0.0, 1.0)
    assert verdict.passed
    assert verdict.max_abs == 0.0
    assert len(verdict.classes) == 10


def test_a_drop_is_positive_when_the_variant_is_worse_and_shown_as_the_change() -> None:
    verdict = verdict_of(lost=4, gained=1)
    assert verdict.drop == pytest.approx(0.3)
    assert verdict.interval[0] < 0.3 < verdict.interval[1]
    assert verdict.summary.startswith("top-1 99.9 % → 99.6 % (−0.3 of 1.0 allowed; interval −")
    better = verdict_of(gained=5)
    assert better.drop == pytest.approx(-0.5)
    assert "(+0.5 of 1.0 allowed; interval +0.1 … +" in better.summary


def test_the_line_is_the_one_of_the_design() -> None:
    verdict = verdict_of(lost=1)
    assert verdict.summary == (
        "top-1 100.0 % → 99.9 % (−0.1 of 1.0 allowed; interval −0.6 … +0.3; n=1000)"
        f'   worst class "0": −1 of 100   class limit not proven, needs n ≥ {verdict.needs_n:,}'
    )
    assert (verdict.passed, verdict.proven) == (True, False)


def test_measured_above_the_limit_fails() -> None:
    verdict = verdict_of(lost=11)
    assert not verdict.passed
    assert not verdict.proven
    assert verdict.needs_n is None
    assert verdict_of(lost=10).passed


def test_the_whole_interval_within_is_proven() -> None:
    verdict = verdict_of(n=5000, budget=Budget(1.0, 5.0))
    assert verdict.proven
    assert "proven" not in verdict.summary
    assert verdict.needs_n is None


def test_between_it_passes_and_says_how_many_samples_would_prove_it() -> None:
    verdict = verdict_of(lost=6)
    assert (verdict.passed, verdict.proven) == (True, False)
    assert verdict.needs_n is not None
    assert verdict.needs_n > 1000
    assert f"   not proven, needs n ≥ {verdict.needs_n:,}" in verdict.summary
    at_limit = verdict_of(lost=10)
    assert at_limit.needs_n is None
    assert at_limit.summary.endswith("not proven: at the limit")


def test_what_one_class_needs_is_told_in_samples_of_all() -> None:
    """A tenth of the samples is of each class: to have more of one, all of them must grow."""
    verdict = verdict_of(lost=10, n=1000, budget=Budget(5.0, 4.0))
    assert (verdict.passed, verdict.proven) == (True, False)
    one = paired.needed(1, 0, 100, 0.04)
    assert one is not None
    assert verdict.needs_n == 10 * one


def test_what_the_gate_refuses_fails_whatever_it_loses() -> None:
    fine = verdict_of(n=5000)
    refused = GateVerdict("quantization", False, (), (), 1, 5000, "out: it answers the same whatever the sample")
    verdict = quality.gated(fine, refused)
    assert (fine.passed, fine.proven) == (True, True)
    assert (verdict.passed, verdict.proven, verdict.needs_n) == (False, False, None)
    assert verdict.summary.endswith("refused by the numeric gate: out: it answers the same whatever the sample")
    assert quality.gated(fine, replace(refused, passed=True)).passed


def test_one_lost_class_fails_though_the_whole_holds() -> None:
    verdict = verdict_of(lost=8, spread=False)
    assert verdict.drop == pytest.approx(0.8)
    assert not verdict.passed
    assert verdict.worst_class is not None
    assert (verdict.worst_class.label, verdict.worst_class.lost, verdict.worst_class.samples) == (0, 8, 100)
    assert 'worst class "0": −8 of 100 (−8.0 of 5.0 allowed)' in verdict.summary


def test_classes_go_by_their_names() -> None:
    truth = np.arange(20) % 10
    names = [f"digit {i}" for i in range(10)]
    verdict = judge([scores(truth)], [scores(truth)], [SCORES], Budget(), truth=truth.astype(np.int32), labels=names)
    assert [c.name for c in verdict.classes] == names
    assert 'worst class "digit 0": ±0 of 2' in verdict.summary


def test_answers_with_nan_are_wrong_and_do_not_agree() -> None:
    truth = np.zeros(50, np.int64)
    broken = scores(truth)
    broken[:, 0, 0] = np.nan
    verdict = judge([scores(truth)], [broken], [SCORES], Budget(), truth=truth.astype(np.int32))
    assert (verdict.variant_value, verdict.agreement, verdict.passed) == (0.0, 0.0, False)
    assert np.isfinite(verdict.max_abs)


def test_the_largest_difference_of_an_output_that_is_no_number_is_no_small_one() -> None:
    fine, broken = (np.full((4, 1, 10), value, np.float32) for value in (0.1, np.nan))
    for given in ([fine, broken], [broken, fine]):
        verdict = judge([fine, fine], given, [SCORES, replace(SCORES, name="q")], Budget())
        assert verdict.max_abs == np.finfo(np.float32).max


def test_a_label_without_a_class_is_refused() -> None:
    with pytest.raises(InputError, match="the label 10, the model has the classes 0 to 9"):
        judge([scores(np.zeros(3, np.int64))] * 1, [scores(np.zeros(3, np.int64))], [SCORES], Budget(),
              truth=np.array([0, 1, 10], np.int32))  # fmt: skip


def test_agreement_needs_no_labels() -> None:
    classes = np.arange(200) % 10
    other = classes.copy()
    other[0] = 9
    verdict = judge([scores(classes)], [scores(other)], [SCORES], Budget(), metric="agreement")
    assert verdict.metric == "agreement"
    assert (verdict.float_value, verdict.variant_value) == (1.0, 0.995)
    assert verdict.classes == ()
    assert verdict.worst_class is None
    assert verdict.summary.startswith("agreement 100.0 % → 99.5 %")


def test_columns_are_judged_apart() -> None:
    """Boxes of 0 to 320 and scores of 0 to 1 in one tensor: an error of 0.6 is nothing to a box and all to a score."""
    rng = np.random.default_rng(0)
    wanted = np.concatenate([rng.random((50, 20, 4)) * 320, rng.random((50, 20, 1))], axis=2).astype(np.float32)
    spec = TensorSpec("detections", "float32", (20, 5))
    boxes, lost = wanted.copy(), wanted.copy()
    boxes[..., :4] += 0.6
    lost[..., 4] += 0.6
    assert agreeing([wanted], [boxes], [spec]).all()
    assert not agreeing([wanted], [lost], [spec]).any()


def test_the_manifest_gets_what_was_measured() -> None:
    assert verdict_of(lost=1).measured() == {
        "metric": "top1", "float": 1.0, "variant": 0.999, "samples": 1000, "drop_interval": [-0.283, 0.564],
    }  # fmt: skip


@pytest.mark.parametrize(("value", "text"), [(0.04, "±0.0"), (-0.04, "±0.0"), (-0.06, "−0.1"), (12.34, "+12.3")])
def test_changes_carry_their_sign(value: float, text: str) -> None:
    assert signed(value) == text


# ── slices, small classes, other metrics ────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class SliceBudget(Budget):
    max_slice_drop: float | None = None


def sliced(lost: int, budget: Budget, n: int = 1000) -> Verdict:
    """The variant is wrong on `lost` of the 200 samples at night, spread over the classes."""
    truth = np.arange(n) % 10
    given = truth.copy()
    given[:lost] = (given[:lost] + 1) % 10
    night = np.arange(n) < 200
    return judge(
        [scores(truth)], [scores(given)], [SCORES], budget, truth=truth.astype(np.int32),
        slices={"night": night, "day": ~night, "nobody": np.zeros(n, bool)},
    )  # fmt: skip


def test_a_lost_slice_fails_though_the_whole_and_every_class_hold() -> None:
    verdict = sliced(9, SliceBudget(max_slice_drop=4.0))
    assert verdict.drop == pytest.approx(0.9)
    assert not verdict.passed
    assert verdict.worst_slice is not None
    assert (verdict.worst_slice.name, verdict.worst_slice.samples, verdict.worst_slice.lost) == ("night", 200, 9)
    assert 'worst slice "night": −9 of 200 (−4.5 of 4.0 allowed)' in verdict.summary
    assert [s.name for s in verdict.slices] == ["night", "day"], "an empty slice has nothing to say"


def test_without_a_limit_of_their_own_slices_have_that_of_classes() -> None:
    assert sliced(9, Budget()).passed
    assert not sliced(9, Budget(1.0, 4.0)).passed
    assert sliced(9, SliceBudget(1.0, 50.0, None)).passed
    open_slice = sliced(6, SliceBudget(2.0, 50.0, 4.0))
    assert (open_slice.passed, open_slice.proven) == (True, False)
    assert "slice limit not proven, needs n ≥ " in open_slice.summary


def test_one_sample_of_a_rare_class_does_not_fail_it_nor_prove_it() -> None:
    truth = np.concatenate([np.arange(2000) % 5, [7, 7, 7]])
    given = truth.copy()
    given[-1] = 0
    verdict = judge([scores(truth)], [scores(given)], [SCORES], Budget(), truth=truth.astype(np.int32))
    assert (verdict.passed, verdict.proven) == (True, False)
    assert [(c.name, c.few) for c in verdict.classes if c.few] == [("7", True)]
    assert '   class "7": −33.3 of n=3, too few to judge' in verdict.summary
    assert verdict.worst_class is not None
    assert verdict.worst_class.name != "7", "what can be judged comes first"


def test_a_rare_class_that_is_surely_lost_fails() -> None:
    truth = np.concatenate([np.arange(2000) % 5, np.full(12, 7)])
    given = truth.copy()
    given[-12:] = 0
    verdict = judge([scores(truth)], [scores(given)], [SCORES], Budget(), truth=truth.astype(np.int32))
    assert verdict.drop < 1.0
    assert not verdict.passed
    assert verdict.worst_class is not None
    assert verdict.worst_class.name == "7"


def test_data_of_one_class_and_of_one_sample_is_judged_as_what_it_is() -> None:
    one_class = judge([scores(np.zeros(500, np.int64))] * 1, [scores(np.zeros(500, np.int64))], [SCORES],
                      Budget(), truth=np.zeros(500, np.int32))  # fmt: skip
    assert [c.samples for c in one_class.classes] == [500]
    assert one_class.proven
    one = judge([scores(np.zeros(1, np.int64))], [scores(np.zeros(1, np.int64))], [SCORES], Budget(),
                truth=np.zeros(1, np.int32))  # fmt: skip
    assert (one.passed, one.proven, one.samples) == (True, False, 1)
    assert "n=1, too few to judge" in one.summary
    assert one.needs_n is not None


def test_an_error_that_grows_is_a_drop_and_is_shown_as_a_plus() -> None:
    rng = np.random.default_rng(0)
    targets = rng.uniform(0, 10, (300, 1)).astype(np.float32)
    source = targets + rng.normal(0, 0.2, targets.shape).astype(np.float32)
    variant = source + np.float32(0.3) * np.sign(source - targets)
    spec = TensorSpec("y", "float32", (1,))
    verdict = judge([source], [variant], [spec], Budget(), targets=targets)
    assert verdict.metric == "mae"
    assert verdict.drop == pytest.approx(3.0, abs=0.1)
    assert not verdict.passed
    assert "MAE " in verdict.summary
    assert "(+3.0 of 1.0 allowed; interval +" in verdict.summary
    assert judge([source], [source + np.float32(1e-4)], [spec], Budget(), targets=targets).proven
    rmse = judge([source], [variant], [spec], Budget(), targets=targets, metric="rmse")
    assert rmse.drop > 0
    assert rmse.interval[0] < rmse.drop < rmse.interval[1]


def test_agreement_goes_by_class_where_there_are_labels() -> None:
    truth = np.arange(300) % 3
    given = truth.copy()
    given[truth == 2] = 5
    verdict = judge(
        [scores(truth)], [scores(given)], [SCORES], Budget(50, 50), metric="agreement", truth=truth.astype(np.int32)
    )
    assert not verdict.passed
    assert verdict.worst_class is not None
    assert (verdict.worst_class.label, verdict.worst_class.variant_value) == (2, 0.0)


# ── with real models in the engine ───────────────────────────────────────────────────────────────────────────────────


def data(n: int = 200) -> Dataset:
    x, labels = samples(n)
    return Dataset({"image": x.reshape(n, *SHAPE)}, labels)


@pytest.mark.parametrize("format_name", ["tflite", "onnx"])
def test_a_good_variant_passes_and_a_wrongly_calibrated_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_name: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    inline.patch(monkeypatch)
    maker = tiny_tflite if format_name == "tflite" else tiny_onnx
    facts = registry.inspect(maker(tmp_path / f"m.{format_name}", "float32").path)
    target, folder = registry.target(format_name), tmp_path / "c"
    good = target.build(facts, Scheme("int8"), data(100), folder, Reporter())
    verdict = quality.check(facts, good, data(), Budget(), threads=1, reporter=Reporter())
    assert verdict.passed
    assert verdict.agreement > 0.98
    assert verdict.gate is not None
    assert verdict.gate.passed
    wrong = Dataset({"image": data(100).inputs["image"] / np.float32(255)})
    bad = target.build(facts, Scheme("int8"), wrong, folder, Reporter())
    assert not quality.check(facts, bad, data(), Budget()).passed
    anything = quality.check(facts, bad, data(), Budget(100, 100))
    assert not anything.passed, "the gate refuses it though the budget allows everything"
    assert not anything.proven
    assert "refused by the numeric gate: " in anything.summary


def test_a_source_that_answers_nan_is_at_fault_and_no_variant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    inline.patch(monkeypatch)
    facts = registry.inspect(tiny_onnx(tmp_path / "m.onnx").path)
    variant = registry.target("onnx").build(facts, Scheme("int8"), None, tmp_path / "c", Reporter())
    evaluation = data().take(10, 0)
    whole = registry.source_answers(facts, variant, evaluation, Reporter())[0]

    def answer(count: int) -> None:
        answers = whole.copy()
        answers[:count, ..., 1] = np.nan
        monkeypatch.setattr(registry, "source_answers", lambda *_args: (answers,))

    answer(6)
    with pytest.raises(InputError, match=r"m\.onnx: the model itself answers NaN on 6 of 10 samples") as caught:
        quality.check(facts, variant, evaluation, Budget())
    assert "prepared as in training" in str(caught.value.hint)
    answer(5)
    assert not quality.check(facts, variant, evaluation, Budget()).passed


def test_metrics_need_what_they_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    inline.patch(monkeypatch)
    facts = registry.inspect(tiny_tflite(tmp_path / "m.tflite").path)
    variant = registry.target("tflite").build(facts, Scheme("int8"), None, tmp_path / "c", Reporter())
    bare = replace(data(), labels=None)
    with pytest.raises(UsageError, match="needs labels") as caught:
        quality.check(facts, variant, bare, Budget(), metric="top1")
    assert "agreement" in str(caught.value.hint)
    with pytest.raises(UsageError, match="unknown metric 'f2'"):
        quality.check(facts, variant, bare, Budget(), metric="f2")
    assert quality.check(facts, variant, bare, Budget()).metric == "agreement"
    assert quality.check(facts, variant, data(), Budget(), metric="agreement").variant_value == 1.0
