"""Which candidates deserve more samples: successive halving within families, and racing against the budget.

K. Jamieson and A. Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", AISTATS 2016:
all arms get a small budget, the better half gets more, until one is left. Here candidates of one family are alike in
size and speed, so quality alone decides between them and halving loses nothing; families are never halved against each
other, since the Pareto front needs all of them. A candidate whose loss is proven to be above the limit leaves at once.
A few samples may have sent away the one that would have met the budget: where the last of a family does not, those
that left early come back (`again`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeship import wording
from edgeship.optimize.quality import Verdict
from edgeship.optimize.search.candidate import Candidate
from edgeship.optimize.search.evaluate import Limits, Outcome

FIRST = 128  # samples of the first round
RACE = 24  # samples that a set of layers in float is tried on before all of them
GROWTH = 4  # times as many in the next


def rounds(samples: int) -> tuple[int, ...]:
    """Samples of each round; the last one sees all."""
    out = []
    size = FIRST
    while size * 2 <= samples:
        out.append(size)
        size *= GROWTH
    return (*out, samples)


@dataclass(frozen=True)
class Dropped:
    """A candidate that leaves, and why."""

    candidate: Candidate
    why: str


def survivors(
    outcomes: Sequence[Outcome], limits: Limits, *, last: bool = False
) -> tuple[list[Candidate], list[Dropped]]:  # fmt: skip
    """Who goes on to the next round.

    Args:
        outcomes: of this round.
        limits: what may be lost.
        last: after the last round one of each family goes on.

    Returns:
        those who go on, in their order, and the others with a reason.
    """
    gone: list[Dropped] = []
    families: dict[tuple[str, str, tuple[int, int], float], list[Outcome]] = {}
    files: dict[str, Candidate] = {}
    for outcome in outcomes:
        if outcome.verdict is None or outcome.variant is None:
            gone.append(Dropped(outcome.candidate, outcome.error or "it could not be judged"))
        elif (same := files.setdefault(outcome.variant.sha256, outcome.candidate)) != outcome.candidate:
            gone.append(Dropped(outcome.candidate, f"the same file as {same.name}"))
        else:
            families.setdefault(outcome.candidate.family, []).append(outcome)
    kept: set[Candidate] = set()
    for members in families.values():
        ordered = sorted(members, key=lambda o: (last and not _passed(o), *rank(o.verdict)))
        places = 1 if last else (len(ordered) + 1) // 2
        for place, outcome in enumerate(ordered):
            assert outcome.verdict is not None
            low = outcome.verdict.interval[0]
            if place >= places:
                gone.append(
                    Dropped(
                        outcome.candidate, f"{_nth(place + 1)} of {len(ordered)} choices of ranges on {_n(outcome)}"
                    )
                )
            elif low > limits.max_drop and place > 0:
                gone.append(Dropped(outcome.candidate, f"at least {low:.1f} points lost on {_n(outcome)}"))
            else:
                kept.add(outcome.candidate)
    return [o.candidate for o in outcomes if o.candidate in kept], gone


def again(
    finalists: Sequence[Outcome], judged: Sequence[Outcome], limits: Limits, holds: Callable[[Verdict], bool]
) -> list[Candidate]:  # fmt: skip
    """Who left on fewer samples and may still meet the budget, which the last of the family does not.

    Args:
        finalists: one a family, judged on everything.
        judged: how each candidate did when it was judged last.
        limits: what may be lost.
        holds: whether a verdict is good enough.
    """
    short = {o.candidate.family: o.samples for o in finalists if o.verdict is None or not holds(o.verdict)}
    files = {o.variant.sha256 for o in finalists if o.variant is not None}
    out = []
    for outcome in judged:
        verdict, variant = outcome.verdict, outcome.variant
        if verdict is None or variant is None or variant.sha256 in files:
            continue
        computes = verdict.gate is None or verdict.gate.passed
        early = outcome.samples < short.get(outcome.candidate.family, 0)
        if early and computes and verdict.interval[0] <= limits.max_drop:
            files.add(variant.sha256)
            out.append(outcome.candidate)
    return out


def _passed(outcome: Outcome) -> bool:
    """On all samples: one that holds every limit comes before one that loses less and breaks that of a class."""
    return outcome.verdict is not None and outcome.verdict.passed


def rank(verdict: Verdict | None) -> tuple[float, float, float]:
    """Better is smaller: what is lost, then answers that differ from the source's, then the largest difference."""
    if verdict is None:
        return (float("inf"),) * 3
    return verdict.drop, 1 - verdict.agreement, verdict.max_abs


def _n(outcome: Outcome) -> str:
    return wording.counted(outcome.samples, "sample")


def _nth(number: int) -> str:
    return {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth"}.get(number, f"{number}th")
