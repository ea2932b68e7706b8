"""Decides, for every operator of a float TFLite file, how it is to be computed: a pure function over its structure.

What is asked of the whole model cannot hold for each operator, and a quantizer that is left alone with that raises, or
leaves the operator as it is and says nothing. The rules, chosen by running them:

* An operator is static (int8, int16×8) only where all its activations have a range. Those of branches and loop bodies
  have none, nor those that are never computed; such operators keep float activations, with int8 weights if they can.
* A table that is only looked up (GATHER on a constant) is int8 wherever int8 weights are asked for: it needs no range.
* A division stays in float: a divisor that rounds to zero ends the integer kernel with an error, or with the process.
* A comparison stays in float: what keeps a division from zero is one, and it must not see a zero that is none.
* Parts of one output whose ranges differ much (boxes in pixels, scores of 0 to 1) are joined in float, and the output
  stays in float: with one scale for both, every score is 0 or the size of a box's rounding.
* A layer that is to stay in float stays in float whole: weights and activations. One of `weights_only` has int8 weights
  and computes in float all the same, as "int8-weights" does. What only moves the values of either about (a max pool, a
  reshape) stays in float with it: int8 there would lose what was to be kept. So does what moves values between any two
  operators in float, or from an input of the model to one.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from edgeship.targets.scheme import CALIBRATED, Scheme
from edgeship.targets.tflite.named import Place, kept_operators, scope, weights
from edgeship.targets.tflite.reader import Operator, Structure, Subgraph, Tensor

#: How an operator may be computed. float is as it was.
HOW = ("float", "float16", "dynamic", "int8-weights", "int8", "int16x8")

GATHER, _DIV = 36, 42  # builtin codes of the schema
_COMPARING = (58, 61, 62, 63, 71, 72)  # LESS, GREATER, GREATER_EQUAL, LESS_EQUAL, EQUAL, NOT_EQUAL
_JOINING = (2, 83)  # CONCATENATION, PACK
_MOVING = (22, 39, 43, 70)  # RESHAPE, TRANSPOSE, SQUEEZE, EXPAND_DIMS: one input, the same values

#: Ranges of parts of an output that differ by more are not given one scale: 16 leaves the smaller part 16 of 256 steps.
SPREAD = 16.0

#: Builtin codes of operators that move values and compute none: DEPTH_TO_SPACE, MAX_POOL_2D, RESHAPE, SPACE_TO_DEPTH,
#: PAD, GATHER, TRANSPOSE, SQUEEZE, STRIDED_SLICE, SPLIT, PADV2, SLICE, EXPAND_DIMS, PACK, UNPACK,
#: RESIZE_NEAREST_NEIGHBOR, MIRROR_PAD.
MOVERS = (5, 17, 22, 26, 34, 36, 39, 43, 45, 49, 60, 65, 70, 83, 88, 97, 100)

APART, KEPT = "parts of an output differ in range", "kept in float"
BETWEEN = "it moves values between operators in float"

_INT8_WEIGHTS = ("dynamic", "int8-weights", *CALIBRATED)


@dataclass(frozen=True)
class Treatment:
    """How one operator is to be computed."""

    subgraph: int
    operator: int  # its place in the subgraph
    code: int  # builtin code
    output: str  # names of the tensors that it writes, joined with ";": unique in a file whose tensors' names are
    how: str  # one of `HOW`
    why: str = ""  # where it is less than was asked


def code_of(structure: Structure, place: Place) -> int:
    """Builtin code of an operator."""
    subgraph, operator = place
    return structure.codes[structure.subgraphs[subgraph].operators[operator].code][0]


def treat(
    structure: Structure, scheme: Scheme, takes: Mapping[str, Collection[int]],
    ranges: Mapping[str, tuple[float, float]],
) -> tuple[Treatment, ...]:  # fmt: skip
    """How each operator is to be computed.

    Args:
        structure: of the float file; the names of its tensors are unique.
        scheme: what is asked for.
        takes: how -> builtin codes that the quantizer can treat so.
        ranges: smallest and largest value of the tensors that were calibrated.

    Raises:
        UsageError: a layer is to stay in float that is not there; it says which names are close.
    """
    floats = kept_operators(structure, scheme.keep)
    hybrids = kept_operators(structure, scheme.weights_only) - floats
    kept = _with_movers(structure, floats | hybrids)
    apart = _apart(structure, ranges) if scheme.precision == "int8" and scheme.endpoints != "int8" else frozenset()
    out: list[Treatment] = []
    for number, graph in enumerate(structure.subgraphs):
        for index, operator in enumerate(graph.operators):
            code = structure.codes[operator.code][0]
            how, why = "float", KEPT
            if (number, index) in hybrids and code in takes["int8-weights"] and weights(operator, graph):
                how = "int8-weights"
            if number == 0 and index in apart and (number, index) not in kept:
                why = APART
            elif (number, index) not in kept:
                how, why = _how(code, operator, graph, scheme.precision, takes, ranges)
            out.append(Treatment(number, index, code, scope(operator, graph), how, why))
    return _between(structure, out)


def _with_movers(structure: Structure, kept: frozenset[Place]) -> frozenset[Place]:
    """The operators of `kept`, and those that only move what these write."""
    out = set(kept)
    for number, graph in enumerate(structure.subgraphs):
        written: set[int] = set()
        for index, operator in enumerate(graph.operators):  # in the order in which they run
            moves = structure.codes[operator.code][0] in MOVERS
            if (number, index) in kept or (moves and written & {*operator.inputs}):
                out.add((number, index))
                written |= {*operator.outputs}
    return frozenset(out)


def _between(structure: Structure, treatments: Sequence[Treatment]) -> tuple[Treatment, ...]:
    """The treatments, with what only moves values from one operator in float to another in float too.

    int8 there would round them once more, for nothing. An input of the model counts as written in float.
    """
    out = list(treatments)
    places = {(t.subgraph, t.operator): at for at, t in enumerate(treatments)}
    for number, graph in enumerate(structure.subgraphs):
        floats = {*graph.inputs} if number == 0 else set[int]()
        movers: list[tuple[int, Operator]] = []
        wanted: dict[int, str] = {}  # tensor that is read in float -> why the reader is in float
        for index, operator in enumerate(graph.operators):
            at = places[number, index]
            read = {i for i in operator.inputs if i >= 0 and not graph.tensors[i].constant}
            if out[at].how not in CALIBRATED:
                floats |= {*operator.outputs}
                wanted |= {i: out[at].why for i in read if wanted.get(i) != KEPT}
            elif out[at].code in MOVERS and read and read <= floats and not _table(operator, graph):
                floats |= {*operator.outputs}
                movers.append((at, operator))
        for at, operator in reversed(movers):
            reasons = [wanted[i] for i in operator.outputs if i in wanted]
            if reasons:
                out[at] = replace(out[at], how="float", why=KEPT if KEPT in reasons else BETWEEN)
                wanted |= {i: out[at].why for i in operator.inputs if wanted.get(i) != KEPT}
    return tuple(out)


def _how(
    code: int, operator: Operator, graph: Subgraph, asked: str, takes: Mapping[str, Collection[int]],
    ranged: Collection[str],
) -> tuple[str, str]:  # fmt: skip
    """(how, why it is less than asked)."""
    if asked in _INT8_WEIGHTS and code == GATHER and _table(operator, graph):
        return "int8", ""
    if asked in CALIBRATED and code == _DIV:
        return "float", "a divisor may round to zero"
    if asked in CALIBRATED and code in _COMPARING:
        return "float", "rounded numbers may compare otherwise"
    if asked in CALIBRATED:
        missing = next((t.name for t in activations(operator, graph) if t.name not in ranged), None)
        if code in takes[asked] and missing is None:
            return asked, ""
        why = "the quantizer does not take it" if code not in takes[asked] else f"no range of {missing!r} is known"
        if code in takes["dynamic"] and weights(operator, graph):
            return "dynamic", why
        return "float", why
    if not weights(operator, graph):
        return "float", ""
    return (asked, "") if code in takes[asked] else ("float", "the quantizer does not take it")


def _apart(structure: Structure, ranges: Mapping[str, tuple[float, float]]) -> frozenset[int]:
    """Operators of the main graph that join parts of an output with ranges too far apart, and those that pass it on."""
    graph = structure.subgraphs[0]
    producers = {i: place for place, operator in enumerate(graph.operators) for i in operator.outputs}

    def walk(tensor: int) -> tuple[set[int], float, float]:
        """(operators that only move and join up to `tensor`, smallest and largest range of the parts)."""
        place = producers.get(tensor)
        code = None if place is None else structure.codes[graph.operators[place].code][0]
        if place is None or code not in (*_JOINING, *_MOVING):
            low, high = ranges.get(graph.tensors[tensor].name, (0.0, 0.0))
            size = max(abs(low), abs(high))
            return set(), size or math.inf, size
        operator = graph.operators[place]
        found, smallest, largest = {place}, math.inf, 0.0
        for index in operator.inputs if code in _JOINING else operator.inputs[:1]:
            places, low, high = walk(index)
            found |= places
            smallest, largest = min(smallest, low), max(largest, high)
        return found, smallest, largest

    out: set[int] = set()
    for tensor in graph.outputs:
        places, smallest, largest = walk(tensor)
        if largest > SPREAD * smallest:
            out |= places
    return frozenset(out)


def activations(operator: Operator, graph: Subgraph) -> Iterator[Tensor]:
    """The float tensors that an operator reads or writes and that are no constants."""
    for index in (*operator.inputs, *operator.outputs):
        if index >= 0 and (tensor := graph.tensors[index]).dtype == "float32" and not tensor.constant:
            yield tensor


def _table(operator: Operator, graph: Subgraph) -> bool:
    index = operator.inputs[0] if operator.inputs else -1
    return index >= 0 and graph.tensors[index].constant and graph.tensors[index].dtype == "float32"


def remarks(treatments: tuple[Treatment, ...], scheme: Scheme) -> list[str]:
    """What people should know of it: operators that are computed with more than was asked, by cause."""
    hybrid = [t for t in treatments if t.how == "dynamic" and scheme.precision in CALIBRATED]
    out: list[str] = []
    if hybrid:
        branches = sum(t.subgraph > 0 for t in hybrid)
        where = f", {branches} of them in branches or loops" if branches else ""
        first = next(t for t in hybrid)
        out.append(
            f"{len(hybrid)} operator{'s' * (len(hybrid) > 1)} with weights{where} cannot be {scheme.precision}; their "
            f"weights are int8 and their activations float: {first.output.split(';')[0]!r}: {first.why}"
        )
    if any(t.why == APART for t in treatments):
        out.append(f"{APART}: they are joined in float, and the output stays in float")
    return out
