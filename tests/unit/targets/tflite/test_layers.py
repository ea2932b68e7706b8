"""What of a file's weights belongs to some of its operators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeship.errors import UsageError
from edgeship.targets.tflite.layers import share
from edgeship.targets.tflite.named import kept_operators
from edgeship.targets.tflite.reader import Structure, read
from tests.simulators.tflite_file import File
from tests.simulators.tflite_graphs import mlp


def test_the_share_of_layers_is_that_of_their_elements(tmp_path: Path) -> None:
    structure = read(mlp(tmp_path / "m.tflite").read_bytes())
    assert share(structure, [(0, 0)]) == pytest.approx(192 / (192 + 256 + 64))
    assert share(structure, [(0, 0), (0, 1), (0, 2)]) == 1
    assert share(structure, []) == 0


def fused(path: Path) -> Structure:
    """Two operators named as a converter names what it fused; both hold the name "shared"."""
    file = File()
    g = file.graph()
    x = g.tensor("x", (1, 4))
    weights = g.tensor("w", (4, 4), np.eye(4, dtype=np.float32))
    a, b = g.tensor("one/MatMul;one/BiasAdd;shared", (1, 4)), g.tensor("two/MatMul;shared", (1, 4))
    g.operator("FULLY_CONNECTED", [x, weights], [a], "FullyConnected")
    g.operator("FULLY_CONNECTED", [a, weights], [b], "FullyConnected")
    return read(file.write(path, [([x], [b])]).read_bytes())


@pytest.mark.parametrize(
    "name", ["one", "one (FULLY_CONNECTED)", "one/MatMul", "one/BiasAdd", "one/MatMul;one/BiasAdd;shared"]
)
def test_each_part_of_a_fused_name_keeps_the_layer(tmp_path: Path, name: str) -> None:
    assert kept_operators(fused(tmp_path / "m.tflite"), [name]) == {(0, 0)}


def test_a_part_that_several_layers_have_is_refused_with_their_names(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"2 layers go by 'shared': 'one/MatMul;.*' \(FULLY.*, 'two/"):
        kept_operators(fused(tmp_path / "m.tflite"), ["shared"])
    with pytest.raises(UsageError, match="no layer is called 'three'"):
        kept_operators(fused(tmp_path / "m.tflite"), ["three"])


@pytest.mark.parametrize("kept", [0, 1])
def test_weights_that_several_layers_read_count_for_each_of_them(tmp_path: Path, kept: int) -> None:
    """One of two convolutions with the same kernel stays in float: the file holds it twice."""
    file = File()
    g = file.graph()
    x = g.tensor("x", (1, 12))
    weights = g.tensor("shared", (12, 12), np.eye(12, dtype=np.float32))
    a, b = g.tensor("a", (1, 12)), g.tensor("b", (1, 12))
    g.operator("FULLY_CONNECTED", [x, weights], [a], "FullyConnected")
    g.operator("FULLY_CONNECTED", [a, weights], [b], "FullyConnected")
    structure = read(file.write(tmp_path / "m.tflite", [([x], [b])]).read_bytes())
    assert share(structure, [(0, kept)]) == 1
