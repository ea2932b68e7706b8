"""What a search says of its candidates: a verdict in a line, a row for programs, why not one could be judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeship.errors import ConversionError, EdgeshipError, UsageError
from edgeship.optimize.quality import Verdict
from edgeship.optimize.search import pick
from edgeship.optimize.search.candidate import Candidate
from edgeship.optimize.search.evaluate import Limits, Outcome
from edgeship.targets import routes


def why_none(outcomes: Sequence[Outcome], gone: Mapping[Candidate, str]) -> EdgeshipError:
    """Why not one candidate could be built and judged: the model, the data or a metric is at fault, no budget.

    Args:
        outcomes: of all that was tried; none has a verdict.
        gone: why the others were not tried.

    Returns:
        The error of all candidates where they have the same one, with its kind and so its exit code; else one that
        tells each reason once.
    """
    if not outcomes:
        return UsageError(
            routes.told([(candidate.name, why) for candidate, why in gone.items()]),
            hint="--data DATA, or a precision that needs none: --precision float16",
        )
    kinds = {outcome.kind for outcome in outcomes}
    kind = kinds.pop() if len(kinds) == 1 else ConversionError
    hints = {outcome.hint for outcome in outcomes}
    hint = hints.pop() if len(hints) == 1 else None
    reasons = {outcome.error or "it could not be judged" for outcome in outcomes}
    if len(reasons) == 1:
        return kind(reasons.pop(), hint=hint)
    return kind(routes.told(_named(outcomes)), hint=hint)


def _named(outcomes: Sequence[Outcome]) -> list[tuple[str, str]]:
    """(candidate, why not); of a format whose candidates all have one reason, the format."""
    lines = [(o.candidate, (o.error or "").split("\n", 1)[0]) for o in outcomes]
    reasons: dict[str, set[str]] = {}
    for candidate, why in lines:
        reasons.setdefault(candidate.format, set()).add(why)
    named = [(c.format if len(reasons[c.format]) == 1 else c.name, why) for c, why in lines]
    return list(dict.fromkeys(named))


def told(verdict: Verdict, limits: Limits) -> str:
    """A verdict in a few words: the whole, and what else it breaks (the whole line says by itself that it does)."""
    whole = verdict.summary.split("   ")[0]
    if verdict.passed or (verdict.drop > limits.max_drop and (verdict.gate is None or verdict.gate.passed)):
        return whole
    return f"{whole}   {pick.quality_miss(verdict, limits).text}"


def row_data(outcome: Outcome) -> dict[str, Any]:
    """A candidate as JSON, for reporters."""
    verdict, variant = outcome.verdict, outcome.variant
    return {
        "candidate": outcome.candidate.name, "format": outcome.candidate.format,
        "precision": outcome.candidate.scheme.precision, "scheme": outcome.candidate.scheme.encode(),
        "samples": outcome.samples,
        "drop": None if verdict is None else verdict.drop, "passed": verdict is not None and verdict.passed,
        "bytes": None if variant is None else variant.bytes, "error": outcome.error, "seconds": outcome.seconds,
    }  # fmt: skip
