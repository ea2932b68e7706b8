"""Candidates, verdicts and rows for tests of a search, without a model: answers are made up, the judging is real."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeship.optimize.quality import AccuracyBudget, Verdict, judge
from edgeship.optimize.search.candidate import Candidate
from edgeship.optimize.search.evaluate import Outcome
from edgeship.optimize.search.latency import Latency
from edgeship.optimize.search.pick import Row
from edgeship.runtime.manifest import TensorSpec
from edgeship.targets.base import Recipe, Variant
from edgeship.targets.scheme import Scheme


@dataclass(frozen=True)
class Limits:
    """A budget of quality."""

    max_drop: float = 1.0
    max_class_drop: float = 5.0


def verdict(lost: int = 0, n: int = 1000, limits: AccuracyBudget | None = None) -> Verdict:
    """Of a variant that is wrong on `lost` of `n` samples that the source is right on, spread over ten classes."""
    truth = np.arange(n) % 10
    given = truth.copy()
    given[:lost] = (given[:lost] + 1) % 10

    def scores(classes: NDArray[np.int64]) -> NDArray[np.float32]:
        out = np.full((n, 1, 10), 0.01, np.float32)
        out[np.arange(n), 0, classes] = 0.9
        return out

    spec = TensorSpec("p", "float32", (1, 10))
    return judge([scores(truth)], [scores(given)], [spec], limits or Limits(), truth=truth.astype(np.int32))


def variant(candidate: Candidate, size: int = 1000, sha: str | None = None) -> Variant:
    """A variant that is nowhere."""
    recipe = Recipe("ab" * 32, "keras", candidate.format, candidate.scheme.precision, ())
    name = sha or f"{abs(hash(candidate)):064x}"[:64]
    return Variant(Path("c/k/m"), recipe, Path("c/k/r"), (), (), size, name, int8_share=0.99)


def candidate(words: str, **scheme: object) -> Candidate:
    """`tflite int8`, `onnx int8 percentile`."""
    format_name, precision, *ranges = words.split()
    return Candidate(format_name, Scheme(precision, *ranges, **scheme))  # type: ignore[arg-type]  # of a test


def outcome(words: str, lost: int = 0, n: int = 1000, sha: str | None = None) -> Outcome:
    """How a candidate did."""
    one = candidate(words)
    return Outcome(one, n, variant(one, sha=sha), verdict(lost, n))


def latency(median_us: float, *, half: float = 0.02, p95: float | None = None, arch: str = "x86_64") -> Latency:
    """A measurement whose interval reaches `half` of the median to both sides."""
    around = (median_us * (1 - half), median_us * (1 + half))
    return Latency("host", arch, median_us, around, median_us * 1.2 if p95 is None else p95, 10_000_000, 256)


def row(
    words: str, *, lost: int = 0, size: int = 1000, us: float | None = None, arch: str = "x86_64",
    limits: Limits | None = None, keep: tuple[str, ...] = (), n: int = 1000,
) -> Row:  # fmt: skip
    """A candidate that was judged on everything."""
    one = candidate(words, keep=keep)
    timed = None if us is None else latency(us, arch=arch)
    return Row(one, variant(one, size), verdict(lost, n, limits), timed, None if timed else "not timed")
