"""The check: a variant against the float model it came from, on the same samples, class by class.

Rules this module keeps:

* A drop is positive when the variant is worse, in points of the metric. What is shown to people is the change: its
  negative.
* Measured above a limit fails; the whole interval within it is proven; between, it passes and is "not proven", with the
  number of samples that would prove it. The same for the whole, for each class and for each named slice.
* Of a class or slice with so few samples that one of them breaks the limit, the whole interval has to lie above it to
  fail; it is never proven, and the line says so.
* A variant that does not compute what its source does (`gate.py`) is refused whatever its metric is.
* The variant answers in the engine that devices use, so what is measured is what they will do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeship.dataset import Dataset
from edgeship.errors import InputError
from edgeship.model import ModelFacts
from edgeship.optimize import chance, metrics, own
from edgeship.optimize import gate as numeric
from edgeship.optimize.agreement import agreeing, states
from edgeship.optimize.answers import Answers
from edgeship.optimize.drops import Comparison, Drop
from edgeship.optimize.gate import GateVerdict
from edgeship.reporter import Reporter
from edgeship.runtime.manifest import TensorSpec
from edgeship.targets import answers, registry
from edgeship.targets.base import Variant

FloatArray = NDArray[np.float32]


class AccuracyBudget(Protocol):
    """The part of `[budget]` that the check holds a variant to.

    A budget may have `max_slice_drop` as well: see `slice_limit`.
    """

    @property
    def max_drop(self) -> float:
        """Points of the metric."""
        ...

    @property
    def max_class_drop(self) -> float:
        """Points of the metric, for each class alone."""
        ...


@dataclass(frozen=True)
class PartDrop:
    """A class or a slice: `drop` and `interval` in points, positive is worse."""

    kind: str  # class or slice
    name: str
    samples: int
    float_value: float
    variant_value: float
    drop: float
    interval: tuple[float, float]
    label: int = -1  # of a class
    lost: int | None = None  # samples, gains taken off; of a metric that is right or wrong
    few: bool = False  # too few samples to hold the bare figure against the limit


@dataclass(frozen=True)
class Verdict:
    """What the check measured and decided. Values are 0 to 1; drops and intervals are points, positive is worse."""

    metric: str
    float_value: float
    variant_value: float
    drop: float
    interval: tuple[float, float]  # 95 %, of the drop
    classes: tuple[PartDrop, ...]
    worst_class: PartDrop | None
    agreement: float  # share of samples that source and variant answer alike
    max_abs: float  # largest difference of any output number
    samples: int
    passed: bool
    proven: bool
    needs_n: int | None  # samples that would prove it at the same rates; None: proven, or no number would
    summary: str  # one line for people
    gate: GateVerdict | None = None  # of the same answers; where it fails, the variant does
    slices: tuple[PartDrop, ...] = ()
    worst_slice: PartDrop | None = None

    def measured(self) -> dict[str, Any]:
        """As the manifest holds it."""
        return {
            "metric": self.metric, "float": self.float_value, "variant": self.variant_value, "samples": self.samples,
            "drop_interval": [round(bound, 3) for bound in self.interval],
        }  # fmt: skip


def check(
    facts: ModelFacts, variant: Variant, evaluation: Dataset, budget: AccuracyBudget, *, threads: int = 1,
    reporter: Reporter | None = None, metric: str | None = None, labels: Sequence[str] = (),
    start: ModelFacts | None = None,
) -> Verdict:  # fmt: skip
    """Measure a variant against its source and judge it.

    Args:
        facts: the source model.
        variant: made from it.
        evaluation: samples, with the labels or targets that the metric needs; its slices are judged too.
        budget: limits in points.
        threads: of the engine.
        reporter: is told what the engine has to say.
        metric: a name that `metrics.known` takes; None: what the data allows.
        labels: names of the classes.
        start: the model that the variant was converted from, where a training lies between it and the source: the
            numeric gate compares with this one, the budget with the source.

    Raises:
        UsageError: an unknown metric, or the data lacks what it needs.
        InputError: a label that the model has no class for; targets of another size; a metric of one's own fails; the
            source itself answers with NaN.
        ConversionError: a model could not be run.
    """
    metric = metric or metrics.default(evaluation.labels, evaluation.targets)
    metrics.check_data(metric, evaluation.labels, evaluation.targets)
    reporter = reporter or Reporter()
    expected = registry.source_answers(facts, variant, evaluation, reporter)
    check_source(str(facts.path), variant.outputs, expected)
    what = f"{facts.path}: {variant.format} {variant.precision}"
    given = answers.of_variant(variant, evaluation, threads=threads, reporter=reporter, what=what)
    both = Answers(
        expected, given, variant.outputs, evaluation.labels, evaluation.targets, evaluation.slices, evaluation.inputs
    )
    verdict = decide(metric, both, budget, labels)
    start = start or facts
    exact = expected if start is facts else registry.source_answers(start, variant, evaluation, reporter)
    return gated(verdict, numeric.judge_run(start, variant, evaluation, exact, given, reporter, threads=threads))


def rehearse(
    facts: ModelFacts, variant: Variant, evaluation: Dataset, metric: str | None, reporter: Reporter
) -> str | None:  # fmt: skip
    """What `check` would find whatever the variant answers: the source's own answers, and the metric on them.

    Args:
        facts: the source model.
        variant: any of it: its outputs are those that the metric will see.
        evaluation: as `check`.
        metric: likewise.
        reporter: likewise.

    Returns:
        What a person should know: that the metric takes long, else of these answers, see `chance.doubt`.

    Raises:
        As `check`.
    """
    metric = metric or metrics.default(evaluation.labels, evaluation.targets)
    metrics.check_data(metric, evaluation.labels, evaluation.targets)
    expected = registry.source_answers(facts, variant, evaluation, reporter)
    check_source(str(facts.path), variant.outputs, expected)
    alike = Answers(
        expected, expected, variant.outputs, evaluation.labels, evaluation.targets, evaluation.slices, evaluation.inputs
    )
    return metrics.rehearse(metric, alike) or chance.doubt(variant.outputs, expected, evaluation.labels)


def check_source(path: str, outputs: Sequence[TensorSpec], expected: Sequence[FloatArray]) -> None:
    """Refuse a source that answers NaN on most samples: no variant can be judged by it. Raises InputError."""
    for spec, array in zip(outputs, expected, strict=True):
        count = int(np.isnan(array.reshape(len(array), -1)).any(axis=1).sum())
        if 2 * count > len(array):
            raise InputError(
                f"{path}: the model itself answers NaN on {count} of {len(array)} samples, in its output {spec.name!r}",
                hint="before anything is quantized: is the data prepared as in training, and are all weights finite?",
            )


def gated(verdict: Verdict, gate: GateVerdict) -> Verdict:
    """The verdict with that of the numeric gate on the same answers: a variant that fails either fails."""
    if gate.passed:
        return replace(verdict, gate=gate)
    summary = f"{verdict.summary}   refused by the numeric gate: {gate.reason}"
    return replace(verdict, gate=gate, passed=False, proven=False, needs_n=None, summary=summary)


def judge(
    expected: Sequence[FloatArray], given: Sequence[FloatArray], outputs: Sequence[TensorSpec],
    budget: AccuracyBudget, *, metric: str | None = None, truth: NDArray[np.int32] | None = None,
    labels: Sequence[str] = (), targets: FloatArray | None = None,
    slices: Mapping[str, NDArray[np.bool_]] | None = None,
) -> Verdict:  # fmt: skip
    """The verdict on answers.

    Args:
        expected: the source's, one array [n, *shape] an output.
        given: the variant's, likewise.
        outputs: what they are.
        budget: limits in points.
        metric: its name; None: what there is truth for.
        truth: class of each sample, int32 [n].
        labels: names of the classes.
        targets: of a regression or an embedding, [n, …].
        slices: name of a part of the samples -> bool [n].

    Raises:
        UsageError: the metric needs what is not there.
        InputError: a label that the model has no class for; targets of another size.
    """
    answers = Answers(expected, given, outputs, truth, targets, slices or {})
    return decide(metric or metrics.default(truth, targets), answers, budget, labels)


def decide(metric: str, answers: Answers, budget: AccuracyBudget, labels: Sequence[str] = ()) -> Verdict:
    """The verdict of a metric. Raises UsageError, InputError.

    Args:
        metric: its name.
        answers: of both models.
        budget: limits in points.
        labels: names of the classes.
    """
    compared = metrics.compare(metric, answers)
    whole = compared.drop(np.arange(len(answers)))
    limits = [_Held(whole, budget.max_drop, None)]
    limits += _classes(compared, answers.labels, labels, budget.max_class_drop)
    limits += _slices(compared, answers.slices, slice_limit(budget))
    passed = not any(held.fails for held in limits)
    proven = passed and all(held.proves for held in limits)
    needs = None if proven or not passed else _needs(limits, len(answers))
    alike = agreeing(answers.expected, answers.given, answers.outputs, states(answers.outputs, answers.inputs))
    worst = {kind: _worst([held for held in limits if held.part and held.part.kind == kind]) for kind in _KINDS}
    summary = _summary(metric, compared.lower, limits, worst, passed=passed, proven=proven, needs=needs)
    classes, parts = (tuple(h.part for h in limits if h.part and h.part.kind == kind) for kind in _KINDS)
    return Verdict(
        own.short(metric), whole.before, whole.after, whole.value, whole.interval, classes,
        None if (of := worst["class"]) is None else of.part, float(alike.mean()),
        _furthest(answers.expected, answers.given), len(answers), passed, proven, needs, summary, None, parts,
        None if (of := worst["slice"]) is None else of.part,
    )  # fmt: skip


def slice_limit(budget: AccuracyBudget) -> float:
    """`max_slice_drop` where the budget has one, else `max_class_drop`."""
    limit = getattr(budget, "max_slice_drop", None)  # older budgets have none
    return budget.max_class_drop if limit is None else float(limit)


# ── what is held against the budget ──────────────────────────────────────────────────────────────────────────────────

_KINDS = ("class", "slice")


@dataclass(frozen=True)
class _Held:
    """A drop, its limit, and the class or slice that it is of."""

    drop: Drop
    limit: float
    part: PartDrop | None

    @property
    def fails(self) -> bool:
        return self.drop.fails(self.limit, part=self.part is not None)

    @property
    def proves(self) -> bool:
        return self.drop.proves(self.limit)


def _part(kind: str, name: str, drop: Drop, limit: float, label: int = -1) -> _Held:
    lost = None if drop.counts is None else drop.counts[0] - drop.counts[1]
    part = PartDrop(
        kind, name, drop.samples, drop.before, drop.after, drop.value, drop.interval, label, lost, drop.few(limit)
    )
    return _Held(drop, limit, part)


def _classes(
    compared: Comparison, truth: NDArray[np.int32] | None, labels: Sequence[str], limit: float
) -> list[_Held]:  # fmt: skip
    out: list[_Held] = []
    for label in () if truth is None else map(int, np.unique(truth)):
        assert truth is not None
        drop = compared.of_class(label, truth)
        if drop is not None:
            out.append(_part("class", labels[label] if label < len(labels) else str(label), drop, limit, label))
    return out


def _slices(compared: Comparison, slices: Mapping[str, NDArray[np.bool_]], limit: float) -> list[_Held]:
    return [
        _part("slice", name, compared.drop(np.flatnonzero(mask)), limit) for name, mask in slices.items() if mask.any()
    ]


def _worst(parts: Sequence[_Held]) -> _Held | None:
    """What fails first, then what can be judged, then the largest drop."""

    def badness(held: _Held) -> tuple[bool, bool, float, int, int]:
        assert held.part is not None
        return held.fails, not held.part.few, held.drop.value, held.part.lost or 0, -held.part.label

    return max(parts, key=badness, default=None)


def _needs(limits: Sequence[_Held], count: int) -> int | None:
    """Evaluation samples in all that would prove every limit at the same rates; None where no number would."""
    most = count
    for held in limits:
        wanted = held.drop.needed(held.limit)
        if wanted is None:
            return None
        most = max(most, -(-wanted * count // held.drop.samples))
    return most


def _furthest(expected: Sequence[FloatArray], given: Sequence[FloatArray]) -> float:
    with np.errstate(invalid="ignore"):
        far = float(np.max([np.abs(got - wanted).max() for wanted, got in zip(expected, given, strict=True)]))
    return far if np.isfinite(far) else float(np.finfo(np.float32).max)


# ── the line ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def signed(value: float) -> str:
    """A change in points with its sign: −0.1, +0.6, ±0.0."""
    text = f"{abs(value):.1f}"
    return ("±" if float(text) == 0 else "−" if value < 0 else "+") + text


def _summary(
    metric: str, lower: bool, limits: Sequence[_Held], worst: Mapping[str, _Held | None], *, passed: bool,
    proven: bool, needs: int | None,
) -> str:  # fmt: skip
    whole, sign = limits[0], 1 if lower else -1  # an error that grows is shown as a plus
    low, high = sorted(sign * bound for bound in whole.drop.interval)
    line = (
        f"{metrics.title(metric)} {100 * whole.drop.before:.1f} % → {100 * whole.drop.after:.1f} % "
        f"({signed(sign * whole.drop.value)} of {whole.limit:.1f} allowed; "
        f"interval {signed(low)} … {signed(high)}; n={whole.drop.samples})"
    )
    line += "".join(_shown(held, sign) for held in worst.values() if held is not None)
    few = [held.part for held in limits if held.part is not None and held.part.few]
    if few:
        first = max(few, key=lambda part: (part.drop, -part.samples))
        more = f" and {len(few) - 1} more" if len(few) > 1 else ""
        line += (
            f'   {first.kind} "{first.name}"{more}: {signed(sign * first.drop)} of n={first.samples}, too few to judge'
        )
    if passed and not proven:
        which = "" if not whole.proves else "class limit " if _open(limits, "class") else "slice limit "
        line += f"   {which}not proven" + (f", needs n ≥ {needs:,}" if needs is not None else ": at the limit")
    return line


def _open(limits: Sequence[_Held], kind: str) -> bool:
    return any(held.part is not None and held.part.kind == kind and not held.proves for held in limits)


def _shown(held: _Held, sign: int) -> str:
    part = held.part
    assert part is not None
    line = f'   worst {part.kind} "{part.name}": '
    if part.lost is not None:
        line += "±0" if part.lost == 0 else f"{'−' if part.lost > 0 else '+'}{abs(part.lost)}"
        line += f" of {part.samples}"
        return line + (f" ({signed(sign * part.drop)} of {held.limit:.1f} allowed)" if held.fails else "")
    return line + f"{signed(sign * part.drop)} of {held.limit:.1f} allowed, n={part.samples}"
