"""Rounds, and who goes on from one to the next."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeship.optimize.quality import Verdict
from edgeship.optimize.search.evaluate import Limits, Outcome
from edgeship.optimize.search.halving import again, rank, rounds, survivors
from tests.simulators.searched import candidate, outcome

INT8 = ["tflite int8", "tflite int8 moving-average", "tflite int8 percentile", "tflite int8 entropy", "tflite int8 mse"]


@pytest.mark.parametrize(
    ("samples", "sizes"),
    [(1, (1,)), (255, (255,)), (256, (128, 256)), (1000, (128, 1000)), (5000, (128, 512, 2048, 5000))],
)
def test_rounds_grow_and_the_last_sees_all(samples: int, sizes: tuple[int, ...]) -> None:
    assert rounds(samples) == sizes


def test_the_better_half_of_a_family_goes_on() -> None:
    outcomes = [outcome(name, lost) for name, lost in zip(INT8, (5, 3, 4, 2, 1), strict=True)]
    kept, gone = survivors(outcomes, Limits())
    assert [c.name for c in kept] == ["tflite int8 moving-average", "tflite int8 entropy", "tflite int8 mse"]
    assert {g.candidate.name: g.why for g in gone} == {
        "tflite int8": "fifth of 5 choices of ranges on 1,000 samples",
        "tflite int8 percentile": "fourth of 5 choices of ranges on 1,000 samples",
    }  # fmt: skip


def test_families_are_not_halved_against_each_other() -> None:
    outcomes = [outcome("tflite int8", 400), outcome("tflite float32"), outcome("onnx int8", 2)]
    kept, gone = survivors(outcomes, Limits())
    assert len(kept) == 3
    assert not gone


def test_who_is_proven_to_lose_too_much_leaves_but_the_best_of_its_family_stays() -> None:
    """The best stays although it fails: mixed precision starts from it."""
    outcomes = [outcome(name, lost) for name, lost in zip(INT8[:4], (300, 200, 500, 500), strict=True)]
    kept, gone = survivors(outcomes, Limits())
    assert [c.name for c in kept] == ["tflite int8 moving-average"]
    assert "at least 27.2 points lost on 1,000 samples" in {g.why for g in gone}


def test_after_the_last_round_one_of_each_family_is_left() -> None:
    outcomes = [outcome(INT8[0], 2), outcome(INT8[1], 1), outcome("tflite float32")]
    kept, _ = survivors(outcomes, Limits(), last=True)
    assert [c.name for c in kept] == ["tflite int8 moving-average", "tflite float32"]


def test_who_left_on_few_samples_comes_back_where_the_last_of_its_family_breaks_the_budget() -> None:
    last, early, lost = outcome(INT8[0], 20), outcome(INT8[1], 3, n=128), outcome(INT8[2], 60, n=128)
    other, full = outcome("tflite float32"), outcome(INT8[3], 30)
    judged = [last, early, lost, other, full, outcome("onnx int8", 0, n=128)]

    def holds(verdict: Verdict) -> bool:
        return verdict.passed

    assert [c.name for c in again([last, other], judged, Limits(), holds)] == [INT8[1]], (
        "not who is proven to lose too much, nor who saw everything, nor another family"
    )
    assert not again([outcome(INT8[0], 2), other], judged, Limits(), holds)
    assert early.variant is not None
    same = replace(last, variant=early.variant)
    assert not again([same, other], judged, Limits(), holds), "the same file says the same"


def test_in_the_end_one_that_holds_every_limit_comes_before_one_that_loses_less_and_breaks_that_of_a_class() -> None:
    less, whole = outcome(INT8[0], 1), outcome(INT8[1], 3)
    assert less.verdict is not None
    less = replace(less, verdict=replace(less.verdict, passed=False))
    assert [c.name for c in survivors([less, whole], Limits(), last=True)[0]] == ["tflite int8 moving-average"]
    assert [c.name for c in survivors([less, whole], Limits())[0]] == ["tflite int8"], (
        "few samples say little of classes"
    )


def test_of_equal_losses_the_answers_nearer_to_the_source_are_better() -> None:
    verdict = outcome(INT8[0], 3).verdict
    assert verdict is not None
    alike, close = replace(verdict, agreement=verdict.agreement - 0.1), replace(verdict, max_abs=verdict.max_abs + 1)
    assert rank(verdict) < rank(close) < rank(alike) < rank(outcome(INT8[0], 4).verdict) < rank(None)


def test_equal_files_are_judged_once() -> None:
    outcomes = [outcome(INT8[0], sha="aa" * 32), outcome(INT8[3], sha="aa" * 32), outcome(INT8[4], 1)]
    kept, gone = survivors(outcomes, Limits())
    assert [c.name for c in kept] == ["tflite int8"]
    assert gone[0].why == "the same file as tflite int8"


def test_what_could_not_be_made_leaves_with_its_reason() -> None:
    kept, gone = survivors([Outcome(candidate("onnx int8"), 0, error="no such operator")], Limits())
    assert (kept, gone[0].why) == ([], "no such operator")
