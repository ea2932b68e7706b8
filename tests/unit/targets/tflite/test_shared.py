"""Constants of the same bytes are stored once."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeship.targets.tflite.reader import read
from edgeship.targets.tflite.shared import once
from edgeship.targets.tflite.unpack import unpacked
from tests.simulators.tflite_file import File


def nets(path: Path, *, alike: bool) -> bytes:
    """x [1, 12] -> three layers with a kernel each, of which the first two are alike or not; all biases are."""
    file, rng = File(), np.random.default_rng(0)
    g = file.graph()
    x = g.tensor("x", (1, 12))
    first = rng.normal(size=(12, 12)).astype(np.float32)
    second = first if alike else rng.normal(size=(12, 12)).astype(np.float32)
    for name, kernel in (("a", first), ("b", second), ("c", first.T.copy())):
        x = g.dense(name, x, kernel)
    return file.write(path, [([0], [x])]).read_bytes()


def kernels(data: bytes) -> list[bytes]:
    model = unpacked(data)
    graph = model.subgraphs[0]
    return [bytes(model.buffers[t.buffer].data) for t in graph.tensors if [*t.shape] == [12, 12]]


def test_kernels_that_are_alike_are_stored_once_and_read_as_before(tmp_path: Path) -> None:
    before = nets(tmp_path / "m.tflite", alike=True)
    after = once(before)
    assert len(before) - len(after) > 12 * 12 * 4 - 64
    assert kernels(after) == kernels(before)
    assert len({t.buffer for t in read(after).subgraphs[0].tensors if t.shape == (12, 12)}) == 2
    assert once(after) == after


def test_a_file_without_such_is_not_touched(tmp_path: Path) -> None:
    before = nets(tmp_path / "m.tflite", alike=False)
    assert once(before) is before
