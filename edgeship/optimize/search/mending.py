"""What is tried with a finalist that breaks its budget, the cheapest for the board first.

1. Its weights are fitted to what the layers read (`targets.rounding`): the same size, the same speed.
2. Some layers compute in float, with int8 weights but where these cost most for their number: a first convolution of
   288 weights in float makes no file larger. Int8 weights together cost little against what the layers that stay int8
   cost, so hardly a layer more has to compute in float for them.
3. Where no such set is enough, all weights of those layers are float.
4. Of the set that does, as many layers as the budget allows get int8 weights after all.

Of int8-weights every layer computes in float already, so only the few whose weights cost most become float.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from edgeship.optimize.quality import Verdict
from edgeship.optimize.search import halving, mixed
from edgeship.optimize.search.candidate import Candidate
from edgeship.optimize.search.evaluate import Outcome
from edgeship.optimize.search.sensitivity import Cost
from edgeship.targets.scheme import FITTED

FREE = 0.01  # of all weights: so many may be float without a thought of the file's size
LITTLE = 0.25  # of what the layers that stay int8 cost, int8 weights of the others may cost

MENDED = ("int8", "int8-weights")  # precisions whose finalists are mended
FIT = "weights fitted to what their layers read"
MIX = "the layers that int8 costs most compute in float"
FEW = "the layers whose int8 weights cost most stay in float"


@dataclass(frozen=True)
class Means:
    """What mending works with.

    Attributes:
        judge: builds and judges candidates on so many samples, in their order.
        rank: a candidate's layers, the costliest first; () where they cannot be ranked.
        holds: whether a verdict needs no mending.
        lost: whether an outcome on a few samples is proof enough that the budget is broken.
        samples: all there are to judge on.
    """

    judge: Callable[[Sequence[Candidate], int], list[Outcome]]
    rank: Callable[[Candidate], tuple[Cost, ...]]
    holds: Callable[[Verdict], bool]
    lost: Callable[[Outcome], bool]
    samples: int


@dataclass
class Mended:
    """What came of it: `found` go on as finalists; `gone` do not, and why."""

    found: list[Outcome] = field(default_factory=list)
    gone: dict[Candidate, str] = field(default_factory=dict)


def mend(outcome: Outcome, means: Means) -> Mended:
    """Try to have a finalist that was judged meet its budget."""
    out = Mended()
    best = outcome
    candidate = outcome.candidate
    if candidate.scheme.rounding == "nearest" and candidate.scheme.per_channel and candidate.scheme.precision in FITTED:
        fitted = means.judge([candidate.fitted(FIT)], means.samples)[0]
        if fitted.verdict is not None and outcome.verdict is not None:
            mended = means.holds(fitted.verdict)
            if mended or halving.rank(fitted.verdict) <= halving.rank(outcome.verdict):
                out.found.append(fitted)
            else:
                out.gone[fitted.candidate] = "the nearest steps lose less"
            if mended:
                return out
            # what int8 activations lose is far more, and hides which weights are the better ones
            if fitted.verdict.interval[0] <= outcome.verdict.drop:
                best = fitted
    if layers := means.rank(best.candidate):
        _Mixing(best.candidate, layers, means, out).perform()
    return out


class _Mixing:
    """The search for layers that compute in float."""

    def __init__(self, base: Candidate, layers: Sequence[Cost], means: Means, out: Mended) -> None:
        self._base, self._means, self._out = base, means, out
        self._layers = {cost.layer.name: cost for cost in layers}
        self._seen: dict[Candidate, Outcome] = {}
        self._chosen: dict[tuple[str, ...], Candidate] = {}
        self._weights_only = base.scheme.precision == "int8-weights"
        self._form: Callable[[Sequence[str]], Candidate] = self._float

    def perform(self) -> None:
        """Search; `out` gets what was found and what was not."""
        layers = list(self._layers.values())
        if self._weights_only:
            layers = by_weights([cost for cost in layers if cost.layer.weights])
        parts = [
            mixed.Part(c.layer.name, c.place, c.layer.weights, c.layer.weights if self._weights_only else c.work)
            for c in layers
        ]
        small = [replace(part, weights=0) for part in parts]  # int8 weights: any number of layers may have them
        names = None
        for form, of in ((self._float, parts),) if self._weights_only else (
            (self._by_cost, small), (self._float, parts)
        ):  # fmt: skip
            self._form, self._chosen = form, {}
            if (names := mixed.fewest(of, self._judge)) is not None:
                break
        found = None if names is None else self._lightest(names)
        if found is not None:
            self._out.found.append(self._seen[found])
        for candidate in self._seen:
            if candidate != found:
                self._out.gone.setdefault(candidate, self._why_not(candidate, found))

    def _why_not(self, candidate: Candidate, found: Candidate | None) -> str:
        if found is None or not self._good(candidate):
            return "that is not enough"
        one, other = (len(c.scheme.keep) + len(c.scheme.weights_only) for c in (candidate, found))
        return "fewer layers in float do" if one > other else "fewer float weights do"

    def _judge(self, sets: Sequence[tuple[str, ...]]) -> list[bool]:
        made = {names: self._form(names) for names in sets}
        self._try(list(made.values()))
        self._chosen |= {names: candidate for names, candidate in made.items() if self._good(candidate)}
        return [names in self._chosen for names in sets]

    def _try(self, candidates: Sequence[Candidate]) -> None:
        """Outcomes on all samples, or on the first few where these prove that the budget is broken."""
        new = list(dict.fromkeys(c for c in candidates if c not in self._seen))
        means = self._means
        if means.samples >= 2 * halving.RACE:
            few = dict(zip(new, means.judge(new, halving.RACE), strict=True))
            self._seen |= few
            new = [c for c in new if not means.lost(few[c])]
        self._seen |= dict(zip(new, means.judge(new, means.samples), strict=True))

    def _good(self, candidate: Candidate) -> bool:
        verdict = self._seen[candidate].verdict
        return verdict is not None and self._means.holds(verdict)

    def _float(self, names: Sequence[str]) -> Candidate:
        return self._base.mixed(names, FEW if self._weights_only else MIX)

    def _by_cost(self, names: Sequence[str]) -> Candidate:
        """Int8 weights but where they cost most for their number: those left cost little."""
        inside = set(names)
        allowed = LITTLE * sum(cost.error for name, cost in self._layers.items() if name not in inside)
        total = sum(cost.layer.weights for cost in self._layers.values())
        weighted = self._weighted(names)
        left = sum(cost.weights_error for cost in weighted)
        count = heavy = 0
        for cost in weighted:
            heavy += cost.layer.weights
            if heavy > mixed.MOST_SHARE * total or (left <= allowed and heavy > FREE * total):
                break
            left -= cost.weights_error
            count += 1
        return self._with_floats(names, weighted, count)

    def _weighted(self, names: Sequence[str]) -> list[Cost]:
        return by_weights([self._layers[name] for name in names if self._layers[name].layer.weights])

    def _with_floats(self, names: Sequence[str], weighted: Sequence[Cost], count: int) -> Candidate:
        """These layers compute in float; of those with weights the first so many have float ones."""
        small = [cost.layer.name for cost in weighted[count:]]
        return self._base.mixed([name for name in names if name not in set(small)], MIX, small)

    def _lightest(self, names: tuple[str, ...]) -> Candidate:
        """Of a set that does: as many with int8 weights as may be."""
        chosen = self._chosen[names]
        weighted = self._weighted(names)
        if self._weights_only or not set(chosen.scheme.keep) & {cost.layer.name for cost in weighted}:
            return chosen
        most = len(weighted) - len(chosen.scheme.weights_only)

        def good(counts: Sequence[int]) -> list[bool]:
            made = [self._with_floats(names, weighted, count) for count in counts]
            self._try(made)
            return [self._good(candidate) for candidate in made]

        return self._with_floats(names, weighted, mixed.least(most, good)) if most else chosen


def by_weights(layers: Sequence[Cost]) -> list[Cost]:
    """Those whose weights as int8 cost most for each of them first."""
    return sorted(layers, key=lambda cost: (-cost.weights_error / max(cost.layer.weights, 1), cost.place))


def mendable(candidate: Candidate, source_precision: str) -> bool:
    """Whether there is anything to try."""
    scheme = candidate.scheme
    return scheme.precision in MENDED and source_precision != scheme.precision and not (
        scheme.keep or scheme.weights_only
    )  # fmt: skip
