"""A source that is no better than one class for all: said, where there are labels and samples enough to tell."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeship.optimize import chance
from edgeship.runtime.manifest import TensorSpec

SCORES = TensorSpec("p", "float32", (1, 4))


def scores(classes: NDArray[np.int32]) -> NDArray[np.float32]:
    return np.eye(4, dtype=np.float32)[classes][:, None]


LABELS = (np.arange(40) % 4).astype(np.int32)


def test_a_source_that_knows_its_classes_raises_no_doubt() -> None:
    assert chance.doubt([SCORES], [scores(LABELS)], LABELS) is None
    half = np.where(np.arange(40) < 20, LABELS, (LABELS + 1) % 4)
    assert chance.doubt([SCORES], [scores(half)], LABELS) is None


def test_one_that_is_right_no_more_often_than_one_class_is_said() -> None:
    assert chance.doubt([SCORES], [scores((LABELS + 1) % 4)], LABELS) == (
        "the model itself is right on 0.0 % of 40 samples, one class for all would be on 25.0 %: is the data prepared "
        "as in training (its scale, say), and are the labels this model's?"
    )
    always = np.zeros(40, np.int32)
    said = chance.doubt([SCORES], [scores(always)], LABELS)
    assert said is not None
    assert said.startswith("the model itself is right on 25.0 % of 40")


@pytest.mark.parametrize(
    ("spec", "labels"),
    [
        (SCORES, None),
        (SCORES, LABELS[:29]),
        (SCORES, np.zeros(40, np.int32)),  # one class: said elsewhere
        (SCORES, LABELS + 1),  # a label without a class is refused elsewhere
        (TensorSpec("map", "float32", (2, 2)), LABELS),
    ],
)
def test_what_cannot_be_told_is_not_said(spec: TensorSpec, labels: NDArray[np.int32] | None) -> None:
    wrong = scores((LABELS + 1) % 4)[: None if labels is None else len(labels)]
    assert chance.doubt([spec], [wrong.reshape(len(wrong), *spec.shape)], labels) is None
