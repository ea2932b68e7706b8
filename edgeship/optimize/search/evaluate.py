"""One candidate, built and judged on some of the evaluation data. Runs in a process of its own.

Everything that is made lies in the cache under the hash of what decides it, so a search that was interrupted, or that
asks for more samples, does nothing twice.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from edgeship.errors import ConversionError, EdgeshipError, GateError, InputError, UsageError
from edgeship.model import ModelFacts
from edgeship.optimize import board, quality
from edgeship.optimize.board import Trial
from edgeship.optimize.quality import Verdict
from edgeship.optimize.search.candidate import Candidate
from edgeship.optimize.search.store import Stored
from edgeship.reporter import Reporter
from edgeship.targets import registry
from edgeship.targets.base import Variant, needs_calibration

SEED = 0  # of the draw of samples; a smaller draw is part of a larger one


@dataclass(frozen=True)
class Limits:
    """What a variant may lose, in points of the metric."""

    max_drop: float = 1.0
    max_class_drop: float = 5.0
    max_slice_drop: float | None = None  # None: as for a class


@dataclass(frozen=True)
class Job:
    """What to build and how to judge it; goes to another process."""

    source: ModelFacts  # what the candidate is judged against
    start: ModelFacts  # what it is built from: the source, or what pruning made of it
    candidate: Candidate
    calibration: Stored | None
    evaluation: Stored
    samples: int  # of the evaluation data, at most
    limits: Limits
    folder: Path  # the cache
    metric: str | None = None
    labels: tuple[str, ...] = ()
    threads: int = 1
    runtime: str = ""  # that the board has for the format, as its profile names it


@dataclass(frozen=True)
class Outcome:
    """How a candidate did. Without a variant it could not be made, and `error` says why."""

    candidate: Candidate
    samples: int
    variant: Variant | None = None
    verdict: Verdict | None = None
    error: str | None = None
    hint: str | None = None
    seconds: float = 0.0
    kind: type[EdgeshipError] = ConversionError  # of the error
    trial: Trial | None = None  # in the board's runtime


#: What an error of a candidate is told as; an error itself may not come back from another process.
_KINDS = (UsageError, InputError, ConversionError, GateError)


def perform(job: Job) -> Outcome:
    """Build and judge. What cannot be made or judged is an outcome, not an exception."""
    begun = time.monotonic()
    variant = None
    try:
        variant = build(job)
        trial = tried(job, variant)
        verdict = judge(job, variant)
        return Outcome(job.candidate, verdict.samples, variant, verdict, seconds=time.monotonic() - begun, trial=trial)
    except (ConversionError, InputError, UsageError) as error:
        return failed(job.candidate, error, variant, time.monotonic() - begun)


def failed(
    candidate: Candidate, error: EdgeshipError, variant: Variant | None = None, seconds: float = 0.0
) -> Outcome:  # fmt: skip
    """The outcome of a candidate that could not be made or judged."""
    kind = next((kind for kind in _KINDS if isinstance(error, kind)), EdgeshipError)
    return Outcome(candidate, 0, variant, error=str(error), hint=error.hint, seconds=seconds, kind=kind)


def build(job: Job) -> Variant:
    """The candidate's variant. Raises ConversionError, InputError, UsageError."""
    target = registry.target(job.candidate.format)
    data = None
    if needs_calibration(job.start, job.candidate.scheme) and job.calibration is not None:
        data = job.calibration.load()
    return target.build(job.start, job.candidate.scheme, data, job.folder, Reporter())


def tried(job: Job, variant: Variant) -> Trial | None:
    """The variant in the board's runtime. Raises ConversionError where it is refused there, InputError, UsageError."""
    if not job.runtime:
        return None
    few = job.evaluation.load().take(board.SAMPLES, SEED)
    what = f"{job.source.path}: {job.candidate.name}"
    return board.check(variant, job.runtime, few, Reporter(), what=what)


def judge(job: Job, variant: Variant) -> Verdict:
    """The check on `job.samples` of the evaluation data. Raises ConversionError, InputError, UsageError."""
    evaluation = job.evaluation.load().take(job.samples, SEED)
    return quality.check(
        job.source, variant, evaluation, job.limits, threads=job.threads, metric=job.metric, labels=job.labels,
        start=job.start,
    )  # fmt: skip


def work(job: Job) -> Outcome:
    """`perform` in a pool's process: whatever else goes wrong is an outcome too, the search goes on."""
    try:
        return perform(job)
    except EdgeshipError as error:
        return failed(job.candidate, error)
    except MemoryError:
        return Outcome(job.candidate, 0, error=f"process {os.getpid()} ran out of memory", hint="fewer --jobs")
