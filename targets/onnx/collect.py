"""The step that calibrates: runs the float model over samples and finds the range of every activation.

Memory does not grow with the number of samples: they are read from the disk one at a time, and what is kept of a tensor
is its extent or one histogram. ONNX Runtime's own collectors for percentile and entropy keep every tensor of every
sample (62 MB a sample for MobileNetV2).

* Extents (min-max, moving average) are reduced inside the graph, so no activation leaves it. A sum tells whether all
  values are finite: the smallest and the largest of a tensor may pass over a NaN.
* Histograms need the activations. They are taken in groups of tensors of bounded size, one group after the other, each
  by a graph that ends at its last tensor: a model with large activations costs more runs, not more memory.
* One pass fills histograms that grow (`histogram`). Two passes find the extents first and use fixed bins, which gives
  ONNX Runtime's thresholds to the last digit. Entropy takes the bins of one pass either way: its least divergence jumps
  with the smallest shift of a bin.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.targets import ranges as choose
from edgeship.targets.feed import Samples
from edgeship.targets.histogram import Histogram
from edgeship.targets.onnx import graph as g
from edgeship.targets.onnx.inspect import read
from edgeship.targets.onnx.parts import Parts

FILE = "ranges.json"
GROUP = 24 << 20  # bytes of activations that leave a run at a time
LARGEST = 1e30  # a magnitude that no activation has: masks of attention are like that

Range = tuple[float, float]


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Write `ranges.json`: the range of every float tensor that a quantizer may ask for.

    Args:
        request: "path": a float model with fixed shapes, as `prepare` makes it; "samples": a feed; "ranges": one of
            `scheme.RANGES`; "symmetric": whether ranges are to be ±t; "levels": of the quantized type; "passes": 1 or
            2, of histograms.
        folder: gets ranges.json: {"ranges": {tensor: [low, high]}, "unbounded": tensors whose values are not finite or
            beyond any use, "parts": {output: how many times larger its largest part is than its smallest}}.

    Returns:
        {"tensors": how many, "samples": how many}.
    """
    model = read(Path(request["path"]))
    samples = Samples(request["samples"])
    names = tensors(model)
    found = calibrate(
        model, samples, names, request["ranges"], symmetric=request["symmetric"], levels=request["levels"],
        passes=request["passes"], folder=folder,
    )  # fmt: skip
    (folder / FILE).write_text(json.dumps(found), encoding="utf-8")
    return {"tensors": len(found["ranges"]), "samples": len(samples)}


def tensors(model: Any) -> list[str]:
    """Float tensors of the main graph that a static quantizer may want a range of, in the order of the graph.

    What feeds nothing but a Relu or a Clip takes the range of that one's output, and is left out.
    """
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    types = g.shapes(model)
    held = {tensor.name for tensor in model.graph.initializer}
    known = {*QDQRegistry, *QLinearOpsRegistry}
    wanted: dict[str, None] = {}
    for node in model.graph.node:
        if node.op_type in known:
            for name in (*node.input, *node.output):
                if name and name not in held and types.get(name, (0, None))[0] == g.FLOAT:
                    wanted[name] = None
    clipped = before_clipping(model)
    return [name for name in wanted if name not in clipped]


def before_clipping(model: Any) -> dict[str, str]:
    """Tensor that feeds one Relu or Clip and nothing else -> that one's output."""
    readers, outputs = g.consumers(model.graph), {value.name for value in model.graph.output}
    given = {value.name for value in model.graph.input}
    return {
        node.input[0]: node.output[0]
        for node in model.graph.node
        if node.op_type in ("Relu", "Clip") and len(readers.get(node.input[0], ())) == 1
        and node.input[0] not in outputs and node.input[0] not in given
    }  # fmt: skip


