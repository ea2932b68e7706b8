"""Metrics by name: what is right, how far off an answer is, and what the data must hold."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeship.errors import InputError, UsageError
from edgeship.optimize import metrics
from edgeship.optimize.answers import Answers
from edgeship.optimize.drops import Drop
from edgeship.runtime.manifest import TensorSpec

Array = NDArray[np.float32]


def drop_of(
    metric: str, expected: Array, given: Array, labels: list[int] | None = None, targets: Array | None = None
) -> Drop:
    truth = None if labels is None else np.array(labels, np.int32)
    answers = Answers([expected], [given], [TensorSpec("o", "float32", expected.shape[1:])], truth, targets)
    return metrics.compare(metric, answers).drop(np.arange(len(expected)))


SCORES = np.array([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3], [0.2, 0.2, 0.6]], np.float32)


@pytest.mark.parametrize(("metric", "value"), [("top1", 1 / 3), ("top2", 2 / 3), ("top3", 1.0), ("top5", 1.0)])
def test_top_k(metric: str, value: float) -> None:
    assert drop_of(metric, SCORES, SCORES, [0, 2, 1]).before == pytest.approx(value)


def test_of_equal_scores_the_first_class_is_the_higher_in_every_top() -> None:
    equal = np.full((4, 4), 0.25, np.float32)
    truth = np.arange(4, dtype=np.int32)
    assert [metrics.right(equal, truth, k).sum() for k in (1, 2, 3, 4)] == [1, 2, 3, 4]


@pytest.mark.parametrize("metric", ["top1", "top2", "f1", "cosine", "agreement"])
def test_answers_with_nan_are_wrong(metric: str) -> None:
    given = SCORES.copy()
    given[0, 2] = np.nan
    drop = drop_of(metric, SCORES, given, [0, 1, 2])
    assert drop.before == 1.0
    assert drop.after < 0.8
    assert np.isfinite(drop.value)


def test_answers_with_nan_are_as_far_off_as_the_range_is_wide() -> None:
    targets = np.array([[0.0], [5.0], [10.0]], np.float32)
    given = targets.copy()
    given[1] = np.nan
    assert drop_of("mae", targets, given, targets=targets).after == pytest.approx(1 / 3)


def test_one_number_a_sample_is_the_score_of_class_one() -> None:
    shares = np.array([[0.2], [0.7], [0.9]], np.float32)
    assert drop_of("top1", shares, shares, [0, 1, 1]).before == 1.0
    logits = np.array([[-3.0], [0.2], [4.0]], np.float32)
    assert drop_of("top1", logits, logits, [0, 1, 0]).before == pytest.approx(2 / 3)
    assert drop_of("f1-binary", logits, logits, [0, 1, 0]).before == pytest.approx(2 / 3)


def test_errors_are_parts_of_the_range_of_the_targets_in_each_column() -> None:
    targets = np.array([[0, 0.0], [100, 1.0]], np.float32)
    given = targets + np.array([10, 0.1], np.float32)
    assert drop_of("mae", targets, given, targets=targets).after == pytest.approx(0.1)
    uneven = targets + np.array([[0, 0], [20, 0.2]], np.float32)
    assert drop_of("rmse", targets, uneven, targets=targets).after == pytest.approx(0.2 / np.sqrt(2))
    assert drop_of("mae", targets, given, targets=targets).value == pytest.approx(10.0)


@pytest.mark.parametrize("metric", ["mae", "rmse"])
def test_errors_that_do_not_differ_on_a_few_samples_are_no_proof(metric: str) -> None:
    targets = np.linspace(0, 1, 40, dtype=np.float32)[:, None]
    drop = drop_of(metric, targets + 0.1, targets + 0.1, targets=targets)
    assert (drop.value, drop.proves(1.0)) == (0, False)
    assert drop.interval[1] == pytest.approx(100 * 3.8415 / (40 + 3.8415), abs=0.01)


def test_targets_that_are_all_one_value_are_judged_in_its_size() -> None:
    targets = np.full((5, 1), 4.0, np.float32)
    assert drop_of("mae", targets, targets + 1, targets=targets).after == pytest.approx(0.25)
    zeros = np.zeros((5, 1), np.float32)
    assert drop_of("mae", zeros, zeros + 0.5, targets=zeros).after == pytest.approx(0.5)


def test_embeddings_are_compared_with_targets_or_with_the_source() -> None:
    rng = np.random.default_rng(0)
    wanted = rng.normal(size=(30, 16)).astype(np.float32)
    near = wanted + rng.normal(0, 0.1, wanted.shape).astype(np.float32)
    drop = drop_of("cosine", wanted, near)
    assert drop.before == pytest.approx(1.0)
    assert 0.98 < drop.after < 1.0
    against = drop_of("cosine", near, wanted, targets=wanted)
    assert against.value < 0


@pytest.mark.parametrize(
    ("metric", "lacks"),
    [("top1", "labels"), ("top5", "labels"), ("f1", "labels"), ("mae", "targets"), ("rmse", "targets")],
)  # fmt: skip
def test_what_a_metric_needs_is_said(metric: str, lacks: str) -> None:
    with pytest.raises(UsageError, match=f"the metric {metric} needs {lacks}") as caught:
        drop_of(metric, SCORES, SCORES)
    assert "agreement" in str(caught.value.hint)


def test_labels_and_targets_of_another_model_are_refused() -> None:
    with pytest.raises(InputError, match="the label 3, the model has the classes 0 to 2"):
        drop_of("top1", SCORES, SCORES, [0, 1, 3])
    with pytest.raises(InputError, match="targets of 2 numbers a sample, the model answers 3"):
        drop_of("mae", SCORES, SCORES, targets=SCORES[:, :2])


@pytest.mark.parametrize("metric", ["top0", "top", "f2", "accuracy", "a:b:c", "scores.py", ""])
def test_an_unknown_metric_is_refused_with_those_that_are_known(metric: str) -> None:
    assert not metrics.known(metric)
    with pytest.raises(UsageError, match="unknown metric") as caught:
        metrics.check_known(metric)
    assert "f1-binary" in str(caught.value.hint)


def test_the_data_decides_where_nothing_is_asked() -> None:
    labels, targets = np.zeros(1, np.int32), np.zeros((1, 1), np.float32)
    assert metrics.default(labels, targets) == "top1"
    assert metrics.default(None, targets) == "mae"
    assert metrics.default(None, None) == "agreement"
    assert (metrics.title("top5"), metrics.title("/a/b/m:score")) == ("top-5", "m:score")
