"""Finds the smallest run of layers that fails, in a number of trials that grows with the logarithm of the layers.

Pure: what a trial is comes in as a function. Two searches, one after the other:

* The end: the first layer up to which the model fails. A beginning that holds the failing layer fails, so this is a
  binary search over the beginnings.
* The start: the last layer from which on it still fails, up to that end. One layer alone is tried first, since most
  often one layer is to blame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edgeship.optimize.compare.graph import Graph


@dataclass(frozen=True)
class Cut:
    """A run of layers as a model of its own."""

    layers: tuple[str, ...]  # names, in order
    inputs: tuple[str, ...]  # tensors that it reads and does not write
    outputs: tuple[str, ...]  # tensors that it writes and does not read


@dataclass(frozen=True)
class Found:
    """The smallest failing part that was found within the limits."""

    cut: Cut
    trials: int
    whole: bool  # no smaller part fails, or none could be tried


class LimitReachedError(Exception):
    """No more trials: a limit of steps or time was reached."""


def beginning(graph: Graph, end: int) -> Cut:
    """Layers 0 to `end`, those that lead to none of the outputs too: what nothing reads is an output."""
    return _cut(graph, range(end + 1), ancestors_of=None)


def between(graph: Graph, start: int, end: int) -> Cut:
    """Of the layers `start` to `end` those that `end` depends on; its output is that of `end`."""
    return _cut(graph, range(start, end + 1), ancestors_of=end)


def _cut(graph: Graph, run: range, *, ancestors_of: int | None) -> Cut:
    chosen = [graph.layers[i] for i in run]
    last = graph.layers[run[-1]]
    if ancestors_of is not None:
        needed = set(last.inputs)
        kept = [last]
        for layer in reversed(chosen[:-1]):
            if needed.intersection(layer.outputs):
                kept.append(layer)
                needed |= set(layer.inputs)
        chosen = kept[::-1]
    written = [name for layer in chosen for name in layer.outputs]
    read = [name for layer in chosen for name in layer.inputs]
    inputs = tuple(dict.fromkeys(name for name in read if name not in set(written)))
    loose = tuple(n for n in written if n not in set(read) or n in graph.outputs)
    return Cut(tuple(layer.name for layer in chosen), inputs, last.outputs if ancestors_of is not None else loose)


def smallest(graph: Graph, fails: Callable[[Cut], bool], *, most: int) -> Found | None:
    """The smallest failing part.

    Args:
        graph: of a model that fails as a whole.
        fails: whether a part fails as the whole did; raises LimitReachedError to stop.
        most: trials at most.

    Returns:
        What was found when the search or the trials ended; None where not even all layers fail once they are cut out.
    """
    known: dict[Cut, bool] = {}

    def failing(cut: Cut) -> bool:
        if cut not in known:
            if len(known) >= most:
                raise LimitReachedError
            known[cut] = fails(cut)
        return known[cut]

    if not graph.layers:
        return None
    last = len(graph.layers) - 1
    best: Cut | None = None
    try:
        if not failing(beginning(graph, last)):
            return None
        best = beginning(graph, last)
        low, high = 0, last
        while low < high:
            middle = (low + high) // 2
            if failing(beginning(graph, middle)):
                high = middle
                best = beginning(graph, middle)
            else:
                low = middle + 1
        best = _start(graph, high, failing) or best
    except LimitReachedError:
        pass
    if best is None:
        return None
    return Found(best, len(known), len(best.layers) == len(graph.layers))


def _start(graph: Graph, end: int, failing: Callable[[Cut], bool]) -> Cut | None:
    """The shortest failing run that ends in `end`, None where even the whole beginning up to it does not fail alone."""
    if failing(alone := between(graph, end, end)):
        return alone
    best: Cut | None = None
    low, high = 0, end - 1  # the largest start that fails
    while low <= high:
        middle = (low + high + 1) // 2
        if failing(cut := between(graph, middle, end)):
            best, low = cut, middle + 1
        else:
            high = middle - 1
    return best


def fewest(names: list[str], good: Callable[[tuple[str, ...]], bool], *, most: int) -> tuple[str, ...] | None:
    """A short run of a ranking with which all is well.

    The beginning is doubled until all is well and halved back; the last name of the shortest good beginning is needed,
    so then those before it are dropped, all of them first, then by halves.

    Args:
        names: the most suspicious first.
        good: whether all is well with these treated; may raise LimitReachedError.
        most: trials at most.

    Returns:
        None where not even all of them help, or the trials ran out before any did.
    """
    left = most
    best: tuple[str, ...] | None = None

    def tried(start: int, end: int) -> bool:
        nonlocal left, best
        left -= 1
        if good(tuple(names[start:end])):
            best = tuple(names[start:end])
            return True
        return False

    try:
        end, failed = 1, 0
        while left and failed < len(names) and not tried(0, end := min(end, len(names))):
            failed, end = end, end * 2
        if best is None:
            return None
        while left and end - failed > 1:
            middle = (end + failed) // 2
            if tried(0, middle):
                end = middle
            else:
                failed = middle
        low, high = 0, end - 1  # all is well from `low` on; the last alone is tried first
        middle = high
        while left and low < high:
            if tried(middle, end):
                low = middle
            else:
                high = middle - 1
            middle = (low + high + 1) // 2
    except LimitReachedError:
        pass
    return best


def attributes_text(attributes: Mapping[str, str]) -> str:
    """For people: `kernel_shape [3, 3], group 1`."""
    return ", ".join(f"{key} {value}" for key, value in sorted(attributes.items()))