def calibrate(
    model: Any, samples: Samples, names: Sequence[str], ranges: str, *, symmetric: bool, levels: int, passes: int,
    folder: Path,
) -> dict[str, Any]:  # fmt: skip
    """Ranges of the tensors `names`; see `perform` for arguments and result."""
    parts = Parts()
    averaged = ranges == "moving-average"
    magnitudes = passes == 2 and symmetric and ranges == "percentile"
    if ranges in ("min-max", "moving-average") or passes == 2:
        extents, smallest = _extents(
            model, samples, names, averaged=averaged, magnitudes=magnitudes, parts=parts, folder=folder
        )
    else:
        extents, smallest = {}, {}
    if ranges in ("min-max", "moving-average"):
        found = {n: choose.symmetric(*r) if symmetric else r for n, r in extents.items()}
        seen = extents
    else:
        found, seen = {}, {}
        grouped = groups(model, names)
        last = [v.name for v in model.graph.output if v.name not in set(names)]
        for group in grouped:
            if passes == 2 and ranges != "entropy":
                fixed = _fixed(
                    model, samples, [n for n in group if bounded(extents[n])], extents, smallest, folder,
                    magnitudes=magnitudes,
                )  # fmt: skip
                for name, (counts, edges) in fixed.items():
                    found[name] = choose.chosen(ranges, counts, edges, extents[name], symmetric, levels)
                seen |= {name: extents[name] for name in group}
            else:
                extra = last if group is grouped[-1] else []
                for name, histogram in _growing(model, samples, group, extra, parts, folder).items():
                    seen[name] = (np.nan, np.nan) if histogram.lost else (histogram.low, histogram.high)
                    if bounded(seen[name]):
                        found[name] = choose.of_histogram(ranges, histogram, symmetric, levels)
    unbounded = sorted(name for name in names if not bounded(seen[name]))
    return {
        "ranges": {name: [float(v) for v in found[name]] for name in names if name not in set(unbounded)},
        "unbounded": unbounded, "parts": parts.ratios(),
    }  # fmt: skip


def bounded(extent: Range) -> bool:
    """Whether a tensor's values are of a kind that a scale can tell."""
    return bool(np.isfinite(extent).all()) and max(-extent[0], extent[1]) < LARGEST


# ── runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def groups(model: Any, names: Sequence[str], limit: int = GROUP) -> list[list[str]]:
    """The tensors in groups of at most `limit` bytes, one that is larger alone; in the order of the graph."""
    known = g.shapes(model)
    out: list[list[str]] = []
    room = 0
    for name in names:
        size = 4 * math.prod(known[name][1] or (1,))
        if not out or size > room:
            out.append([])
            room = limit
        out[-1].append(name)
        room -= size
    return out


def _session(model: Any, folder: Path) -> Any:
    """A session that gives back memory as soon as a tensor is done with, and whose threads sleep while they wait.

    Threads that spin took as much processor time again as the work did.
    """
    import onnx
    import onnxruntime

    path = folder / "augmented.onnx"
    onnx.save(model, str(path))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def ending_at(model: Any, names: Sequence[str]) -> Any:
    """The part of a model that computes these tensors, which are its outputs."""
    import onnx

    out = onnx.ModelProto()
    out.CopyFrom(model)
    needed = set(names)
    nodes: list[Any] = []
    for node in reversed(out.graph.node):
        if needed.intersection(node.output):
            nodes.append(node)
            needed.update(g.reads(node))
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(nodes)]
    tensors_kept = [t for t in out.graph.initializer if t.name in needed]
    initializers = [onnx.TensorProto.FromString(t.SerializeToString()) for t in tensors_kept]
    del out.graph.node[:], out.graph.output[:], out.graph.value_info[:], out.graph.initializer[:]
    out.graph.node.extend(kept)
    out.graph.initializer.extend(initializers)
    out.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return out


def _runs(session: Any, samples: Samples) -> Iterator[Any]:
    """The outputs of a session for each sample, as OrtValues: each becomes an array only while it is looked at."""
    names = [value.name for value in session.get_outputs()]
    inputs = session.get_inputs()
    wanted = [value.name for value in inputs]
    text = any(value.type == "tensor(string)" for value in inputs)  # which no OrtValue can be made of in Python
    for sample in samples:
        if text:
            yield _answers(session, names, {name: sample[name] for name in wanted})
        else:
            yield session.run_with_ort_values(names, _values(sample, wanted))


def _answers(session: Any, names: Sequence[str], given: Mapping[str, NDArray[Any]]) -> list[Any]:
    import onnxruntime

    return [onnxruntime.OrtValue.ortvalue_from_numpy(answer) for answer in session.run(names, given)]


def _values(sample: Mapping[str, NDArray[Any]], wanted: Sequence[str]) -> dict[str, Any]:
    import onnxruntime

    return {name: onnxruntime.OrtValue.ortvalue_from_numpy(sample[name]) for name in wanted}


