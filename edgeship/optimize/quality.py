"""The check: a variant against the float model it came from, on the same samples, class by class.

Rules this module keeps:

* A drop is positive when the variant is worse, in points of the metric. What is shown to people is the change: its
  negative.
* Measured above a limit fails; the whole interval within it is proven; between, it passes and is "not proven", with the
  number of samples that would prove it. The same for the whole and for each class.
* A variant that does not compute what its source does (`gate.py`) is refused whatever its metric is.
* The variant answers in the engine that devices use, so what is measured is what they will do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeship.dataset import Dataset
from edgeship.errors import InputError, UsageError
from edgeship.model import ModelFacts
from edgeship.optimize import gate as numeric
from edgeship.optimize.gate import GateVerdict
from edgeship.optimize.paired import interval, needed
from edgeship.reporter import Reporter
from edgeship.runtime.manifest import TensorSpec
from edgeship.targets import answers, registry
from edgeship.targets.base import Variant

TOP1, AGREEMENT = "top1", "agreement"
NAMES = {TOP1: "top-1", AGREEMENT: "agreement"}

#: An answer that is no vector of class scores agrees when each of its numbers is within this part of the range that the
#: float model's numbers have in the same column: one scale for boxes and scores together must not hide the scores.
SAME = 0.05

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]


class AccuracyBudget(Protocol):
    """The part of `[budget]` that the check holds a variant to."""

    @property
    def max_drop(self) -> float:
        """Points of the metric."""
        ...

    @property
    def max_class_drop(self) -> float:
        """Points of the metric, for each class alone."""
        ...


@dataclass(frozen=True)
class ClassDrop:
    """One class: `drop` and `interval` in points, positive is worse; `lost` samples of `samples`, gains taken off."""

    label: int
    name: str
    samples: int
    float_value: float
    variant_value: float
    lost: int
    drop: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Verdict:
    """What the check measured and decided. Values are 0 to 1; drops and intervals are points, positive is worse."""

    metric: str
    float_value: float
    variant_value: float
    drop: float
    interval: tuple[float, float]  # 95 %, of the drop
    classes: tuple[ClassDrop, ...]
    worst_class: ClassDrop | None
    agreement: float  # share of samples that source and variant answer alike
    max_abs: float  # largest difference of any output number
    samples: int
    passed: bool
    proven: bool
    needs_n: int | None  # samples that would prove it at the same rates; None: proven, or no number would
    summary: str  # one line for people
    gate: GateVerdict | None = None  # of the same answers; where it fails, the variant does

    def measured(self) -> dict[str, Any]:
        """As the manifest holds it."""
        return {
            "metric": self.metric, "float": self.float_value, "variant": self.variant_value, "samples": self.samples,
            "drop_interval": [round(bound, 3) for bound in self.interval],
        }  # fmt: skip


def check(
    facts: ModelFacts, variant: Variant, evaluation: Dataset, budget: AccuracyBudget, *, threads: int = 1,
    reporter: Reporter | None = None, metric: str | None = None, labels: Sequence[str] = (),
) -> Verdict:  # fmt: skip
    """Measure a variant against its source and judge it.

    Args:
        facts: the source model.
        variant: made from it.
        evaluation: samples, with labels for "top1".
        budget: limits in points.
        threads: of the engine.
        reporter: is told what the engine has to say.
        metric: "top1" (share of right answers) or "agreement" (share answered like the source); None: what the data
            allows.
        labels: names of the classes.

    Raises:
        UsageError: "top1" without labels.
        InputError: a label that the model has no class for.
        ConversionError: a model could not be run.
    """
    if metric is None:
        metric = AGREEMENT if evaluation.labels is None else TOP1
    if metric not in NAMES:
        raise UsageError(f"unknown metric {metric!r}", hint=f"known are {', '.join(NAMES)}")
    if metric == TOP1 and evaluation.labels is None:
        raise UsageError(
            "the metric top1 needs labels, and the evaluation data has none",
            hint='add an integer array "labels" to it, or set [data] metric = "agreement"',
        )
    reporter = reporter or Reporter()
    expected = registry.source_answers(facts, variant, evaluation, reporter)
    given = answers.of_variant(variant, evaluation, threads=threads, reporter=reporter)
    verdict = judge(
        expected, given, variant.outputs, budget, metric=metric,
        truth=evaluation.labels if metric == TOP1 else None, labels=labels,
    )  # fmt: skip
    return gated(verdict, numeric.judge(expected, given, variant.outputs, numeric.kind_of(facts, variant)))


def gated(verdict: Verdict, gate: GateVerdict) -> Verdict:
    """The verdict with that of the numeric gate on the same answers: a variant that fails either fails."""
    if gate.passed:
        return replace(verdict, gate=gate)
    summary = f"{verdict.summary}   refused by the numeric gate: {gate.reason}"
    return replace(verdict, gate=gate, passed=False, proven=False, needs_n=None, summary=summary)


def judge(
    expected: Sequence[FloatArray], given: Sequence[FloatArray], outputs: Sequence[TensorSpec],
    budget: AccuracyBudget, *, metric: str = TOP1, truth: NDArray[np.int32] | None = None, labels: Sequence[str] = (),
) -> Verdict:  # fmt: skip
    """The verdict on answers; touches nothing.

    Args:
        expected: the source's, one array [n, *shape] an output.
        given: the variant's, likewise.
        outputs: what they are.
        budget: limits in points.
        metric: "top1", which takes `truth`, or "agreement".
        truth: class of each sample, int32 [n].
        labels: names of the classes.

    Raises:
        InputError: a label that the model has no class for.
    """
    count = len(expected[0])
    alike = agreeing(expected, given, outputs)
    if truth is None:
        before, after = np.ones(count, dtype=np.bool_), alike
    else:
        classes = int(np.prod(outputs[0].shape, dtype=np.int64))
        if truth.max() >= classes:
            raise InputError(
                f"the evaluation data has the label {truth.max()}, the model has the classes 0 to {classes - 1}",
                hint="labels count from 0; are they of this model?",
            )
        before, after = right(expected[0], truth), right(given[0], truth)
    lost, gained = int((before & ~after).sum()), int((after & ~before).sum())
    drop, bounds = _points(lost, gained, count)
    by_class = () if truth is None else _classes(before, after, truth, labels)
    worst = max(by_class, key=lambda c: (c.drop, c.lost, -c.label), default=None)
    limits = [(lost, gained, count, budget.max_drop, drop, bounds)]
    for item in by_class:
        here = truth == item.label
        down, up = int((before & ~after & here).sum()), int((after & ~before & here).sum())
        limits.append((down, up, item.samples, budget.max_class_drop, item.drop, item.interval))
    passed = all(measured <= limit for _, _, _, limit, measured, _ in limits)
    proven = passed and all(high <= limit for _, _, _, limit, _, (_, high) in limits)
    needs = None if proven or not passed else _needs(limits, count)
    values = float(before.mean()), float(after.mean())
    summary = _summary(metric, values, drop, bounds, budget, count, worst, passed=passed, proven=proven, needs=needs)
    return Verdict(
        metric, *values, drop, bounds, by_class, worst, float(alike.mean()), _furthest(expected, given), count,
        passed, proven, needs, summary,
    )  # fmt: skip


# ── what is measured ─────────────────────────────────────────────────────────────────────────────────────────────────


def is_scores(spec: TensorSpec) -> bool:
    """Whether an output is one score for each of several classes: [1, C] or [C]."""
    return spec.count >= 2 and spec.count == spec.shape[-1]


def _flat(array: FloatArray) -> FloatArray:
    return array.reshape(len(array), -1)


def right(scores: FloatArray, truth: NDArray[np.int32]) -> BoolArray:
    """Whether the highest score is that of the true class; an answer with NaN or infinity is wrong.

    Args:
        scores: [n, …, C], one score a class.
        truth: int32 [n].
    """
    flat = _flat(scores)
    out: BoolArray = (flat.argmax(axis=1) == truth) & np.isfinite(flat).all(axis=1)
    return out


def agreeing(
    expected: Sequence[FloatArray], given: Sequence[FloatArray], outputs: Sequence[TensorSpec]
) -> BoolArray:  # fmt: skip
    """Whether source and variant answer alike, bool [n].

    Scores by class: the same class is highest. Other outputs: every number within `SAME` of the range of its column
    (the last axis) in the source's answers.
    """
    alike: BoolArray = np.ones(len(expected[0]), dtype=np.bool_)
    for wanted, got, spec in zip(expected, given, outputs, strict=True):
        alike &= np.isfinite(_flat(got)).all(axis=1)
        if is_scores(spec):
            alike &= _flat(wanted).argmax(axis=1) == _flat(got).argmax(axis=1)
            continue
        columns = wanted.reshape(len(wanted), -1, wanted.shape[-1] if wanted.ndim > 1 else 1)
        width = columns.max(axis=(0, 1)) - columns.min(axis=(0, 1))
        far = np.abs(got.reshape(columns.shape) - columns) > SAME * np.maximum(width, 1e-6)
        alike &= ~far.any(axis=(1, 2))
    return alike


def _furthest(expected: Sequence[FloatArray], given: Sequence[FloatArray]) -> float:
    with np.errstate(invalid="ignore"):
        far = max(float(np.abs(got - wanted).max()) for wanted, got in zip(expected, given, strict=True))
    return far if np.isfinite(far) else float(np.finfo(np.float32).max)


def _points(lost: int, gained: int, count: int) -> tuple[float, tuple[float, float]]:
    low, high = interval(lost, gained, count)
    return 100 * (lost - gained) / count, (100 * low, 100 * high)


def _classes(
    before: BoolArray, after: BoolArray, truth: NDArray[np.int32], labels: Sequence[str]
) -> tuple[ClassDrop, ...]:  # fmt: skip
    out: list[ClassDrop] = []
    for label in map(int, np.unique(truth)):
        here = truth == label
        count = int(here.sum())
        lost, gained = int((before & ~after & here).sum()), int((after & ~before & here).sum())
        drop, bounds = _points(lost, gained, count)
        name = labels[label] if label < len(labels) else str(label)
        out.append(
            ClassDrop(
                label, name, count, float(before[here].mean()), float(after[here].mean()), lost - gained, drop, bounds
            )
        )
    return tuple(out)


def _needs(
    limits: Sequence[tuple[int, int, int, float, float, tuple[float, float]]], count: int
) -> int | None:  # fmt: skip
    """Evaluation samples in all that would prove every limit at the same rates; None where no number would."""
    most = count
    for lost, gained, samples, limit, _, _ in limits:
        wanted = needed(lost, gained, samples, limit / 100)
        if wanted is None:
            return None
        most = max(most, -(-wanted * count // samples))
    return most


# ── the line ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def signed(value: float) -> str:
    """A change in points with its sign: −0.1, +0.6, ±0.0."""
    text = f"{abs(value):.1f}"
    return ("±" if float(text) == 0 else "−" if value < 0 else "+") + text


def _summary(
    metric: str, values: tuple[float, float], drop: float, bounds: tuple[float, float], budget: AccuracyBudget,
    count: int, worst: ClassDrop | None, *, passed: bool, proven: bool, needs: int | None,
) -> str:  # fmt: skip
    before, after = (f"{100 * value:.1f} %" for value in values)
    line = (
        f"{NAMES[metric]} {before} → {after} ({signed(-drop)} of {budget.max_drop:.1f} allowed; "
        f"interval {signed(-bounds[1])} … {signed(-bounds[0])}; n={count})"
    )
    if worst is not None:
        lost = "±0" if worst.lost == 0 else f"{'−' if worst.lost > 0 else '+'}{abs(worst.lost)}"
        line += f'   worst class "{worst.name}": {lost} of {worst.samples}'
        if worst.drop > budget.max_class_drop:
            line += f" ({signed(-worst.drop)} of {budget.max_class_drop:.1f} allowed)"
    if passed and not proven:
        which = "" if bounds[1] > budget.max_drop else "class limit "
        line += f"   {which}not proven" + (f", needs n ≥ {needs}" if needs is not None else ": at the limit")
    return line
