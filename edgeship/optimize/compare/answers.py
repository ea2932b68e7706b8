"""How the answers of two models differ: agreement, and which class became which. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeship.errors import InputError
from edgeship.optimize.agreement import agreeing, is_scores
from edgeship.optimize.metrics import right
from edgeship.runtime.manifest import TensorSpec

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Change:
    """Samples that `a` took for one class and `b` for another; `right_*`: those of them that each had right."""

    before: int
    after: int
    samples: int
    right_a: int | None  # None without labels
    right_b: int | None


@dataclass(frozen=True)
class Answers:
    """What came of the same samples. Shares are 0 to 1."""

    samples: int
    agreement: float
    right_a: float | None  # share of right answers; None without labels or without class scores
    right_b: float | None
    changes: tuple[Change, ...]  # the most frequent first; () where the answers are no class scores
    confusion_a: NDArray[np.int64] | None  # [true class, answer]; None without labels
    confusion_b: NDArray[np.int64] | None


def judge(
    a: Sequence[FloatArray], b: Sequence[FloatArray], outputs: Sequence[TensorSpec],
    labels: NDArray[np.int32] | None = None,
) -> Answers:  # fmt: skip
    """Compare.

    Args:
        a: answers of the first model, one array [n, *shape] an output.
        b: of the second, likewise.
        outputs: what they are; class scores are looked for in the first.
        labels: class of each sample.

    Raises:
        InputError: a label that the models have no class for.
    """
    count = len(a[0])
    agreement = float(agreeing(a, b, outputs).mean())
    if not is_scores(outputs[0]):
        return Answers(count, agreement, None, None, (), None, None)
    classes = outputs[0].count
    first, second = (array[0].reshape(count, -1).argmax(axis=1) for array in (a, b))
    pairs = Counter(zip(first.tolist(), second.tolist(), strict=True))
    if labels is None:
        changes = [Change(x, y, n, None, None) for (x, y), n in pairs.items() if x != y]
        return Answers(count, agreement, None, None, _sorted(changes), None, None)
    if labels.max() >= classes:
        raise InputError(
            f"the data has the label {labels.max()}, the models have the classes 0 to {classes - 1}",
            hint="labels count from 0; are they of these models?",
        )
    right_a, right_b = right(a[0], labels), right(b[0], labels)
    changes = []
    for (x, y), n in pairs.items():
        if x != y:
            here = (first == x) & (second == y)
            changes.append(Change(x, y, n, int((right_a & here).sum()), int((right_b & here).sum())))
    return Answers(
        count, agreement, float(right_a.mean()), float(right_b.mean()), _sorted(changes),
        _confusion(labels, first, classes), _confusion(labels, second, classes),
    )  # fmt: skip


def _sorted(changes: Sequence[Change]) -> tuple[Change, ...]:
    return tuple(sorted(changes, key=lambda c: (-c.samples, c.before, c.after)))


def _confusion(truth: NDArray[np.int32], given: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    out = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(out, (truth, given), 1)
    return out
