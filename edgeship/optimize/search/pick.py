"""The Pareto front, the pick and its reason in words, or the nearest miss. Pure rules over what was measured.

Rules this module keeps:

* A budget that was not measured does not hold: a limit on latency without a latency is a miss.
* Of those that meet the budget the fastest is picked, where latency was measured on the device that was asked for or on
  the profile's own architecture.
  Medians whose intervals overlap count as equal: then the profile's order of precisions decides, then the fewest layers
  in float, then its order of formats (a runtime library that it likes less costs more than a model that is some bytes
  smaller saves), then size, then what is lost.
* Elsewhere latency says little of the board, so the profile's order comes first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeship.bench import units
from edgeship.optimize.quality import AccuracyBudget, Verdict, slice_limit
from edgeship.optimize.search.candidate import Candidate
from edgeship.optimize.search.latency import HOST, Latency
from edgeship.targets.base import Variant


@dataclass(frozen=True)
class Budget:
    """What the pick has to meet; None: no limit. Drops in points, positive is worse."""

    max_drop: float = 1.0
    max_class_drop: float = 5.0
    max_latency_us: float | None = None  # p95
    max_bytes: int | None = None
    strict: bool = False  # "not proven" is a miss
    max_slice_drop: float | None = None  # None: as for a class


@dataclass(frozen=True)
class Row:
    """A candidate that was built and judged on all evaluation data."""

    candidate: Candidate
    variant: Variant
    verdict: Verdict
    latency: Latency | None = None
    untimed: str | None = None  # why there is no latency


@dataclass(frozen=True)
class Miss:
    """One limit that a row breaks: by how much, as a part of the limit, and in words."""

    excess: float
    text: str
    kind: str = "quality"  # or proof, size, latency


@dataclass(frozen=True)
class Pick:
    """What a search recommends, and why. Without a row nothing meets the budget, and `nearest` comes closest."""

    row: Row | None
    reason: str
    nearest: Row | None = None


def misses(row: Row, budget: Budget) -> list[Miss]:
    """The limits that a row breaks."""
    verdict = row.verdict
    out: list[Miss] = []
    if not verdict.passed:
        out.append(quality_miss(verdict, budget))
    elif budget.strict and not verdict.proven:
        # Measured within the limit is nearer than anything that was measured above it.
        out.append(Miss(0.0, _open(verdict, budget), "proof"))
    if budget.max_bytes is not None and row.variant.bytes > budget.max_bytes:
        excess = row.variant.bytes / budget.max_bytes - 1
        text = f"{_above(row.variant.bytes, budget.max_bytes, units.size)} allowed"
        out.append(Miss(excess, text, "size"))
    if budget.max_latency_us is not None:
        out += _latency(row, budget.max_latency_us)
    return out


def quality_miss(verdict: Verdict, limits: AccuracyBudget) -> Miss:
    """What a verdict that did not pass breaks: the whole before a class, a class before a slice."""
    excess, text = 0.1, "the check refuses it"
    for part, limit in ((verdict.worst_slice, slice_limit(limits)), (verdict.worst_class, limits.max_class_drop)):
        if part is not None and (part.interval[0] if part.few else part.drop) > limit:
            excess = (part.drop - limit) / max(limit, 1.0)
            text = f'{_points(part.drop, limit)} points lost in {part.kind} "{part.name}", {limit:.1f} allowed'
    if verdict.drop > limits.max_drop:
        excess = max(excess, (verdict.drop - limits.max_drop) / max(limits.max_drop, 1.0))
        text = f"{_points(verdict.drop, limits.max_drop)} points lost, {limits.max_drop:.1f} allowed"
    if verdict.gate is not None and not verdict.gate.passed:
        excess, text = max(excess, 1.0), f"it computes something else: {verdict.gate.reason}"
    return Miss(excess, text)


def _points(drop: float, limit: float) -> str:
    """With as many decimals as it takes to see that it is above the limit."""
    places = next((n for n in range(1, 6) if round(drop, n) > limit), 6)
    return f"{drop:.{places}f}"


def _above(value: float, limit: float, show: Callable[[float], str]) -> str:
    """A value and its limit; where both would read alike, by how much it is above."""
    if show(value) != show(limit):
        return f"{show(value)} of {show(limit)}"
    return f"{show(value - limit)} above the {show(limit)}"


def _latency(row: Row, limit: float) -> list[Miss]:
    if row.latency is None or row.latency.p95_us is None:
        # What nobody measured comes after everything that was.
        return [Miss(math.inf, f"its latency is not known: {row.untimed or 'too few runs'}", "latency")]
    if row.latency.p95_us <= limit:
        return []
    text = f"p95 {_above(row.latency.p95_us, limit, units.time)} allowed on {row.latency.place}"
    return [Miss(row.latency.p95_us / limit - 1, text, "latency")]


def points(drop: float) -> str:
    """Points lost, with a sign that tells gains: `0.3`, `−0.1`."""
    text = f"{drop:.1f}".replace("-", "−")
    return "0.0" if text == "−0.0" else text


def front(rows: Sequence[Row]) -> list[Row]:
    """Rows that no other row is at least as good as in everything and better than in something.

    Compared are what is lost, bytes, and median latency where both have one.
    """
    return [row for row in rows if not any(_dominates(other, row) for other in rows)]


def _dominates(a: Row, b: Row) -> bool:
    pairs = [(max(a.verdict.drop, 0.0), max(b.verdict.drop, 0.0)), (a.variant.bytes, b.variant.bytes)]
    if a.latency is not None and b.latency is not None:
        pairs.append((a.latency.median_us, b.latency.median_us))
    return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)


def choose(
    rows: Sequence[Row], budget: Budget, *, arch: str, precisions: Sequence[str], formats: Sequence[str]
) -> Pick:  # fmt: skip
    """Decide.

    Args:
        rows: what was judged on all data.
        budget: what has to be met.
        arch: of the profile's boards.
        precisions: of the profile, in order of preference.
        formats: the same; the source's own first.
    """
    if not rows:
        return Pick(None, "no candidate could be built")
    fine = [row for row in rows if not misses(row, budget)]
    if not fine:
        nearest = min(rows, key=lambda r: (sum(m.excess for m in misses(r, budget)), r.variant.bytes))
        broken = "; ".join(m.text for m in misses(nearest, budget))
        return Pick(None, f"no candidate meets the budget; {nearest.candidate.name} comes nearest: {broken}", nearest)
    timed = [row for row in fine if row.latency is not None]
    if timed and _decides(timed[0].latency, arch):
        best = min(timed, key=lambda r: r.latency.median_us if r.latency else 0.0)
        assert best.latency is not None
        equal = [row for row in timed if row.latency is not None and _overlap(row.latency, best.latency)]
        chosen, why = _preferred(equal, precisions, formats)
        assert chosen.latency is not None
        kind = "" if len(timed) == len(fine) else " timed"
        reason = f"fastest of {len(timed)}{kind} within the budget: median {units.time(chosen.latency.median_us)}"
        reason += f" on {chosen.latency.place}"
        if chosen.latency.arch != arch:
            reason += f", which is {chosen.latency.arch} and not {arch} as its profile says"
        if len(equal) > 1:
            reason += f"; {len(equal)} are as fast, of them {why}"
    else:
        chosen, why = _preferred(fine, precisions, formats)
        reason = f"of {len(fine)} within the budget, {why}"
        if len(fine) == 1:
            reason = "it meets the budget" if len(rows) == 1 else f"of {len(rows)} the only one within the budget"
        if timed and timed[0].latency is not None:
            held = (
                "the latencies, and so what was held against the limit," if budget.max_latency_us else "the latencies"
            )
            reason += f"; {held} are of {timed[0].latency.arch}, not of the board: --on DEVICE measures there"
    return Pick(chosen, reason + _proof(chosen.verdict, budget))


def _preferred(rows: Sequence[Row], precisions: Sequence[str], formats: Sequence[str]) -> tuple[Row, str]:
    """The row that comes first by the order of this module, and in words what made it so."""
    left, why = list(rows), []
    steps: tuple[tuple[Callable[[Row], float], str], ...] = (
        (lambda r: _place(r.candidate.scheme.precision, precisions),
         f"the first in the profile's order of precisions ({', '.join(precisions)})"),
        (lambda r: len(r.candidate.scheme.keep) + len(r.candidate.scheme.weights_only),
         "with the fewest layers in float"),
        (lambda r: _place(r.candidate.format, formats), f"the first in the order of formats ({', '.join(formats)})"),
        (lambda r: r.variant.bytes, "the smallest"),
        (lambda r: r.verdict.drop, "the one that loses least"),
    )  # fmt: skip
    for key, words in steps:
        least = min(key(row) for row in left)
        fewer = [row for row in left if key(row) == least]
        if len(fewer) < len(left):
            why.append(words)
        left = fewer
    return left[0], ", then ".join(why) or "the first that was tried"


def _place(name: str, order: Sequence[str]) -> int:
    return order.index(name) if name in order else len(order)


def _proof(verdict: Verdict, limits: AccuracyBudget) -> str:
    return "" if verdict.proven else "; " + _open(verdict, limits)


def _open(verdict: Verdict, limits: AccuracyBudget) -> str:
    """Which limit is held without a proof, and how many samples would be one."""
    what = "its loss is"
    kinds = [part.kind for part in (verdict.worst_class, verdict.worst_slice) if part is not None]
    if verdict.interval[1] <= limits.max_drop and kinds:
        what = f"its whole loss is proven, that of a {' or '.join(kinds)} is"
    return f"{what} within the limit but not proven{_samples(verdict)}"


def _samples(verdict: Verdict) -> str:
    return "" if verdict.needs_n is None else f", that needs n ≥ {verdict.needs_n:,}"


def _decides(latency: Latency | None, arch: str) -> bool:
    """Measured on the very device that was asked for, or on the architecture of its kind."""
    return latency is not None and (latency.place != HOST or latency.arch == arch)


def _overlap(a: Latency, b: Latency) -> bool:
    return a.interval_us[0] <= b.interval_us[1] and b.interval_us[0] <= a.interval_us[1]