def _extents(
    model: Any, samples: Samples, names: Sequence[str], *, averaged: bool, magnitudes: bool, parts: Parts, folder: Path
) -> tuple[dict[str, Range], dict[str, float]]:  # fmt: skip
    """(smallest and largest value of each tensor, smallest magnitude of each); both only where wanted.

    Averaged is the former; without `magnitudes` the latter is empty. NaN for a tensor that was not finite once.
    """
    whats = ("low", "high", "sum", "magnitude") if magnitudes else ("low", "high", "sum")
    session = _session(_reducing(model, names, whats), folder)
    outputs = [value.name for value in model.graph.output]
    extents: dict[str, Range] = {}
    smallest: dict[str, float] = dict.fromkeys(names, np.inf) if magnitudes else {}
    for values in _runs(session, samples):
        parts.add(zip(outputs, (value.numpy() for value in values[: len(outputs)]), strict=True))
        reduced = np.array([value.numpy() for value in values[len(outputs) :]], np.float32).reshape(-1, len(whats))
        for name, (low, high, total, *magnitude) in zip(names, reduced, strict=True):
            new = (float(low), float(high)) if np.isfinite(total) else (np.nan, np.nan)
            old = extents.get(name, new)
            if averaged:
                extents[name] = choose.average(old, new)
            else:
                extents[name] = float(np.minimum(old[0], new[0])), float(np.maximum(old[1], new[1]))  # NaN stays
            if magnitudes:
                smallest[name] = min(smallest[name], float(magnitude[0]))
    return extents, smallest


def _reducing(model: Any, names: Sequence[str], whats: Sequence[str]) -> Any:
    """The model with the smallest and largest value, the sum and the smallest magnitude of each tensor as outputs."""
    import onnx
    from onnx import helper

    out = onnx.ModelProto()
    out.CopyFrom(model)
    left = dict.fromkeys(names)
    nodes: list[Any] = []

    def reduce(name: str) -> None:
        del left[name]
        nodes.append(helper.make_node("ReduceMin", [name], [f"{name}::low"], keepdims=0))
        nodes.append(helper.make_node("ReduceMax", [name], [f"{name}::high"], keepdims=0))
        nodes.append(helper.make_node("ReduceSum", [name], [f"{name}::sum"], keepdims=0))
        if "magnitude" in whats:
            nodes.append(helper.make_node("Abs", [name], [f"{name}::magnitudes"]))
            least = helper.make_node("ReduceMin", [f"{name}::magnitudes"], [f"{name}::magnitude"], keepdims=0)
            nodes.append(least)

    for name in [v.name for v in out.graph.input if v.name in left]:
        reduce(name)
    for node in model.graph.node:
        nodes.append(node)
        for name in [n for n in node.output if n in left]:
            reduce(name)
    del out.graph.node[:]
    out.graph.node.extend(nodes)
    for name in names:
        out.graph.output.extend(helper.make_tensor_value_info(f"{name}::{what}", g.FLOAT, []) for what in whats)
    return out


def _growing(
    model: Any, samples: Samples, names: Sequence[str], extra: Sequence[str], parts: Parts, folder: Path
) -> dict[str, Histogram]:  # fmt: skip
    """One pass: a histogram that grows for each tensor; of `extra` only the parts are looked at."""
    outputs = {value.name for value in model.graph.output}
    session = _session(ending_at(model, [*names, *extra]), folder)
    histograms = {name: Histogram() for name in names}
    for values in _runs(session, samples):
        for name, value in zip([*names, *extra], values, strict=True):
            array = value.numpy()
            if name in histograms:
                histograms[name].add(array)
            if name in outputs:
                parts.add([(name, array)])
    return histograms


def _fixed(
    model: Any, samples: Samples, names: Sequence[str], extents: Mapping[str, Range], smallest: Mapping[str, float],
    folder: Path, *, magnitudes: bool,
) -> dict[str, tuple[NDArray[np.int64], NDArray[Any]]]:  # fmt: skip
    """The second of two passes: (counts, edges) of each tensor over its known extent."""
    if not names:
        return {}
    session = _session(ending_at(model, names), folder)
    out: dict[str, tuple[NDArray[np.int64], NDArray[Any]]] = {}
    least: Any
    for values in _runs(session, samples):
        for name, value in zip(names, values, strict=True):
            array = value.numpy().reshape(-1)
            top: Any = np.float32(max(-extents[name][0], extents[name][1]))  # edges are rounded as theirs
            if magnitudes:
                least = np.float32(smallest[name])
                counts, edges = np.histogram(np.abs(array), choose.BINS, range=(least, top))
                edges = edges.astype(np.float32)
            else:
                counts, edges = np.histogram(array, choose.BINS, range=(-top, top))
            out[name] = (counts + out[name][0] if name in out else counts, edges)
    return out
