"""What an output is, told from its values."""

from __future__ import annotations

import numpy as np
import pytest

from edgeship.optimize.tuning import losses

ROWS = np.random.default_rng(0).dirichlet(np.ones(4), size=20).astype(np.float32)
LABELS = np.arange(20, dtype=np.int32) % 4


@pytest.mark.parametrize(
    ("answers", "labels", "kind"),
    [
        (ROWS, None, "probabilities"), (ROWS, LABELS, "probabilities"), (ROWS * 3, LABELS, "logits"),
        (ROWS * 3, None, "values"), (ROWS - 0.5, LABELS, "logits"), (ROWS[:, :3], LABELS, "values"),
        (np.ones((20, 1), np.float32), LABELS, "values"), (ROWS.reshape(20, 2, 2), LABELS, "values"),
        (ROWS[:, :1], LABELS % 2, "share"), (ROWS[:, :1] - 0.5, LABELS % 2, "margin"), (ROWS[:, :1], None, "values"),
        (ROWS.reshape(4, 5, 4), LABELS[:4], "places"), (ROWS.reshape(4, 5, 4) * 3, LABELS[:4], "values"),
    ],
)  # fmt: skip
def test_rows_that_sum_to_one_are_probabilities_and_labels_make_logits(
    answers: np.ndarray, labels: np.ndarray | None, kind: str
) -> None:
    assert losses.kind_of(answers, labels) == kind
