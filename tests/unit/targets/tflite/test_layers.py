"""What of a file's weights belongs to some of its operators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeship.targets.tflite.layers import share
from edgeship.targets.tflite.reader import read
from tests.simulators.tflite_graphs import File, mlp


def test_the_share_of_layers_is_that_of_their_elements(tmp_path: Path) -> None:
    structure = read(mlp(tmp_path / "m.tflite").read_bytes())
    assert share(structure, [(0, 0)]) == pytest.approx(192 / (192 + 256 + 64))
    assert share(structure, [(0, 0), (0, 1), (0, 2)]) == 1
    assert share(structure, []) == 0


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
