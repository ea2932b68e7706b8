"""Mixed precision: the fewest layers in float that meet a budget. Rules alone; whoever calls them builds and judges.

Layers are ranked by what quantizing each of them alone costs (`sensitivity`). Errors of different layers nearly add up
while they are small, so the fewest are most often the costliest few: their number is found by doubling and then halving
the gap; afterwards each of them is tried without, since two layers may have one cause.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

MOST_SHARE = 0.5  # of the layers; with more in float the model is no int8 model any more
ALWAYS = 4  # layers that may be kept in float in a small model too
TRIED_WITHOUT = 8  # layers that are tried without, at most

#: Judges sets of layers kept in float, all at once where that is faster: True where the budget holds.
Judge = Callable[[Sequence[tuple[str, ...]]], Sequence[bool]]


def fewest(ranked: Sequence[str], judge: Judge) -> tuple[str, ...] | None:
    """The smallest set found whose layers, kept in float, make the variant meet its budget.

    Args:
        ranked: layers, the costliest first.
        judge: says of each set whether it does.

    Returns:
        the layers, or None where not even half of them are enough.
    """
    most = max(min(ALWAYS, len(ranked) - 1), int(len(ranked) * MOST_SHARE)) if ranked else 0
    counts = _doubling(most)
    good = [c for c, fine in zip(counts, judge([tuple(ranked[:c]) for c in counts]), strict=True) if fine]
    if not good:
        return None
    high = good[0]
    low = max((c for c in counts if c < high), default=0)
    while high - low > 1:
        middle = (low + high) // 2
        if judge([tuple(ranked[:middle])])[0]:
            high = middle
        else:
            low = middle
    return _without(tuple(ranked[:high]), judge)


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
