"""Static quantization in QDQ form, with ranges of our own: what is quantized is decided here, ONNX Runtime writes it.

Decided before ONNX Runtime sees the graph, because it says nothing of these or fails:

* Layers to keep, and the Relu or Clip behind one, which would be quantized for nothing.
* What only layers to keep read is not rounded: neither the tensor, nor what a Relu or a pooling passes on to them. One
  loud channel is then mended by one layer in float, the one that reads it; who writes it has int8 weights and input.
* Tensors whose values are not finite or beyond use (masks of attention): a scale for them leaves nothing of the rest.
* Tails of outputs whose parts differ in range (`parts`), and layers whose answers come to be squared (`magnified`).
* What lies among operators that have no int8 form (`islands`).
* Biases that several operators share become one for each: the quantizer would do it under a name that may be taken.
  Those of Gemm become vectors.
* A Relu that an inner graph reads is not folded away: the inner graph would read nothing. What is reshaped or cut for
  an inner graph is not rounded: it computes in float, and ONNX Runtime 1.31 aborts where it looks for a reader's place.

Weights that the quantizer does not take (recurrent layers, branches and loop bodies, the operators above but for layers
to keep) become int8 all the same and are computed with in float (`weights`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeship.targets.onnx import endpoints, parts, weights
from edgeship.targets.onnx import graph as g
from edgeship.targets.onnx.collect import before_clipping
from edgeship.targets.onnx.islands import islands
from edgeship.targets.onnx.magnified import magnified
from edgeship.targets.onnx.named import kept
from edgeship.targets.scheme import Scheme

Range = Sequence[float]
_CASTS = ("QuantizeLinear", "DequantizeLinear")
#: Operators that pass on the largest or some of the values that they read.
PASSING = frozenset({"Relu", "Clip", "MaxPool", *g.LAYOUT}) - {"Concat"}
_INFERRED = ("onnx.infer", "onnxruntime.quant")  # tells the quantizer that shapes are known: its own inference may fail


@dataclass(frozen=True)
class Excluded:
    """Nodes that are not quantized.

    Attributes:
        keep: all of it stays in float, weights too.
        float_only: computed in float; weights may be int8.
        notes: why, for people.
    """

    keep: frozenset[str]
    float_only: frozenset[str]
    notes: tuple[str, ...] = ()


def excluded(model: Any, scheme: Scheme, found: Mapping[str, Any]) -> Excluded:
    """Decide what is not quantized; `found` is what `collect` wrote."""
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    notes: list[str] = []
    apart: set[str] = set()
    unbounded = set(found["unbounded"])
    if unbounded:
        touching = [n for n in model.graph.node if unbounded.intersection((*n.input, *n.output))]
        apart.update(node.name for node in touching)
        notes.append(
            f"{some([n.name for n in touching])} stay in float32: values that are not finite, or beyond "
            f"any scale, in {some(sorted(unbounded))}"
        )
    if rows := _with_matrix_bias(model):
        apart.update(rows)
        notes.append(f"{some(rows)} stay in float32: a bias that is a matrix is none to the quantizer")
    if scheme.precision == "int8":
        if layers := magnified(model):
            apart.update(node.name for node in layers)
            notes.append(
                f"{some([n.name for n in layers])} compute in float32 with int8 weights: their answers come to be "
                "squared, or put under a root or a logarithm, which makes large what 256 steps lose"
            )
        for output, ratio in sorted(found["parts"].items()):
            if ratio > parts.MAX_RATIO and (tail := parts.tail(model, output)):
                apart.update(node.name for node in tail)
                notes.append(
                    f"parts of output {output!r} differ in range by {ratio:.0f} times, more than one scale can tell: "
                    f"{some([f'{n.op_type} {n.name}' for n in tail])} stay in float32"
                )
    kinds = {*QDQRegistry, *QLinearOpsRegistry}
    held = kept(model, scheme.keep)
    apart.update(islands(model, kinds, apart))
    return Excluded(held, frozenset(apart), tuple(notes))


def quantize(model: Any, scheme: Scheme, found: Mapping[str, Any]) -> tuple[Any, tuple[str, ...]]:
    """A float model, as `prepare` makes it, as static int8 or int16×8.

    Args:
        model: ModelProto.
        scheme: int8 or int16x8.
        found: what `collect` wrote.

    Returns:
        (ModelProto, notes for people).
    """
    from onnxruntime.quantization import QuantType, qdq_quantizer
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    left = excluded(model, scheme, found)
    keep = passing_to(model, left.keep | kept(model, scheme.weights_only))
    wide = scheme.precision == "int16x8"
    bodies = g.with_bodies(model)
    own_biases(model)
    known = {tensor.name for tensor in model.graph.initializer} | {v.name for v in model.graph.input}
    known |= {*g.producers(model.graph), *(node.name for node in model.graph.node)}
    entry = model.metadata_props.add()
    entry.key, entry.value = _INFERRED
    quantizer = qdq_quantizer.QDQQuantizer(
        model, scheme.per_channel, False, QuantType.QInt8, QuantType.QInt16 if wide else QuantType.QInt8,
        tensors_range(model, found["ranges"]), [], sorted(keep | left.float_only),
        sorted({*QDQRegistry, *QLinearOpsRegistry}),
        {"ActivationSymmetric": scheme.symmetric or wide, "WeightSymmetric": True,
         "QDQKeepRemovableActivations": bool(bodies)},
    )  # fmt: skip
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    made = quantizer.model.model
    forget(made)
    read_unrounded(made, keep)
    capture_unrounded(made)
    if scheme.endpoints != "int8":
        read_inputs_as_they_are(made, {*QDQRegistry, *QLinearOpsRegistry}, keep | left.float_only)
    short_names(made, known)
    notes = list(left.notes)
    if scheme.endpoints == "int8":
        floats = endpoints.narrow(made)
        notes += [f"{name} stays float32: it is not quantized as a whole" for name in floats]
    if done := weights.shrink(made, per_channel=scheme.per_channel, keep=left.keep):
        notes.append(f"int8 weights, computed in float: {some(done)}")
    return made, tuple(notes)


def passing_to(model: Any, keep: Collection[str]) -> frozenset[str]:
    """The nodes `keep`, and those before them that pass on what they read to nothing else."""
    readers, outputs = g.consumers(model.graph), {value.name for value in model.graph.output}
    names = set(keep)
    for node in reversed(model.graph.node):
        if node.op_type in PASSING and not outputs.intersection(node.output):
            behind = [reader.name for name in node.output for reader in readers.get(name, ())]
            if behind and names.issuperset(behind):
                names.add(node.name)
    return frozenset(names)


def read_unrounded(model: Any, keep: Collection[str]) -> None:
    """Take out the rounding of tensors that nothing but the nodes `keep` reads, in place."""
    graph = model.graph
    producers, readers, outputs = g.producers(graph), g.consumers(graph), {value.name for value in graph.output}
    for cast in [node for node in graph.node if node.op_type == "DequantizeLinear"]:
        rounding, behind = producers.get(cast.input[0]), readers.get(cast.output[0], [])
        if rounding is None or rounding.op_type != "QuantizeLinear" or len(readers[cast.input[0]]) > 1:
            continue
        if not behind or {cast.input[0], cast.output[0]} & outputs:
            continue
        if any(node.name not in keep or g.inner(node) for node in behind):
            continue
        for node in behind:
            for place, name in enumerate(node.input):
                if name == cast.output[0]:
                    node.input[place] = rounding.input[0]
        graph.node.remove(rounding)
        graph.node.remove(cast)


def capture_unrounded(model: Any) -> None:
    """Let operators that pass on what they read to an inner graph read it before it was rounded, in place."""
    graph = model.graph
    producers = g.producers(graph)
    captured = [name for node in graph.node for name in set(g.reads(node)).difference(node.input)]
    while captured:
        node = producers.get(captured.pop())
        if node is None or node.op_type not in PASSING:
            continue
        cast = producers.get(node.input[0])
        rounding = producers.get(cast.input[0]) if cast is not None and cast.op_type == "DequantizeLinear" else None
        if rounding is not None and rounding.op_type == "QuantizeLinear":
            node.input[0] = rounding.input[0]
        captured.append(node.input[0])
    for kind in reversed(_CASTS):
        readers, outputs = g.consumers(graph), {value.name for value in graph.output}
        for node in [n for n in graph.node if n.op_type == kind and n.output[0] not in outputs]:
            if node.output[0] not in readers and node.input[0] in producers:
                graph.node.remove(node)


def own_biases(model: Any) -> None:
    """Give every operator a bias of its own, in place (onnxruntime issue 24705).

    A Gemm may have a bias of one row or of one number, which the quantizer takes for a vector: it becomes one.
    """
    from onnx import numpy_helper

    held = {tensor.name: tensor for tensor in model.graph.initializer}
    taken = {*held, *g.producers(model.graph)}
    seen: set[str] = set()
    for node in model.graph.node:
        if node.op_type in ("Conv", "ConvTranspose", "Gemm") and len(node.input) > 2 and node.input[2] in held:
            name = node.input[2]
            columns = _columns(node, held)
            if name in seen or columns:
                own = f"{node.name}_own_bias"
                while own in taken:
                    own += "_"
                taken.add(own)
                copied = model.graph.initializer.add()
                copied.CopyFrom(held[name])
                if columns:
                    values = numpy_helper.to_array(held[name]).reshape(-1)
                    copied.CopyFrom(numpy_helper.from_array(np.broadcast_to(values, columns).copy()))
                copied.name = own
                node.input[2] = own
            seen.add(name)


def _columns(node: Any, held: Mapping[str, Any]) -> int:
    """How long the bias of a Gemm has to be, where it is of another shape and can be a vector; else 0."""
    if node.op_type != "Gemm" or node.input[1] not in held:
        return 0
    dims = list(held[node.input[2]].dims)
    across = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    columns = int(held[node.input[1]].dims[0 if across else 1])
    return columns if dims != [columns] and math.prod(dims) in (1, columns) and dims[-2:-1] in ([], [1]) else 0


def _with_matrix_bias(model: Any) -> list[str]:
    """Names of each Gemm whose bias is no vector and cannot be one."""
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    return [
        node.name for node in model.graph.node
        if node.op_type == "Gemm" and len(node.input) > 2 and node.input[2] in held
        and len(held[node.input[2]].dims) != 1 and not _columns(node, held)
    ]  # fmt: skip


def read_inputs_as_they_are(model: Any, quantized: Collection[str], apart: Collection[str]) -> None:
    """Let operators that compute in float read the inputs of the model, not what quantizing left of them, in place.

    The condition of an If is such an operator's: near its threshold, the rounded input takes the other branch.
    """
    given = {value.name for value in model.graph.input}
    producers = g.producers(model.graph)
    for node in model.graph.node:
        if node.op_type in _CASTS or (node.op_type in quantized and node.name not in apart):
            continue
        for place, name in enumerate(node.input):
            cast = producers.get(name)
            if cast is None or cast.op_type != "DequantizeLinear":
                continue
            before = producers.get(cast.input[0])
            if before is not None and before.op_type == "QuantizeLinear" and before.input[0] in given:
                node.input[place] = before.input[0]


def short_names(model: Any, known: Collection[str]) -> None:
    """Rename what the quantizer added, in place: its names repeat those of tensors, and made a file larger than float.

    Shapes of tensors go too: runtimes infer them.
    """
    del model.graph.value_info[:]
    outside = {name for node in model.graph.node for body in g.inner(node) for name in _names(body)}
    layers = {name for node in model.graph.node if node.op_type not in _CASTS for name in node.output}
    fixed = {*known, *outside, *layers, *(value.name for value in model.graph.output), ""}
    given: dict[str, str] = {}
    free = (name for number in itertools.count() if (name := f"q{number}") not in fixed)

    def short(name: str) -> str:
        if name in fixed:
            return name
        if name not in given:
            given[name] = next(free)
        return given[name]

    for tensor in model.graph.initializer:
        tensor.name = short(tensor.name)
    for node in model.graph.node:
        node.name = short(node.name)
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = short(name)


def _names(graph: Any) -> Iterator[str]:
    for node in graph.node:
        yield from (*node.input, *node.output)
        for body in g.inner(node):
            yield from _names(body)
    yield from (value.name for value in graph.output)


def tensors_range(model: Any, found: Mapping[str, Range]) -> Any:
    """Ranges as ONNX Runtime's quantizer takes them; what a Relu or Clip follows gets that one's range."""
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData

    full = dict(found)
    for before, after in before_clipping(model).items():
        if after in full:
            full[before] = full[after]
    return TensorsData(
        CalibrationMethod.MinMax,
        {n: TensorData(lowest=np.array(r[0], np.float32), highest=np.array(r[1], np.float32)) for n, r in full.items()},
    )


def forget(model: Any) -> None:
    """Take out what was only said to the quantizer."""
    for entry in [e for e in model.metadata_props if e.key == _INFERRED[0]]:
        model.metadata_props.remove(entry)


def _all_graphs(model: Any) -> Any:
    from edgeship.targets.onnx.inspect import graphs

    return graphs(model.graph)


def some(names: Sequence[str], limit: int = 6) -> str:
    """The first names of a list, for a note."""
    shown = ", ".join(names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")
