"""What all candidates of a format need is made once, before the first round: where that fails, none of them is tried.

It is the float model of the format, the source's own answers, and one call of the metric with these. Each of them
takes long on some models, and fails in the same way for every candidate.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgeship.errors import EdgeshipError
from edgeship.model import ModelFacts
from edgeship.optimize.search.candidate import Candidate
from edgeship.optimize.search.evaluate import Job, Outcome, build, failed
from edgeship.targets.scheme import Scheme


@dataclass(frozen=True)
class Group:
    """Candidates of one format that start from one model."""

    start: Candidate  # the float model as a candidate; the source as it is where nothing is to be made of it
    members: tuple[Candidate, ...]


def groups(candidates: Iterable[Candidate], source: ModelFacts) -> list[Group]:
    """The candidates by format and pruning, in their order."""
    found: dict[tuple[str, float], list[Candidate]] = {}
    for candidate in candidates:
        found.setdefault((candidate.format, candidate.pruned), []).append(candidate)
    return [
        Group(Candidate(name, Scheme(_precision(members, source)), "what others start from", pruned), tuple(members))
        for (name, pruned), members in found.items()
    ]


def _precision(members: Sequence[Candidate], source: ModelFacts) -> str:
    """What the others start from: float32, but for a source that only goes as it is."""
    return source.precision if all(m.scheme.precision == source.precision for m in members) else "float32"


def perform(job: Job) -> Outcome:
    """Build the candidate of a job; an outcome without a verdict."""
    begun = time.monotonic()
    try:
        return Outcome(job.candidate, 0, build(job), seconds=time.monotonic() - begun)
    except EdgeshipError as error:
        return failed(job.candidate, error, seconds=time.monotonic() - begun)
    except MemoryError:
        return Outcome(job.candidate, 0, error="there is not enough memory to convert it", hint="fewer --jobs")
