"""What is told of a TFLite file before any interpreter sees it: weights that are no numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeship.errors import InputError
from edgeship.targets import registry
from edgeship.targets.tflite.reader import read
from tests.simulators import inline
from tests.simulators.models import tiny_tflite


def spoiled(path: Path, value: float) -> Path:
    """The third element of the largest constant becomes `value`."""
    data = bytearray(tiny_tflite(path, "float32").path.read_bytes())
    structure = read(bytes(data))
    tensor = max((t for t in structure.subgraphs[0].tensors if t.constant), key=lambda t: t.elements)
    at = structure.places[tensor.buffer] + 8
    data[at : at + 4] = np.float32(value).tobytes()
    path.write_bytes(data)
    return path


def test_nan_weights_are_refused_and_infinite_ones_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inline.patch(monkeypatch)
    with pytest.raises(InputError, match=r"1 of the weights '.+' are NaN") as caught:
        registry.inspect(spoiled(tmp_path / "m.tflite", float("nan")))
    assert "earlier checkpoint" in str(caught.value.hint)
    registry.inspect(spoiled(tmp_path / "m.tflite", float("inf")))
