"""Collects the ranges of activations: one interpreter, one sample at a time, a few numbers a tensor.

Memory does not grow with the samples: the interpreter keeps every tensor of one run, and what is taken from it is
reduced at once. ai-edge-quantizer's own calibrator copies all of them, weights too, for every sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.errors import ConversionError
from edgeship.targets import ranges as choose
from edgeship.targets.histogram import Histogram
from edgeship.targets.scheme import Scheme
from edgeship.targets.tflite import floors
from edgeship.targets.tflite.reader import Signature, Structure, Subgraph

Array = NDArray[Any]
Range = tuple[float, float]

THREADS = 2  # of the interpreter; more does not help one sample at a time

#: Values beyond are padding (−inf before a max pool, the mask of an attention), no signal; as ai-edge-quantizer has it.
FINITE = 3e38


def observe(
    data: bytes, structure: Structure, signature: Signature, samples: Iterable[Mapping[str, Array]],
    see: Callable[[str, Array], None],
) -> None:  # fmt: skip
    """Run a float file over samples and show every float activation of the main graph that was computed.

    Args:
        data: the file; its signature is that of the main graph.
        structure: of the same.
        signature: names of the inputs.
        samples: input -> [*shape], of each.
        see: is given a tensor's name and its values in one sample, a view of the interpreter's memory: what lives
            longer than the call must be copied.

    Raises:
        ConversionError: an input is missing, or the interpreter refuses the model.
    """
    from ai_edge_litert.interpreter import Interpreter

    wanted = _activations(structure.subgraphs[0])
    try:
        interpreter = Interpreter(model_content=data, num_threads=THREADS, experimental_preserve_all_tensors=True)
        interpreter.allocate_tensors()
        for sample in samples:
            if missing := [name for name, _ in signature.inputs if name not in sample]:
                raise ConversionError(
                    f"the calibration samples lack {', '.join(missing)}",
                    hint="an array for each input, named like it: edgeship model inspect MODEL shows the names",
                )
            interpreter.reset_all_variables()
            for name, index in signature.inputs:
                values = sample[name]
                interpreter.set_tensor(index, np.ascontiguousarray(values).reshape(values.shape))  # a number stays one
            interpreter.invoke()
            for index, name in wanted:
                try:
                    see(name, interpreter.tensor(index)())
                except ValueError:  # it was not computed: an unused part, or memory that a loop owns
                    continue
    except (RuntimeError, ValueError) as error:
        raise ConversionError(
            f"the interpreter cannot calibrate it: {' '.join(str(error).split())[:400]}",
            hint="edgeship model doctor MODEL finds the layer; dynamic int8 needs no calibration",
        ) from error


def _activations(graph: Subgraph) -> list[tuple[int, str]]:
    """(index, name) of the float tensors that are no constants and that something reads or writes."""
    used = {i for op in graph.operators for i in (*op.inputs, *op.outputs)} | {*graph.inputs, *graph.outputs}
    tensors = [(i, graph.tensors[i]) for i in sorted(used) if i >= 0]
    return [(i, tensor.name) for i, tensor in tensors if tensor.dtype == "float32" and not tensor.constant]


def span(values: Array) -> Range | None:
    """(smallest, largest) of the values within `FINITE`, None where there are none.

    Raises:
        FloatingPointError: one is no number.
    """
    if not values.size:
        return None
    low, high = float(values.min()), float(values.max())
    if math.isnan(low):  # numpy's minimum of anything with a NaN in it
        raise FloatingPointError("not a number")
    if low > -FINITE and high < FINITE:
        return low, high
    inside = values[np.abs(values) < FINITE]
    return (float(inside.min()), float(inside.max())) if inside.size else None


class Extremes:
    """The smallest and the largest value of every tensor (min-max), or the moving average of both over the samples."""

    def __init__(self, *, averaged: bool) -> None:
        self.averaged = averaged
        self.ranges: dict[str, Range] = {}

    def see(self, name: str, values: Array) -> None:
        """Take in a tensor's values of one sample. Raises ConversionError for NaN."""
        if (new := _span(name, values)) is None:
            return
        old = self.ranges.get(name)
        if self.averaged:
            self.ranges[name] = choose.average(old, new)
        else:
            self.ranges[name] = new if old is None else (min(old[0], new[0]), max(old[1], new[1]))


class Histograms:
    """A histogram of every tensor's values within `FINITE`."""

    def __init__(self) -> None:
        self.histograms: dict[str, Histogram] = {}

    def see(self, name: str, values: Array) -> None:
        """Take in a tensor's values of one sample. Raises ConversionError for NaN."""
        if (extent := _span(name, values)) is None:
            return
        if name not in self.histograms:
            self.histograms[name] = Histogram()
        clean = extent == (float(values.min()), float(values.max()))
        self.histograms[name].add(values if clean else values[np.abs(values) < FINITE])


def _span(name: str, values: Array) -> Range | None:
    try:
        return span(values)
    except FloatingPointError as error:
        raise ConversionError(
            f"the float model computes NaN in {name!r} on the calibration samples",
            hint="look for NaN in its weights, and for samples that are not prepared as in training",
        ) from error


def ranges(
    data: bytes, structure: Structure, signature: Signature, samples: Iterable[Mapping[str, Array]], scheme: Scheme
) -> dict[str, Range]:  # fmt: skip
    """Tensor -> (smallest, largest) value that it is to hold.

    `scheme` says how they are chosen, the rest is as of `observe`, whose errors it raises.
    """
    symmetric = scheme.symmetric or scheme.precision == "int16x8"
    if scheme.ranges in ("min-max", "moving-average"):
        extremes = Extremes(averaged=scheme.ranges == "moving-average")
        observe(data, structure, signature, samples, extremes.see)
        found = {n: choose.symmetric(*r) if symmetric else r for n, r in extremes.ranges.items()}
        return floors.raised(data, structure, found)
    collected = Histograms()
    observe(data, structure, signature, samples, collected.see)
    levels = 256 if scheme.precision == "int8" else 65536
    found = {n: choose.of_histogram(scheme.ranges, h, symmetric, levels) for n, h in collected.histograms.items()}
    return floors.raised(data, structure, found)
