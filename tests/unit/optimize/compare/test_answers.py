"""Agreement, and which class became which."""

from __future__ import annotations

import numpy as np
import pytest

from edgeship.errors import InputError
from edgeship.optimize.compare.answers import Change, judge
from edgeship.runtime.manifest import TensorSpec

SCORES = (TensorSpec("p", "float32", (1, 3)),)


def scores(*classes: int) -> list[np.ndarray]:
    return [np.eye(3, dtype=np.float32)[list(classes)][:, None]]


def test_changes_say_how_many_and_who_was_right() -> None:
    labels = np.array([0, 0, 1, 2, 2], dtype=np.int32)
    found = judge(scores(0, 0, 1, 2, 1), scores(0, 1, 1, 1, 2), SCORES, labels)
    assert (found.samples, found.agreement, found.right_a, found.right_b) == (5, 0.4, 0.8, 0.6)
    assert set(found.changes) == {Change(0, 1, 1, 1, 0), Change(2, 1, 1, 1, 0), Change(1, 2, 1, 0, 1)}
    assert found.confusion_b is not None
    assert found.confusion_b.tolist() == [[1, 1, 0], [0, 1, 0], [0, 1, 1]]


def test_without_labels_nobody_is_right_or_wrong() -> None:
    found = judge(scores(0, 1, 1), scores(0, 2, 2), SCORES)
    assert (found.right_a, found.confusion_a) == (None, None)
    assert found.changes == (Change(1, 2, 2, None, None),)


def test_answers_that_are_no_classes_have_an_agreement_only() -> None:
    spec = (TensorSpec("boxes", "float32", (1, 2, 3)),)
    a = np.random.default_rng(0).random((4, 1, 2, 3)).astype(np.float32)
    b = a.copy()
    b[1, 0, 1, 2] += 1
    found = judge([a], [b], spec)
    assert (found.agreement, found.changes) == (0.75, ())


def test_a_label_beyond_the_classes_is_refused() -> None:
    with pytest.raises(InputError, match="label 3"):
        judge(scores(0), scores(0), SCORES, np.array([3], dtype=np.int32))
