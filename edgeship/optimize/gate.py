"""The numeric gate: does a variant still compute what its source computes?

It stands after every step that makes a model out of another, conversion included, and asks less than the budget: not
how much of the metric is lost but whether the answers are still those of this model. A step that fails it is never
passed on.

Rules this module keeps:

* Judged are outputs and parts of outputs (`parts.py`), each in its own range, so that nothing hides behind a louder
  neighbour.
* What does not vary with the sample, or hardly, cannot be judged by how it varies: then the size of the error counts.
* The limits of a conversion are tight: float in, float out. Those of a quantization are loose, since the budget judges
  how good it is; the gate refuses what no calibration data would make right.

Where the limits come from: see `CONVERSION` and `QUANTIZATION`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgeship import wording
from edgeship.dataset import Dataset
from edgeship.dataset.samples import dtype_of
from edgeship.errors import GateError
from edgeship.model import ModelFacts
from edgeship.optimize import carried
from edgeship.optimize.agreement import are_shares
from edgeship.optimize.parts import PartError, measure
from edgeship.reporter import Reporter
from edgeship.runtime.manifest import TensorSpec
from edgeship.targets import answers, registry
from edgeship.targets.base import Variant
from edgeship.targets.scheme import Scheme

FloatArray = NDArray[np.float32]

#: Operators that write rows in the order of their scores, as many as there happen to be.
SELECT = frozenset(
    {"NonMaxSuppression", "TopK", "TOPK_V2", "NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5",
     "custom TFLite_Detection_PostProcess"}
)  # fmt: skip

#: Of parts that are shares (scores, probabilities): one whose range is below this part of the largest of its kind is
#: quiet, a class that these samples do not show. What is lost in it is judged in the range of the largest.
QUIET = 0.05

#: Of at least so many parts one in so many may be lost where all have one unit: features of an embedding that hardly
#: move, classes that occur once. Not where boxes and scores stand side by side.
MANY = 50

#: Clear samples that a statement on agreement needs.
ENOUGH = 5

#: Part of the answers of shares that may be rounded to nothing but 0.
SILENT = 0.2

SHOWN = 8  # worst parts that a verdict names


@dataclass(frozen=True)
class Limits:
    """What a step may do to a part.

    Attributes:
        sqnr_db: least ratio of signal to error, decibels.
        centred: least cosine after the mean over the samples is removed.
        noise: root mean square of an error, in the part's span, that is never held against it.
        moves: how much the source must vary, root mean square in the part's span, to be judged by how it varies.
        jump: largest single error, in the part's span, that goes with `noise`.
        step: an error, in numbers of 0 to 1, that shares cannot be without.
        floor: an error, in the largest magnitude of the whole output, that no part can be without.
        worst: largest single error, in the part's span; infinite: not judged.
        quiet: largest error of a quiet part, in the span of the largest part.
        clear: least agreement on samples that the source is clear about.
    """

    sqnr_db: float
    centred: float
    noise: float
    moves: float
    jump: float
    step: float
    floor: float
    worst: float
    quiet: float
    clear: float


#: Float to float. Measured on nine Keras nets (MNIST: softmax, logits, depthwise, regressions, features, autoencoder,
#: detectors): SQNR of the worst part 125 dB and more as float32 in both formats, 57 dB and more as float16.
CONVERSION = Limits(
    sqnr_db=40.0, centred=0.999, noise=1e-3, moves=1e-3, jump=0.01, step=1e-5, floor=1e-6, worst=0.05, quiet=0.01,
    clear=0.99,
)  # fmt: skip

#: On the same nets, good dynamic and int8: SQNR 27 dB and more, cosine without the mean 0.89 and more in parts that
#: move, agreement on clear samples 1. The same calibrated on data divided by 255: SQNR 1 dB or less, blind, or
#: agreement of 0.1. Boxes of 0 to 320 joined with scores of 0 to 1: 3 to 8 dB in scores (split: 35 dB), though the
#: cosine without the mean may be 0.95 there and that of the whole is 0.9999. The step is that of TFLite's int8 softmax
#: and sigmoid, 1/256 whatever the answers.
QUANTIZATION = Limits(
    sqnr_db=12.0, centred=0.8, noise=1 / 64, moves=1 / 32, jump=0.25, step=1 / 256, floor=0.0, worst=math.inf,
    quiet=0.5, clear=0.8,
)  # fmt: skip

#: Outputs of nothing but shares: a net that is sure answers 0 or 1, so each sample that falls to the other side costs
#: all of it, and one in twenty leaves 10 dB. How many may is the budget's to say. Text detection (PP-OCRv4, ONNX int8)
#: has 14 dB. Text recognition, of whose texts one in five is left as int8 and none as dynamic int8, has 10 and 3 dB as
#: a whole and is refused for single time steps with less than 0 dB.
SHARES = replace(QUANTIZATION, sqnr_db=3.0, centred=0.5)

#: Integer steps that the span of a part must hold at least, where the output is an integer with a scale.
STEPS = 8

LIMITS = {"conversion": CONVERSION, "quantization": QUANTIZATION}


@dataclass(frozen=True)
class Complaint:
    """One part, what is wrong with it in words, and how bad that is: 0 is at the limit."""

    error: PartError
    words: str
    weight: float


@dataclass(frozen=True)
class GateVerdict:
    """What the gate says of one step.

    Attributes:
        kind: conversion or quantization.
        passed: whether the step's model may be used.
        outputs: errors of each whole output.
        worst: the parts that were refused, worst first; where none was, those that come nearest to it. At most `SHOWN`.
        parts: how many were looked at.
        samples: that both models answered.
        reason: one line for people: why it fails, or how near the answers are.
    """

    kind: str
    passed: bool
    outputs: tuple[PartError, ...]
    worst: tuple[PartError, ...]
    parts: int
    samples: int
    reason: str

    def require(self, what: str) -> None:
        """Refuse a step that failed. Raises GateError.

        Args:
            what: the step's model, for the message.
        """
        if not self.passed:
            raise GateError(f"{what} does not compute what its source does: {self.reason}", hint=_HINTS[self.kind])


_HINTS = {
    "conversion": "the converter makes another model of it: try the other format, and look at the layout of the "
    "inputs (channels first or last)",
    "quantization": "is the calibration data prepared as in training (same scale, same layout)? Else try another "
    "precision, keep these outputs in float, or split an output that joins values of different ranges",
}


def noise(inputs: Sequence[TensorSpec], count: int) -> Dataset:
    """Seeded numbers of -1 to 1, and of 0 and 1 for integers, where there is no data: what must agree on anything."""
    rng = np.random.default_rng(0)
    arrays = {
        spec.name: rng.uniform(-1, 1, (count, *spec.shape)).astype(np.float32)
        if spec.scale or spec.dtype.startswith("float")
        else rng.integers(0, 2, (count, *spec.shape)).astype(dtype_of(spec))
        for spec in inputs
    }
    return Dataset(arrays)


def kind_of(facts: ModelFacts, variant: Variant) -> str:
    """Which limits a variant is held to: those of a conversion where no number was rounded to integers for it."""
    same = variant.precision in ("float32", "float16") or variant.precision == facts.precision
    return "conversion" if same else "quantization"


def check(
    facts: ModelFacts, variant: Variant, data: Dataset, reporter: Reporter | None = None, *, threads: int = 1
) -> GateVerdict:  # fmt: skip
    """Run both models over the samples, one after the other with the first repeated last, and judge the answers.

    Answers are kept by content: the check of the same variant on the same data runs nothing again.

    Args:
        facts: the source model.
        variant: made from it.
        data: real samples; a few dozen tell enough.
        reporter: is told what the engine has to say.
        threads: of the engine.

    Raises:
        ConversionError: a model could not be run, or keeps state from one run to the next.
    """
    reporter = reporter or Reporter()
    expected = registry.source_answers(facts, variant, data, reporter)
    given = answers.of_variant(variant, data, threads=threads, reporter=reporter)
    return judge_run(facts, variant, data, expected, given, reporter, threads=threads)


def judge_run(
    facts: ModelFacts, variant: Variant, data: Dataset, expected: Sequence[FloatArray], given: Sequence[FloatArray],
    reporter: Reporter, *, threads: int = 1,
) -> GateVerdict:  # fmt: skip
    """The verdict on answers that both models gave; a model that carries its own state is judged carrying it too.

    Args:
        facts: the source model; it is run again in sequence. What only a framework runs is not: a quantization of it is
            compared with its float32 variant, and a conversion was compared sample by sample.
        variant: made from it.
        data: the samples.
        expected: the source's answers to them, one array [n, *shape] an output.
        given: the variant's, likewise.
        reporter: is told what the engine has to say.
        threads: of the engine.

    Raises:
        ConversionError: a model could not be run.
    """
    kind = kind_of(facts, variant)
    verdict = selecting(judge(expected, given, variant.outputs, kind), facts.operators)
    state = carried.pairs(variant.inputs, variant.outputs)
    if not verdict.passed or not state:
        return verdict
    if facts.format in registry.targets():
        plain = registry.target(facts.format).as_is(facts, variant.cache, reporter)
    elif kind == "quantization":
        plain = registry.target(variant.format).build(facts, Scheme("float32"), None, variant.cache, reporter)
    else:
        return verdict
    theirs = carried.pairs(plain.inputs, plain.outputs)
    if not theirs:
        return verdict
    named = dict(
        zip((s.name for s in plain.outputs), carried.answers(plain, data, theirs, reporter=reporter), strict=True)
    )
    wanted = answers.align(named, variant.outputs, str(facts.path))
    got = carried.answers(variant, data, state, threads=threads, reporter=reporter)
    handed = judge(wanted, got, variant.outputs, kind)
    return (
        verdict if handed.passed else replace(handed, reason=f"carrying its state {', '.join(state)}: {handed.reason}")
    )


def selecting(verdict: GateVerdict, operators: Iterable[str]) -> GateVerdict:
    """The verdict, with the way out where it fails on a model that selects rows by their scores."""
    found = next((name for name in operators if name.rpartition(".")[2] in SELECT), None)
    if verdict.passed or found is None:
        return verdict
    way = f"{found} selects rows by score, and one that changes places moves all behind it: cut it off the model"
    return replace(verdict, reason=f"{verdict.reason}; {way}, and select in the application")


def judge(
    expected: Sequence[FloatArray], given: Sequence[FloatArray], outputs: Sequence[TensorSpec], kind: str
) -> GateVerdict:  # fmt: skip
    """The verdict on answers; touches nothing.

    Args:
        expected: the source's, one array [n, *shape] an output.
        given: the variant's, likewise.
        outputs: what they are.
        kind: "conversion" or "quantization".
    """
    errors = measure(expected, given, outputs)
    complaints = [
        c for spec in outputs for c in _of_output([e for e in errors if e.output == spec.name], kind, spec.scale)
    ]
    pairs = zip(outputs, expected, given, strict=True)
    complaints += [c for spec, e, g in pairs if (c := _silenced(spec, e, g, errors)) is not None]
    complaints.sort(key=lambda c: -c.weight)
    whole = tuple(error for error in errors if not error.part)
    samples = len(expected[0])
    if complaints:
        worst = tuple(c.error for c in complaints[:SHOWN])
        return GateVerdict(kind, False, whole, worst, len(errors), samples, _failure(complaints))
    moving = [e for e in errors if e.centred is not None and e.varies > LIMITS[kind].moves and e.span > QUIET * e.loud]
    nearest = sorted(moving, key=lambda e: e.centred or 0.0)
    return GateVerdict(kind, True, whole, tuple(nearest[:SHOWN]), len(errors), samples, _success(whole, nearest))


# ── one output ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _of_output(errors: Sequence[PartError], kind: str, scale: float) -> list[Complaint]:
    whole, parts = errors[0], errors[1:]
    limits = SHARES if whole.unit and kind == "quantization" else LIMITS[kind]
    out = [] if (found := _complaint(whole, limits)) is None else [found]
    for axis in dict.fromkeys(part.axis for part in parts):
        along = [part for part in parts if part.axis == axis]
        loudest = max((part.span for part in along if part.unit), default=0.0)
        bad = [c for part in along if (c := _complaint(part, limits, loudest, scale)) is not None]
        broken = [c for c in bad if c.error.broken]
        features = whole.elements == len(along) or whole.unit
        out += bad if len(bad) > (len(along) // MANY if features else 0) else broken
    return out


def _silenced(spec: TensorSpec, wanted: FloatArray, got: FloatArray, errors: Sequence[PartError]) -> Complaint | None:
    """What is wrong where shares of classes, 1 in all, were rounded to nothing but 0.

    Each is off by no more than an integer step, so no other rule sees it: a thousand classes of 0.001 each.
    """
    if not are_shares(wanted):
        return None
    rows = got.reshape(wanted.shape)
    empty = float((rows == 0).all(axis=-1).mean())
    if empty <= SILENT:
        return None
    step = f"; one integer step of it is {spec.scale:.3g}, its highest share {float(wanted.max()):.3g}"
    words = f"{empty:.0%} of its answers are nothing but 0, though shares are 1 in all{step if spec.scale else ''}"
    whole = next(error for error in errors if error.output == spec.name and not error.part)
    return Complaint(whole, words, 2.0)


def _complaint(part: PartError, limits: Limits, loudest: float = 0.0, scale: float = 0.0) -> Complaint | None:
    """What is wrong with a part, or None.

    Args:
        part: its errors.
        limits: that it is held to.
        loudest: the largest span of a part of shares beside it.
        scale: one integer step of the output, or 0.
    """
    if part.broken:
        return Complaint(part, f"{part.broken} numbers are NaN or infinite", math.inf)
    if part.clear is not None and part.clear_samples >= ENOUGH and part.clear < limits.clear:
        of = wording.counted(part.clear_samples, "clear sample")
        words = f"the highest score is the source's in {wording.share(part.clear)} of {of} only"
        return Complaint(part, words, (limits.clear - part.clear) / limits.clear)
    if part.unit and part.span < QUIET * loudest:
        worst = part.worst * part.span / loudest
        return None if worst <= limits.quiet else Complaint(part, _far(worst), worst - limits.quiet)
    if part.varies and scale * STEPS > part.span and not (part.unit and scale <= limits.step):
        words = f"one integer step of this output is {scale:.3g}; others in it need so large a scale"
        return Complaint(part, words, 1.0)
    least = max(limits.step if part.unit else 0.0, limits.floor * part.loud) / part.span if part.span else 0.0
    noise = max(limits.noise, least)
    if part.rms <= noise and part.worst <= max(limits.jump, 3 * least):
        return None
    if part.worst > limits.worst:
        return Complaint(part, _far(part.worst), 1.0)
    if part.constant and part.varies > noise:
        return Complaint(part, "it answers the same whatever the sample", 1.0)
    if part.sqnr_db < limits.sqnr_db:
        words = f"SQNR {part.sqnr_db:.1f} dB, at least {limits.sqnr_db:.0f} are wanted"
        return Complaint(part, words, min(1.0, 1 - part.sqnr_db / limits.sqnr_db))
    if part.centred is not None and part.varies > max(noise, limits.moves) and part.centred < limits.centred:
        words = f"cosine {part.centred:.3f} after the mean is removed ({part.cosine:.4f} with it)"
        return Complaint(part, words, limits.centred - part.centred)
    return None


def _far(worst: float) -> str:
    return f"off by up to {worst:.0%} of its range"


# ── the line ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _failure(complaints: Sequence[Complaint]) -> str:
    first = complaints[0]
    others = len(complaints) - 1
    more = f"; {others} more part{'' if others == 1 else 's'} like it" if others else ""
    span = f" (source {first.error.low:.3g} … {first.error.high:.3g})"
    return f"{first.error.name}: {first.words}{span}{more}"


def _success(whole: Sequence[PartError], nearest: Sequence[PartError]) -> str:
    low = min(whole, key=lambda e: e.sqnr_db)
    ratio = "equal" if math.isinf(low.sqnr_db) and low.sqnr_db > 0 else f"SQNR {low.sqnr_db:.1f} dB"
    return ratio + (
        f", {nearest[0].name}: cosine {nearest[0].centred:.4f} after the mean is removed" if nearest else ""
    )
