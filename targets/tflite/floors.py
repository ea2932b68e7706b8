"""Ranges that integer kernels can compute with: none is so narrow that a layer's output step is below its own.

A product of integers has the step s = (step of the input) · (step of the weights). A kernel multiplies sums of such
products with s / (step of the output). XNNPACK takes factors below 256 and refuses the rest when the graph is set up,
and LiteRT then ends the process ("double free"). Such a factor comes from a layer whose output was all but nothing on
every calibration sample, as the gate of a squeeze-and-excite block behind a ReLU may be. An output step below s says
nothing that the sums hold, so it is raised to s / `MOST`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgeship.targets.tflite.reader import Structure
from edgeship.targets.tflite.unpack import unpacked
from edgeship.targets.tflite.values import constant

#: Factor of a layer at most; XNNPACK's limit is 256 (`requantization_scale >= 256.0f` is refused by its operators).
MOST = 128.0

_WEIGHT_STEPS, _STEPS = 127, 255  # of symmetric int8 weights; of an int8 activation

#: Builtin code -> (place of the input, of the weights): CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED, TRANSPOSE_CONV.
_LAYERS = {3: (0, 1), 4: (0, 1), 9: (0, 1), 67: (2, 1)}

Range = tuple[float, float]


def raised(data: bytes, structure: Structure, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """The ranges, with those of outputs of layers with weights wide enough for int8 kernels.

    Args:
        data: a float file.
        structure: of the same.
        ranges: tensor -> (smallest, largest) of the main graph's activations.
    """
    out = dict(ranges)
    graph = structure.subgraphs[0]
    model = None
    for operator in graph.operators:  # in the order in which they run: what one writes is the next one's input
        places = _LAYERS.get(structure.codes[operator.code][0])
        if places is None or max(places) >= len(operator.inputs):
            continue
        source, weights = (graph.tensors[operator.inputs[place]] for place in places)
        result = graph.tensors[operator.outputs[0]]
        if source.name not in out or result.name not in out or not weights.constant or weights.dtype != "float32":
            continue
        low, high = min(out[result.name][0], 0.0), max(out[result.name][1], 0.0)
        step = (max(out[source.name][1], 0.0) - min(out[source.name][0], 0.0)) / _STEPS
        model = unpacked(data) if model is None else model
        values = constant(model, model.subgraphs[0].tensors[operator.inputs[places[1]]])
        largest = float(np.abs(values).max(initial=0.0))
        least = step * largest / _WEIGHT_STEPS / MOST * _STEPS
        if high - low < least:
            out[result.name] = _widened(low, high, least)
    return out


def _widened(low: float, high: float, width: float) -> Range:
    """So wide, with the same sides of 0."""
    if high - low <= 0:
        return 0.0, width
    times = width / (high - low)
    return low * times, high * times
