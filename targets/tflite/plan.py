"""Decides, for every operator of a float TFLite file, how it is to be computed: a pure function over its structure.

What is asked of the whole model cannot hold for each operator, and a quantizer that is left alone with that raises, or
leaves the operator as it is and says nothing. The rules, chosen by running them:

* An operator is static (int8, int16×8) only where all its activations have a range. Those of branches and loop bodies
  have none, nor those that are never computed; such operators keep float activations, with int8 weights if they can.
* A table that is only looked up (GATHER on a constant) is int8 wherever int8 weights are asked for: it needs no range.
* A layer that is to stay in float stays in float whole: weights and activations. What only moves its values about (a
  max pool, a reshape) stays in float with it: int8 there would lose what was to be kept.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from edgeship.errors import UsageError
from edgeship.targets.scheme import CALIBRATED, Scheme
from edgeship.targets.tflite.reader import Operator, Structure, Subgraph, Tensor

#: How an operator may be computed. float is as it was.
HOW = ("float", "float16", "dynamic", "int8-weights", "int8", "int16x8")

GATHER = 36  # builtin code of the schema

#: Builtin codes of operators that move values and compute none: DEPTH_TO_SPACE, MAX_POOL_2D, RESHAPE, SPACE_TO_DEPTH,
#: PAD, GATHER, TRANSPOSE, SQUEEZE, STRIDED_SLICE, SPLIT, PADV2, SLICE, EXPAND_DIMS, PACK, UNPACK,
#: RESIZE_NEAREST_NEIGHBOR, MIRROR_PAD.
MOVERS = (5, 17, 22, 26, 34, 36, 39, 43, 45, 49, 60, 65, 70, 83, 88, 97, 100)

Place = tuple[int, int]  # (subgraph, operator or tensor)

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


def scope(operator: Operator, graph: Subgraph) -> str:
    """Name of an operator: the tensors that it writes."""
    return ";".join(graph.tensors[i].name for i in operator.outputs)


def treat(
    structure: Structure, scheme: Scheme, takes: Mapping[str, Collection[int]], ranged: Collection[str]
) -> tuple[Treatment, ...]:  # fmt: skip
    """How each operator is to be computed.

    Args:
        structure: of the float file; the names of its tensors are unique.
        scheme: what is asked for.
        takes: how -> builtin codes that the quantizer can treat so.
        ranged: names of the tensors whose range is known.

    Raises:
        UsageError: a layer is to stay in float that is not there; it says which names are close.
    """
    kept = _with_movers(structure, kept_operators(structure, scheme.keep))
    out: list[Treatment] = []
    for number, graph in enumerate(structure.subgraphs):
        for index, operator in enumerate(graph.operators):
            code = structure.codes[operator.code][0]
            how, why = "float", "kept in float"
            if (number, index) not in kept:
                how, why = _how(code, operator, graph, scheme.precision, takes, ranged)
            out.append(Treatment(number, index, code, scope(operator, graph), how, why))
    return tuple(out)


def kept_operators(structure: Structure, keep: Collection[str]) -> frozenset[Place]:
    """(subgraph, operator) of each layer of `keep`. Raises UsageError for a name that no operator writes."""
    wanted, found = set(keep), set[Place]()
    known: dict[str, Place] = {}
    for number, graph in enumerate(structure.subgraphs):
        for index, operator in enumerate(graph.operators):
            for name in {scope(operator, graph), *(graph.tensors[i].name for i in operator.outputs)}:
                known[name] = (number, index)
    for name in sorted(wanted):
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
            raise UsageError(
                f"no layer writes {name!r}" + (f"; did you mean {' or '.join(map(repr, close))}?" if close else ""),
                hint="layers go by the names of the tensors that they write in the float TFLite model",
            )
        found.add(known[name])
    return frozenset(found)


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


def _how(
    code: int, operator: Operator, graph: Subgraph, asked: str, takes: Mapping[str, Collection[int]],
    ranged: Collection[str],
) -> tuple[str, str]:  # fmt: skip
    """(how, why it is less than asked)."""
    if asked in _INT8_WEIGHTS and code == GATHER and _table(operator, graph):
        return "int8", ""
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


def activations(operator: Operator, graph: Subgraph) -> Iterator[Tensor]:
    """The float tensors that an operator reads or writes and that are no constants."""
    for index in (*operator.inputs, *operator.outputs):
        if index >= 0 and (tensor := graph.tensors[index]).dtype == "float32" and not tensor.constant:
            yield tensor


def weights(operator: Operator, graph: Subgraph) -> tuple[Tensor, ...]:
    """The constant float matrices and kernels that an operator reads."""
    read = (graph.tensors[index] for index in operator.inputs if index >= 0)
    return tuple(t for t in read if t.constant and t.dtype == "float32" and sum(d > 1 for d in t.shape) > 1)


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
    return out
