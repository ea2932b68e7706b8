"""Small float TFLite models in which int8 goes wrong by regions, as in real ones; made like those of `tflite_graphs`.

dead(path)        x [1, 12] -> a layer whose ReLU lets nothing through -> a gate, beside a layer that does
spectral(path)    x [1, 24] -> reshaped, squared, summed, its logarithm: a spectrum of 8 bands -> two dense layers
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeship.dataset import Dataset
from tests.simulators.tflite_file import File, Float

BANDS = 8


def _weights(rng: np.random.Generator, rows: int, columns: int) -> Float:
    return np.asarray(rng.normal(size=(rows, columns)) / np.sqrt(columns), np.float32)


def dead(path: Path) -> Path:
    """A gate behind a ReLU that nothing passes: what a squeeze-and-excite block of a text detector looked like."""
    rng, file = np.random.default_rng(0), File()
    g = file.graph()
    x = g.tensor("x", (1, 12))
    nothing = g.dense("nothing", x, _weights(rng, 6, 12), relu=True, bias=np.full(6, -100, np.float32))
    gate, both = g.dense("gate", nothing, _weights(rng, 4, 6)), g.tensor("both", (1, 4))
    g.operator("ADD", [g.dense("open", x, _weights(rng, 4, 12)), gate], [both], "Add")
    return file.write(path, [([x], [both])])


def between(path: Path) -> Path:
    """A reshape between two operators that no quantizer takes, and a comparison."""
    rng, file = np.random.default_rng(2), File()
    g = file.graph()
    x = g.tensor("x", (1, 12))
    first, turned = g.dense("first", x, _weights(rng, 12, 12)), g.tensor("turned", (1, 12))
    g.operator("NEG", [first], [turned])
    shape, moved, back = g.tensor("shape", (2,), [4, 3], "int32"), g.tensor("moved", (4, 3)), g.tensor("back", (4, 3))
    g.operator("RESHAPE", [turned, shape], [moved], "Reshape", newShape=[4, 3])
    g.operator("NEG", [moved], [back])
    zero, same = g.tensor("zero", (), 0.0), g.tensor("same", (4, 3), dtype="bool")
    g.operator("EQUAL", [back, zero], [same], "Equal")
    chosen, flat = g.tensor("chosen", (4, 3)), g.tensor("flat", (1, 12))
    g.operator("SELECT_V2", [same, zero, back], [chosen], "SelectV2")
    g.operator("RESHAPE", [chosen, g.tensor("row", (2,), [1, 12], "int32")], [flat], "Reshape", newShape=[1, 12])
    return file.write(path, [([x], [g.dense("last", flat, _weights(rng, 4, 12))])])


def low_pass(path: Path) -> Path:
    """What a filter bank halves its signal with."""
    file = File()
    g = file.graph()
    x, out = g.tensor("x", (1, 1, 24, 1)), g.tensor("low", (1, 1, 9, 1))
    taps = g.tensor("taps", (1, 1, 8, 1), np.full((1, 1, 8, 1), 0.125))
    bias = g.tensor("bias", (1,), np.zeros(1))
    g.operator("CONV_2D", [x, taps, bias], [out], "Conv2D", padding=1, strideH=1, strideW=2)
    return file.write(path, [([x], [out])])


def spectral(path: Path) -> Path:
    """A front end of seven operators without weights, each of which costs everything in int8, before two layers."""
    rng, file = np.random.default_rng(1), File()
    g = file.graph()
    x = g.tensor("x", (1, 3 * BANDS))
    shape, parts = g.tensor("shape", (3,), [1, BANDS, 3], "int32"), g.tensor("parts", (1, BANDS, 3))
    g.operator("RESHAPE", [x, shape], [parts], "Reshape", newShape=[1, BANDS, 3])
    squares, power = g.tensor("squares", (1, BANDS, 3)), g.tensor("power", (1, BANDS))
    g.operator("MUL", [parts, parts], [squares], "Mul")
    g.operator("SUM", [squares, g.tensor("axes", (1,), [2], "int32")], [power], "Reducer", keepDims=False)
    floor, level = g.tensor("tiny", (), 1e-10), g.tensor("level", (1, BANDS))
    g.operator("ADD", [power, floor], [level], "Add")
    logs, scaled = g.tensor("logs", (1, BANDS)), g.tensor("scaled", (1, BANDS))
    g.operator("LOG", [level], [logs])
    g.operator("MUL", [logs, g.tensor("tenth", (), 0.1)], [scaled], "Mul")
    hidden = g.dense("hidden", scaled, _weights(rng, 64, BANDS), relu=True)
    return file.write(path, [([x], [g.dense("last", hidden, _weights(rng, 4, 64))])])


def loudness(n: int, seed: int = 3) -> Dataset:
    """Inputs of `spectral`: bands whose loudness differs by factors of ten, float32 [n, 1, 24]."""
    rng = np.random.default_rng(seed)
    loud = 10 ** rng.uniform(-4, 0, (n, 1, BANDS, 1))
    return Dataset({"x": (loud * rng.normal(size=(n, 1, BANDS, 3))).reshape(n, 1, -1).astype(np.float32)})
