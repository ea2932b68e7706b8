"""Mixed precision: the fewest layers in float that meet a budget. Rules alone; whoever calls them builds and judges.

Layers are ranked by what quantizing each of them alone costs (`sensitivity`). Errors of different layers nearly add up
while they are small, so the fewest are most often the costliest few: their number is found by doubling and then halving
the gap; afterwards each of them is tried without, since two layers may have one cause.

What errors do not add up in is a *region*: a spectrogram with its logarithm, a normalization. There int8 anywhere costs
everything, one layer in float mends nothing, and the costliest few are many. So where they are not few, the shortest
beginning of the model that meets the budget is looked for too, then the shortest end, and the one that computes least
in float is taken.

An int8 model it stays: a set may hold at most half of the weights, or do at most half of the work. Operators without
weights cost no weights, nor do those whose weights stay int8. In which form a set computes in float is not told here:
`mending` judges both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

MOST_SHARE = 0.5  # of the weights or of the work; with more of both in float the model is no int8 model any more
ALWAYS = 4  # layers that may be kept in float in a small model too
BATCH = 2  # sets of a doubled number that are judged at once
TRIED_WITHOUT = 8  # layers that are tried without, at most; more of them are no few

#: Judges sets of layers kept in float, all at once where that is faster: True where the budget holds.
Judge = Callable[[Sequence[tuple[str, ...]]], Sequence[bool]]


@dataclass(frozen=True)
class Part:
    """A layer that may stay in float."""

    name: str
    place: int  # in the order in which layers run
    weights: int = 1  # elements that would be float
    work: int = 1  # multiplications of a run, or another measure of it


def fewest(ranked: Sequence[Part], judge: Judge) -> tuple[str, ...] | None:
    """The smallest set found whose layers, kept in float, make the variant meet its budget.

    Args:
        ranked: layers, the costliest first.
        judge: says of each set whether it does.

    Returns:
        the layers, or None where no set that may be kept is enough.
    """
    found = _shortest(ranked, judge)
    if found is None or len(found) > TRIED_WITHOUT:
        order = sorted(ranked, key=lambda part: part.place)
        regions = [_shortest(order, judge)]
        if found is None and regions[0] is None:
            regions.append(_shortest(order[::-1], judge))
        possible = [parts for parts in (found, *regions) if parts is not None]
        found = min(possible, key=_price, default=None)
    return None if found is None else _without(tuple(part.name for part in found), judge)


def _price(parts: Sequence[Part]) -> tuple[int, int, int]:
    return sum(p.work for p in parts), sum(p.weights for p in parts), len(parts)


def _shortest(order: Sequence[Part], judge: Judge) -> tuple[Part, ...] | None:
    """The shortest beginning of a list that does: the number by doubling, then by halving the gap.

    The longest that may be kept is judged with the first ones: where it does not do, nothing else is tried.
    """
    most = _allowed(order)

    def good(counts: Sequence[int]) -> list[int]:
        sets = [tuple(part.name for part in order[:count]) for count in counts]
        return [count for count, fine in zip(counts, judge(sets), strict=True) if fine]

    counts = _doubling(most)
    fine = good(sorted({*counts[:2], *counts[-1:]}))
    if most not in fine:
        return None
    tried = counts[:2]
    while len(fine) == 1 and len(tried) < len(counts) - 1:
        batch = counts[len(tried) : -1][:BATCH]
        fine, tried = [*good(batch), most], [*tried, *batch]
    high = fine[0]
    low = max((count for count in tried if count < high), default=0)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if good([middle]) else (middle, high)
    return tuple(order[:high])


def least(most: int, good: Callable[[Sequence[int]], Sequence[bool]]) -> int:
    """The smallest count that is good, of 0 to `most`, which is known to be: by doubling, then by halving the gap."""
    low, high, count = -1, most, 0
    while count < high:
        if good([count])[0]:
            high = count
            break
        low, count = count, max(1, 2 * count)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if good([middle])[0] else (middle, high)
    return high


def _allowed(order: Sequence[Part]) -> int:
    """How many from the beginning may be kept at most; never all."""
    weights, work = (sum(values) for values in ([p.weights for p in order], [p.work for p in order]))
    most = min(ALWAYS, len(order) - 1)
    heavy = busy = 0
    for count, part in enumerate(order[:-1], 1):
        heavy, busy = heavy + part.weights, busy + part.work
        if heavy <= MOST_SHARE * weights or busy <= MOST_SHARE * work:
            most = max(most, count)
    return max(most, 0)


def _doubling(most: int) -> list[int]:
    out, count = [], 1
    while count < most:
        out.append(count)
        count *= 2
    return [*out, most] if most else []


def _without(layers: tuple[str, ...], judge: Judge) -> tuple[str, ...]:
    """Leave out one after the other what is not needed, the least costly first."""
    while 1 < len(layers) <= TRIED_WITHOUT:
        smaller = [layers[:i] + layers[i + 1 :] for i in reversed(range(len(layers)))]
        found = next((s for s, fine in zip(smaller, judge(smaller), strict=True) if fine), None)
        if found is None:
            break
        layers = found
    return layers
