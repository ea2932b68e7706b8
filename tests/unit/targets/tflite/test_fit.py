"""TFLite: weights fitted to what their layers read, and layers with int8 weights that compute in float."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeship.dataset import Dataset
from edgeship.errors import UsageError
from edgeship.targets.scheme import Scheme
from edgeship.targets.tflite.reader import read
from edgeship.targets.tflite.unpack import unpacked
from edgeship.targets.tflite.values import constant
from tests.simulators.tflite_graphs import mlp, samples, twice, uneven
from tests.unit.targets.tflite.test_schemes import build, compared, here

__all__ = ["here"]  # steps run in this process


FULLY_CONNECTED = 9  # its builtin code


def leaning(n: int) -> Dataset:
    """Samples whose numbers go together."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(n, 1, 3)) @ rng.normal(size=(3, 12)) + 0.1 * rng.normal(size=(n, 1, 12)) + 1
    return Dataset({"x": x.astype(np.float32)})


def noise(path: Path, scheme: Scheme, data: Dataset) -> float:
    wanted, got = compared(path, build(path, scheme, data if scheme.needs_data else None), data)
    return float(np.square(wanted - got).sum() / np.square(wanted - wanted.mean(0)).sum())


@pytest.mark.parametrize("precision", ["int8-weights", "int8", "int16x8"])
def test_fitted_weights_answer_closer_in_a_file_as_small(tmp_path: Path, precision: str) -> None:
    path, data = mlp(tmp_path / "m.tflite"), leaning(200)
    lost = [noise(path, Scheme(precision, rounding=how), data) for how in ("nearest", "fitted")]
    assert lost[1] < lost[0] * (0.9 if precision == "int8" else 0.4)  # int8 activations cost more than weights here
    fitted = build(path, Scheme(precision, rounding="fitted"), data)
    assert fitted.int8_share == 1.0
    assert [step["do"] for step in fitted.recipe.steps].count("fit") == 1


def test_fitting_takes_data_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs calibration data"):
        build(mlp(tmp_path / "m.tflite"), Scheme("int8-weights", rounding="fitted"), None)


def test_a_layer_that_is_kept_has_its_own_weights(tmp_path: Path) -> None:
    path, data = mlp(tmp_path / "m.tflite"), leaning(50)
    made = build(path, Scheme("int8-weights", rounding="fitted", keep=("dense_b",)), data)
    before, after = path.read_bytes(), made.path.read_bytes()
    graph = read(after).subgraphs[0]
    [layer] = [o for o in graph.operators if "dense_b" in {graph.tensors[i].name for i in o.outputs}]
    weights = graph.tensors[layer.inputs[1]]
    assert weights.dtype == "float32"
    sources = [t for t in read(before).subgraphs[0].tensors if t.constant and t.elements == weights.elements]
    assert any(raw(before, t.name).tobytes() == raw(after, weights.name).tobytes() for t in sources)


def test_layers_of_weights_only_read_what_is_there_and_have_int8_weights(tmp_path: Path) -> None:
    """The first layer writes one unit far louder than the others; int8 leaves nothing of these.

    The second has weights as unlike each other, so that float is better still there.
    """
    path, data = uneven(tmp_path / "m.tflite"), samples(100)
    names = tuple(
        read(path.read_bytes()).subgraphs[0].tensors[o.outputs[0]].name
        for o in read(path.read_bytes()).subgraphs[0].operators
    )
    whole, light = noise(path, Scheme("int8"), data), noise(path, Scheme("int8", weights_only=names[:2]), data)
    heavy = noise(path, Scheme("int8", keep=names[:2]), data)
    assert whole > 0.3
    assert light < whole / 5
    assert heavy < light / 10
    made = build(path, Scheme("int8", weights_only=names[:2]), data)
    assert made.int8_share == 1.0
    graph = read(made.path.read_bytes()).subgraphs[0]
    assert {graph.tensors[i].dtype for o in graph.operators[:1] for i in o.inputs[:1]} <= {"float32", "int8"}
    assert made.inputs[0].dtype == "float32"


@pytest.mark.parametrize(
    ("scheme", "computed"),
    [
        (Scheme("int8", weights_only=("dense_b",)), ["int8", "float32", "int8"]),
        (Scheme("int8", rounding="fitted", weights_only=("dense_a",)), ["float32", "int8", "int8"]),
        (Scheme("int8", keep=("dense_b",), weights_only=("dense_a",)), ["float32", "float32", "int8"]),
        (Scheme("int8-weights", keep=("dense_b",)), ["float32"] * 3),
        (Scheme("int8-weights", rounding="fitted", keep=("dense_a",)), ["float32"] * 3),
    ],
)
def test_layers_that_share_their_weights_are_treated_one_by_one(
    tmp_path: Path, scheme: Scheme, computed: list[str]
) -> None:
    path, data = twice(tmp_path / "m.tflite"), samples(100)
    made = build(path, scheme, data if scheme.needs_data else None)
    structure = read(made.path.read_bytes())
    [graph] = structure.subgraphs
    dense = [o for o in graph.operators if structure.codes[o.code][0] == FULLY_CONNECTED]
    assert [graph.tensors[o.outputs[0]].dtype for o in dense] == computed
    assert any(t.constant and t.dtype == "float32" and t.shape == (12, 12) for t in graph.tensors) == bool(scheme.keep)
    kernels = {t.buffer for t in graph.tensors if t.constant and t.shape == (12, 12)}
    assert len(kernels) == 1 + bool(scheme.keep)  # int8 weights of both are stored once, whichever way they are read
    assert noise(path, scheme, data) < 0.001


def test_a_layer_of_weights_only_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no layer is called 'nothing'"):
        build(mlp(tmp_path / "m.tflite"), Scheme("int8", weights_only=("nothing",)), samples(20))


def raw(data: bytes, name: str) -> NDArray[Any]:
    model = unpacked(data)
    [tensor] = [t for t in model.subgraphs[0].tensors if t.name.decode() == name]
    return constant(model, tensor)
