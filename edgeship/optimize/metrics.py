"""The metrics that the check knows by name, on the answers of both models.

Rules this module keeps:

* An answer with NaN or infinity is wrong, whatever the metric: right in nothing, as far off as the range is wide.
* Values are 0 to 1. An error is a part of the range of the targets, so that points mean the same everywhere.
* A metric looks at the first output; only agreement looks at all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeship.errors import InputError, UsageError
from edgeship.optimize import own
from edgeship.optimize.agreement import agreeing, is_scores, states
from edgeship.optimize.answers import Answers
from edgeship.optimize.drops import F1, BoolArray, Comparison, Double, Indices, Means, Pooled, RightWrong
from edgeship.reporter import Reporter, Step
from edgeship.runtime.manifest import TensorSpec

TOP1, AGREEMENT = "top1", "agreement"
NAMES = {
    TOP1: "top-1", AGREEMENT: "agreement", "f1": "F1", "f1-binary": "F1 of class 1", "mae": "MAE", "rmse": "RMSE",
    "cosine": "cosine",
}  # fmt: skip

_TOP = re.compile(r"top([1-9][0-9]{0,3})")

FloatArray = NDArray[np.float32]


def known(metric: str) -> bool:
    """Whether a name is one of `NAMES`, `top2`, `top5`, …, or looks like `module:function`."""
    return metric in NAMES or _TOP.fullmatch(metric) is not None or own.is_own(metric)


def title(metric: str) -> str:
    """For people: `top-5`, `MAE`."""
    top = _TOP.fullmatch(metric)
    return NAMES.get(metric) or (f"top-{top[1]}" if top else own.short(metric))


def default(labels: NDArray[np.int32] | None, targets: FloatArray | None) -> str:
    """The metric that the data allows."""
    return TOP1 if labels is not None else "mae" if targets is not None else AGREEMENT


def check_known(metric: str) -> None:
    """Raise UsageError unless `known`."""
    if not known(metric):
        raise UsageError(
            f"unknown metric {metric!r}", hint=f"known are {', '.join(NAMES)}, top5 (any number), module:function"
        )


def needs_labels(metric: str) -> bool:
    """Whether a metric by name compares with the true class."""
    return _TOP.fullmatch(metric) is not None or metric in ("f1", "f1-binary")


def check_data(metric: str, labels: NDArray[np.int32] | None, targets: FloatArray | None) -> None:
    """Refuse data that lacks what a metric by name needs. Raises UsageError."""
    check_known(metric)
    if labels is None and needs_labels(metric):
        raise UsageError(
            f"the metric {metric} needs labels, and the evaluation data has none",
            hint='add an integer array "labels" to it, or set [data] metric = "agreement"',
        )
    if targets is None and metric in ("mae", "rmse"):
        raise UsageError(
            f"the metric {metric} needs targets, and the evaluation data has none",
            hint='add a float array "targets" to it, or set [data] metric = "agreement"',
        )


def check_early(
    metric: str | None, labels: NDArray[np.int32] | None, targets: FloatArray | None, outputs: Sequence[TensorSpec],
    reporter: Reporter,
) -> None:  # fmt: skip
    """Refuse what can be refused before anything is built: what `compare` would find at the end of long work.

    Args:
        metric: its name; None: what the data allows.
        labels: of the evaluation data.
        targets: likewise.
        outputs: of the source model, where they are known; labels are compared with the first.
        reporter: is told of the import of a function of one's own, which is the user's code.

    Raises:
        UsageError: unknown, the data lacks what it needs, or a function of one's own cannot be called.
        InputError: a label that the model has no class for; the module of an own metric raises.
    """
    if metric is not None:
        check_data(metric, labels, targets)
        if own.is_own(metric):
            step = Step("metric", own.short(metric))
            reporter.started(step)
            reporter.finished(step, f"{own.short(metric)} takes {', '.join(own.check(metric))}")
    ranked = metric is None or needs_labels(metric)
    if ranked and labels is not None and outputs and is_scores(outputs[0]):
        check_labels(labels, outputs[0])


def rehearse(metric: str, answers: Answers) -> str | None:
    """Try a metric on the source's answers alone, where only a try can show that it works: one of the user's own.

    Args:
        metric: its name.
        answers: of the source, as both models'.

    Returns:
        What a person should know of it.

    Raises:
        As `compare`.
    """
    if own.is_own(metric):
        return own.rehearse(metric, answers)
    if answers.targets is not None and metric in ("mae", "rmse", "cosine"):
        _matching(answers.targets, answers.expected[0])
    return None


def compare(metric: str, answers: Answers) -> Comparison:
    """Both models under a metric.

    Args:
        metric: its name.
        answers: of both models.

    Raises:
        UsageError: unknown, or the data lacks what it needs.
        InputError: a label that the model has no class for; targets of another size than the answers; a metric of one's
            own that fails.
    """
    if own.is_own(metric):
        return own.compare(metric, answers)
    check_data(metric, answers.labels, answers.targets)
    before, after = answers.expected[0], answers.given[0]
    if metric == AGREEMENT:
        same = agreeing(answers.expected, answers.given, answers.outputs, states(answers.outputs, answers.inputs))
        return RightWrong(np.ones_like(same), same)
    if metric == "cosine":
        wanted = _matching(answers.targets, before) if answers.targets is not None else _flat(before)
        return Means(cosines(wanted, before), cosines(wanted, after))
    if metric in ("mae", "rmse"):
        assert answers.targets is not None
        return _errors(metric, answers.targets, before, after)
    assert answers.labels is not None
    truth = answers.labels
    check_labels(truth, answers.outputs[0])
    if metric.startswith("f1"):
        positive = 1 if metric == "f1-binary" else None
        return F1(truth, predicted(before, before), predicted(after, before), positive)
    top = _TOP.fullmatch(metric)
    assert top is not None
    k = int(top[1])
    return RightWrong(right(before, truth, k, before), right(after, truth, k, before))


# ── classes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _flat(array: FloatArray) -> FloatArray:
    return array.reshape(len(array), -1)


def _sound(array: FloatArray) -> BoolArray:
    return np.asarray(np.isfinite(_flat(array)).all(axis=1), dtype=np.bool_)


def predicted(scores: FloatArray, source: FloatArray) -> NDArray[np.intp]:
    """Class of each answer, [n]; −1 for an answer with NaN or infinity.

    Args:
        scores: [n, …, C], one score a class; or one number a sample, that of class 1 against class 0.
        source: the float model's: its range says whether one number is a probability (class 1 above 0.5) or not
            (above 0).
    """
    flat = _flat(scores)
    if flat.shape[1] > 1:
        best = flat.argmax(axis=1)
    else:
        share = bool(np.nanmin(source) >= 0 and np.nanmax(source) <= 1)
        best = (flat[:, 0] > (0.5 if share else 0.0)).astype(np.intp)
    return np.where(_sound(scores), best, -1)


def right(
    scores: FloatArray, truth: NDArray[np.int32], k: int = 1, source: FloatArray | None = None
) -> BoolArray:  # fmt: skip
    """Whether the true class is among the k highest scores; of equal scores the first class is the higher.

    An answer with NaN or infinity is wrong.

    Args:
        scores: [n, …, C], one score a class, or one number a sample (see `predicted`).
        truth: int32 [n].
        k: how many.
        source: the float model's scores, of the same shape; by default `scores`.
    """
    flat = _flat(scores)
    if k == 1 or flat.shape[1] == 1:
        same: BoolArray = predicted(scores, scores if source is None else source) == truth
        return same
    mine = flat[np.arange(len(flat)), truth][:, None]
    before = (flat > mine).sum(axis=1) + ((flat == mine) & (np.arange(flat.shape[1]) < truth[:, None])).sum(axis=1)
    among: BoolArray = (before < k) & _sound(scores)
    return among


def check_labels(truth: NDArray[np.int32], spec: TensorSpec) -> None:
    """Raise InputError where a label is of no class of an output of scores."""
    classes = max(2, spec.count)
    if truth.max() >= classes:
        raise InputError(
            f"the evaluation data has the label {truth.max()}, the model has the classes 0 to {classes - 1}",
            hint="labels count from 0; are they of this model?",
        )


# ── other answers ────────────────────────────────────────────────────────────────────────────────────────────────────


def cosines(wanted: FloatArray, given: FloatArray) -> Double:
    """Cosine of each answer with what is wanted, float64 [n]; 0 for an answer with NaN or infinity, or of zeros."""
    a, b = _flat(wanted).astype(np.float64), _flat(given).astype(np.float64)
    b = np.where(_sound(given)[:, None], b, 0.0)
    size = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    out: Double = np.where(size > 0, (a * b).sum(axis=1) / np.maximum(size, 1e-300), 0.0)
    return np.clip(out, -1.0, 1.0)


def _matching(targets: FloatArray, answers: FloatArray) -> FloatArray:
    wanted = _flat(targets)
    if wanted.shape != _flat(answers).shape:
        raise InputError(
            f"the evaluation data has targets of {wanted.shape[1]} numbers a sample, the model answers "
            f"{_flat(answers).shape[1]}",
            hint="targets are what the first output should answer, one row a sample",
        )
    return wanted


def _errors(metric: str, targets: FloatArray, before: FloatArray, after: FloatArray) -> Comparison:
    """Errors as a part of the range that the targets have in the same place; the mean over all numbers of an answer."""
    wanted = _matching(targets, before).astype(np.float64)
    width = np.ptp(wanted, axis=0)
    width = np.where(width > 0, width, np.abs(wanted).max(axis=0))
    width = np.where(width > 0, width, 1.0)

    def off(answers: FloatArray) -> Double:
        far: Double = np.abs(_flat(answers).astype(np.float64) - wanted) / width
        return np.where(_sound(answers)[:, None], far, 1.0)

    one, two = off(before), off(after)
    if metric == "mae":
        return Means(one.mean(axis=1), two.mean(axis=1), lower=True)
    squares = (one * one).mean(axis=1), (two * two).mean(axis=1)

    def roots(at: Indices) -> tuple[float, float]:
        return float(np.sqrt(squares[0][at].mean())), float(np.sqrt(squares[1][at].mean()))

    return Pooled(roots, squares[0] != squares[1], lower=True)
