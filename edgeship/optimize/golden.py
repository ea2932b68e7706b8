"""Golden samples: a few inputs with what the source float model answered, for the device's probe before a switch.

The tolerance must let a good release pass on an Arm board, whose integer kernels may differ by two output steps, and
must stop a release that is wrong, also one that was forced past the check. So:

* Samples are chosen by the source's answers and the labels alone, never by the variant's: a bad variant cannot choose
  what it is tested on. They cover the classes, and where there is a choice the source is right and clear about them.
* Largest error: as measured on this host on these samples, plus two output steps.
* Agreement: the share of these samples whose class stays the source's even if every output moves by two steps. Without
  a check (`--skip-check`) it is `UNCHECKED_AGREEMENT`, whatever the variant answers here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeship.dataset import Dataset
from edgeship.errors import InputError
from edgeship.model import ModelFacts
from edgeship.optimize.quality import Verdict
from edgeship.reporter import Reporter
from edgeship.runtime.manifest import FileRef, Golden, TensorSpec
from edgeship.targets import answers, cache, registry
from edgeship.targets.base import Variant, quantize_input

UNCHECKED_AGREEMENT = 0.875
STEPS = 2  # output steps that an Arm board may differ by
CLEAR = 8  # output steps between the two highest scores of a sample that is clear
SEED = 0
MAX_SAMPLES = 1024  # as `manifest.Golden` allows
_FILE = "golden.bin"

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class GoldenFile:
    """The file on this host, and its description for the manifest."""

    path: Path
    golden: Golden


def make(
    facts: ModelFacts, variant: Variant, evaluation: Dataset, *, samples: int = 16, verdict: Verdict | None,
    threads: int = 1,
) -> GoldenFile:  # fmt: skip
    """Choose golden samples, measure the tolerance, write the file.

    Args:
        facts: the source model.
        variant: made from it.
        evaluation: where samples come from; its labels, where it has them, make this a classification.
        samples: how many at most.
        verdict: of the check; None where it was skipped.
        threads: of the engine.

    Raises:
        InputError: the source answers no sample with finite numbers.
        ConversionError: a model could not be run.
    """
    expected = registry.source_answers(facts, variant, evaluation, Reporter())
    steps = [output_step(spec, array) for spec, array in zip(variant.outputs, expected, strict=True)]
    classify = evaluation.labels is not None
    chosen = choose(expected[0], evaluation.labels, steps[0], min(samples, MAX_SAMPLES))
    data = evaluation.select(chosen)
    wanted = [np.asarray(array[chosen]) for array in expected]
    given = [np.asarray(array[chosen]) for array in answers.of_variant(variant, evaluation, threads=threads)]
    max_abs = tolerance(wanted, given, steps)
    agreement = UNCHECKED_AGREEMENT
    if verdict is not None:
        agreement = steady(wanted[0], given[0], steps[0]) if classify else 1.0
    raw = encode(data, wanted, variant.inputs)
    sha = hashlib.sha256(raw).hexdigest()

    def write(place: Path) -> dict[str, int]:
        (place / _FILE).write_bytes(raw)
        return {"samples": len(data)}

    entry = cache.keep(variant.cache, cache.key_of("golden/1", sha), write)
    return GoldenFile(entry.path(_FILE), Golden(FileRef(sha, len(raw)), len(data), max_abs, agreement))


def output_step(spec: TensorSpec, expected: FloatArray) -> float:
    """The smallest difference that an 8-bit output can show: its scale, or 1/256 of the source's range."""
    if spec.scale:
        return spec.scale
    finite = expected[np.isfinite(expected)]
    return float(finite.max() - finite.min()) / 256 if finite.size else 0.0


def choose(
    scores: FloatArray, labels: NDArray[np.int32] | None, step: float, count: int, seed: int = SEED
) -> NDArray[np.intp]:  # fmt: skip
    """Positions of samples that cover the classes, in the order of the data.

    Classes take turns; within a class those come first that the source answers rightly and clearly, in a seeded order.

    Args:
        scores: the source's first output, [n, …].
        labels: int32 [n]; without them a class is what the source answers.
        step: of the output.
        count: how many at most.
        seed: of the order.

    Raises:
        InputError: no sample has finite scores.
    """
    flat = scores.reshape(len(scores), -1)
    usable = np.flatnonzero(np.isfinite(flat).all(axis=1))
    if not usable.size:
        raise InputError(
            "the source model answers every evaluation sample with NaN or infinity",
            hint="look at the model and at the scale of the data",
        )
    best = flat.argmax(axis=1)
    groups = best if labels is None else labels
    ordered = np.sort(flat, axis=1)
    margin = ordered[:, -1] - ordered[:, -2] if flat.shape[1] > 1 else np.full(len(flat), np.inf)
    good = (margin >= CLEAR * step) & (best == groups)
    order = np.random.default_rng(seed).permutation(usable)
    order = np.concatenate([order[good[order]], order[~good[order]]])
    queues = {label: [i for i in order if groups[i] == label] for label in np.unique(groups[usable])}
    rounds = max(len(queue) for queue in queues.values())
    turns = [queue[turn] for turn in range(rounds) for queue in _spread(queues, count) if turn < len(queue)]
    return np.sort(np.asarray(turns[:count], dtype=np.intp))


def _spread(queues: dict[int, list[int]], count: int) -> list[list[int]]:
    """The classes in an order whose first `count` are spread over all of them."""
    labels = sorted(queues)
    if len(labels) <= count:
        return [queues[label] for label in labels]
    first = {labels[i * len(labels) // count] for i in range(count)}
    return [queues[label] for label in sorted(labels, key=lambda label: (label not in first, label))]


def tolerance(wanted: Sequence[FloatArray], given: Sequence[FloatArray], steps: Sequence[float]) -> float:
    """Largest error that a device may show: the largest measured here plus `STEPS` output steps, over all outputs."""
    worst = 0.0
    for source, variant, step in zip(wanted, given, steps, strict=True):
        far = np.abs(variant.astype(np.float64) - source)
        measured = float(far.max()) if np.isfinite(far).all() else float(np.finfo(np.float32).max)
        worst = max(worst, measured + STEPS * step)
    return worst


def steady(wanted: FloatArray, given: FloatArray, step: float) -> float:
    """Share of samples whose highest score is the source's class, and stays so when every score moves `STEPS` steps."""
    source, variant = wanted.reshape(len(wanted), -1), given.reshape(len(given), -1)
    best = source.argmax(axis=1)
    rows = np.arange(len(source))
    others = variant.copy()
    others[rows, best] = -np.inf
    margin = variant[rows, best] - others.max(axis=1) if variant.shape[1] > 1 else np.full(len(source), np.inf)
    return float((margin > 2 * STEPS * step).mean())


def encode(data: Dataset, wanted: Sequence[FloatArray], inputs: Sequence[TensorSpec]) -> bytes:
    """The file as `manifest.Golden` describes it: inputs in the variant's dtypes, labels, the source's outputs."""
    parts = [b"".join(quantize_input(data.inputs[spec.name][i], spec) for i in range(len(data))) for spec in inputs]
    labels = np.full(len(data), -1, dtype="<i4") if data.labels is None else data.labels.astype("<i4")
    parts.append(labels.tobytes())
    parts += [np.ascontiguousarray(array, dtype="<f4").tobytes() for array in wanted]
    return b"".join(parts)
