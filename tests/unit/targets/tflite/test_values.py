"""Constants of a TFLite file as real values, however they are stored."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeship.errors import ConversionError
from edgeship.targets.tflite.values import constant

FLOAT32, FLOAT16, INT8 = 0, 1, 9
DENSE, SPARSE_CSR = 0, 1


def read(values: Any, kind: int, shape: list[int], *, sparsity: Any = None, quantization: Any = None) -> Any:
    buffer = SimpleNamespace(data=np.frombuffer(np.asarray(values).tobytes(), np.uint8))
    tensor = SimpleNamespace(
        name=b"w", type=kind, shape=shape, buffer=0, sparsity=sparsity, quantization=quantization
    )  # fmt: skip
    return constant(SimpleNamespace(buffers=[buffer]), tensor)


def dense(size: int) -> Any:
    return SimpleNamespace(format=DENSE, denseSize=size, arraySegments=None, arrayIndices=None)


def rows(segments: list[int], indices: list[int]) -> Any:
    return SimpleNamespace(
        format=SPARSE_CSR, denseSize=0, arraySegments=SimpleNamespace(values=segments),
        arrayIndices=SimpleNamespace(values=indices),
    )  # fmt: skip


def test_plain_and_half() -> None:
    values = np.array([[1.5, -2.0], [0.25, 8.0]])
    assert np.array_equal(read(values.astype("<f4"), FLOAT32, [2, 2]), values)
    assert np.array_equal(read(values.astype("<f2"), FLOAT16, [2, 2]), values)


def test_a_scale_for_each_slice_of_an_axis() -> None:
    q = np.array([[1, 2, 3], [-4, 5, -6]], np.int8)
    quantization = SimpleNamespace(scale=[0.5, 0.25, 2.0], zeroPoint=[0, 0, 1], quantizedDimension=1)
    wanted = np.array([[0.5, 0.5, 4.0], [-2.0, 1.25, -14.0]])
    assert np.array_equal(read(q, INT8, [2, 3], quantization=quantization), wanted)
    one = SimpleNamespace(scale=[0.5], zeroPoint=None, quantizedDimension=0)
    assert np.array_equal(read(q, INT8, [2, 3], quantization=one), q * 0.5)


def test_compressed_rows() -> None:
    wanted = np.array([[1, 0, 0, 2], [0, 0, 0, 0], [0, 3, 4, 0]], np.float32)
    sparsity = SimpleNamespace(
        traversalOrder=[0, 1], blockMap=None, dimMetadata=[dense(3), rows([0, 2, 2, 4], [0, 3, 1, 2])]
    )
    assert np.array_equal(read(wanted[wanted != 0], FLOAT32, [3, 4], sparsity=sparsity), wanted)


def test_what_a_quantized_tensor_leaves_out_is_its_zero_point() -> None:
    q = np.array([[3, 7], [3, 9]], np.uint8)
    sparsity = SimpleNamespace(traversalOrder=[0, 1], blockMap=None, dimMetadata=[dense(2), rows([0, 1, 2], [1, 1])])
    quantization = SimpleNamespace(scale=[0.5], zeroPoint=[3], quantizedDimension=0)
    raw = np.array([7, 9], np.uint8)
    assert np.array_equal(read(raw, 3, [2, 2], sparsity=sparsity, quantization=quantization), (q - 3.0) * 0.5)


def test_blocks() -> None:
    """4 × 4 in blocks of 2 × 2, of which the upper left and the lower right hold something."""
    wanted = np.array([[1, 2, 0, 0], [3, 4, 0, 0], [0, 0, 5, 6], [0, 0, 7, 8]], np.float32)
    sparsity = SimpleNamespace(
        traversalOrder=[0, 1, 2, 3], blockMap=[0, 1],
        dimMetadata=[dense(2), rows([0, 1, 2], [0, 1]), dense(2), dense(2)],
    )  # fmt: skip
    assert np.array_equal(read(np.arange(1, 9, dtype=np.float32), FLOAT32, [4, 4], sparsity=sparsity), wanted)


def test_columns_first() -> None:
    wanted = np.array([[0, 5], [6, 0], [7, 0]], np.float32)
    sparsity = SimpleNamespace(
        traversalOrder=[1, 0], blockMap=None, dimMetadata=[dense(2), rows([0, 2, 3], [1, 2, 0])]
    )  # fmt: skip
    assert np.array_equal(read(np.array([6, 7, 5], np.float32), FLOAT32, [3, 2], sparsity=sparsity), wanted)


@pytest.mark.parametrize(
    ("segments", "indices", "words"),
    [([0, 2, 9], [0, 1], "point beyond what they hold"), ([0, 1, 2], [0, 7], "reach beyond their shape")],
)
def test_sparse_weights_that_point_elsewhere_are_refused(segments: list[int], indices: list[int], words: str) -> None:
    sparsity = SimpleNamespace(traversalOrder=[0, 1], blockMap=None, dimMetadata=[dense(2), rows(segments, indices)])
    with pytest.raises(ConversionError, match=words):
        read(np.ones(2, np.float32), FLOAT32, [2, 2], sparsity=sparsity)


def test_a_type_that_is_not_known_is_refused() -> None:
    with pytest.raises(ConversionError, match="stored as type 17, which is not known"):
        read(np.zeros(4, np.int8), 17, [4])
