"""Which channels go: those that matter least, for what they cost; pure functions of arrays."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edgeship.errors import ConversionError
from edgeship.optimize.prune.channels import Channels, Kept, length, macs
from edgeship.optimize.prune.plan import Plan

Scores = Mapping[int, NDArray[np.float64]]  # group -> importance of each of its channels

#: A group keeps at least this part of its channels, whatever a speedup asks for: an empty layer cuts a network in two.
LEAST = 0.125


def step(size: int) -> int:
    """Channels of a group go in steps of this: 8 from 32 on, fewer in small groups.

    The inner loops of XNNPACK and of the int8 kernels for Arm work on 8 channels at a time: 25 of them cost what 32 do.
    """
    return 1 << max(0, min(3, (size // 4).bit_length() - 1))


def importance(channels: Channels, products: Mapping[tuple[str, str], NDArray[np.float64]]) -> Scores:
    """How much the loss would change, to first order, when a channel no longer counts.

    A layer that reads a channel is linear in what it reads it with, so the sum of gradient × weight over these weights
    is the first-order change of the loss when the channel is taken out: Molchanov et al., Importance Estimation for
    Neural Network Pruning (CVPR 2019), equation 8, with the gate set on what is read. It is squared and averaged over
    batches; all readers of a group count together.

    Args:
        channels: of the network.
        products: (layer, weight) -> gradient × weight, [batches, *weight.shape].
    """
    batches = len(next(iter(products.values())))
    sums = {number: np.zeros((batches, group.size)) for number, group in channels.groups.items()}
    for cut in channels.cuts:
        if not cut.reads:
            continue
        product = products[cut.layer, cut.weight]
        others = tuple(axis + 1 for axis in range(product.ndim - 1) if axis != cut.axis)
        along = product.sum(axis=others)
        for number, where in channels.owners(cut.layout):
            sums[number] += along[:, where]
    return {number: (values**2).mean(axis=0) for number, values in sums.items()}


def choose(channels: Channels, scores: Scores, plan: Plan) -> Kept:
    """The channels that stay, of each group that loses some.

    Raises:
        ConversionError: no group may lose channels, or the speedup is out of reach.
    """
    if not channels.free:
        raise ConversionError(
            "no channels can be pruned: " + ("; ".join(why_held(channels)[:4]) or "it has no inner layers"),
            hint="distill a smaller student; --method magnitude sets weights to zero, and makes nothing faster",
        )
    if plan.speedup is None:
        assert plan.amount is not None
        counts = _evenly(channels, plan.amount)
        if all(counts[number] == group.size for number, group in channels.free.items()):
            raise ConversionError(
                f"an amount of {plan.amount:g} removes no channel: the layers are too narrow",
                hint="give a larger amount",
            )
    else:
        counts = _for_speed(channels, scores, plan.speedup)
    kept: dict[int, NDArray[np.intp]] = {}
    for number, group in channels.free.items():
        if counts[number] < group.size:
            order = np.argsort(-scores[number], kind="stable")[: counts[number]]
            kept[number] = np.sort(order).astype(np.intp)
    return kept


def why_held(channels: Channels) -> list[str]:
    """A line for each layer whose channels stay, and why."""
    lines = {
        f"{maker}: {group.held}"
        for group in channels.groups.values()
        for maker in group.makers
        if group.held is not None
    }
    return sorted(lines | {f"{layer}: {why}" for layer, why in channels.opaque.items()})


def _evenly(channels: Channels, amount: float) -> dict[int, int]:
    """Each free group loses this share, rounded to steps in favour of what stays."""
    counts = channels.sizes()
    for number, group in channels.free.items():
        by = step(group.size)
        keep = by * math.ceil((1 - amount) * group.size / by - 1e-9)
        counts[number] = min(group.size, max(by, keep))
    return counts


def _for_speed(channels: Channels, scores: Scores, speedup: float) -> dict[int, int]:
    """Steps are taken one by one where importance lost for each operation saved is least."""
    counts, free, costs = channels.sizes(), channels.free, Costs(channels)
    total = now = macs(channels.works, counts)
    ranked = {number: np.cumsum(np.sort(scores[number])) for number in free}
    while now * speedup > total:
        best: tuple[float, int, int] | None = None
        for number, group in free.items():
            by = step(group.size)
            after = counts[number] - by
            saved = costs.saved(number, by)
            if after < max(1, math.ceil(LEAST * group.size)) or saved <= 0:
                continue
            lost = _lost(ranked[number], group.size - after) - _lost(ranked[number], group.size - counts[number])
            if best is None or lost / saved < best[0]:
                best = (lost / saved, number, saved)
        if best is None:
            raise ConversionError(
                f"a speedup of {speedup:g} is out of reach: with the narrowest layers it is {total / now:.2f}",
                hint="ask for less, or distill a smaller student",
            )
        by = step(free[best[1]].size)
        counts[best[1]] -= by
        costs.remove(best[1], by)
        now -= best[2]
    return counts


class Costs:
    """Operations of a network while groups lose channels: only what reads or makes a group is looked at again."""

    def __init__(self, channels: Channels) -> None:
        counts = channels.sizes()
        self._each = [work.each for work in channels.works]
        self._in = [length(work.inputs, counts) for work in channels.works]
        self._out = [1 if work.outputs is None else length(work.outputs, counts) for work in channels.works]
        self._uses: dict[int, list[tuple[int, int, int]]] = {}  # group -> (work, times read, times made)
        for index, work in enumerate(channels.works):
            read, made = Counter(work.inputs), Counter(work.outputs or ())
            for number in read.keys() | made.keys():
                self._uses.setdefault(number, []).append((index, read[number], made[number]))

    def saved(self, number: int, by: int) -> int:
        """Operations less when a group loses `by` channels."""
        return sum(
            self._each[i] * (self._in[i] * self._out[i] - (self._in[i] - r * by) * (self._out[i] - m * by))
            for i, r, m in self._uses.get(number, ())
        )

    def remove(self, number: int, by: int) -> None:
        """A group loses `by` channels."""
        for index, read, made in self._uses.get(number, ()):
            self._in[index] -= read * by
            self._out[index] -= made * by


def _lost(cumulative: NDArray[np.float64], removed: int) -> float:
    return float(cumulative[removed - 1]) if removed else 0.0


def summary(channels: Channels, kept: Kept) -> list[dict[str, object]]:
    """For the report: each group that lost channels, by the layers that make them."""
    return [
        {"layers": list(group.makers), "before": group.size, "after": len(kept[number])}
        for number, group in channels.groups.items()
        if number in kept
    ]


def costs(channels: Channels, kept: Kept) -> tuple[int, int]:
    """Multiply-accumulate operations before and after."""
    counts = channels.sizes()
    return macs(channels.works, counts), macs(channels.works, counts | {n: len(k) for n, k in kept.items()})
