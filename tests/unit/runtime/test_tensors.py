"""Quantizing with the standard library is bit for bit what numpy does in float32."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeship.runtime.manifest import TensorSpec
from edgeship.runtime.tensors import Quantizer, dequantize, is_quantized, numbers, pack, winner

DTYPES = ["int8", "uint8", "int16", "uint16"]


def spec(dtype: str = "int8", scale: float = 1 / 255, zero_point: int = -128, count: int = 4) -> TensorSpec:
    return TensorSpec("x", dtype, (1, count), float(np.float32(scale)), zero_point)


def by_numpy(x: NDArray[np.float32], s: TensorSpec) -> bytes:
    info = np.iinfo(s.dtype)
    q = np.rint(x / np.float32(s.scale)).astype(np.float64) + s.zero_point
    return bytes(np.clip(q, info.min, info.max).astype(s.dtype).tobytes())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1 / 255, 0.05, 1.0, 3e-5, 2.0**-7])
def test_quantizing_equals_numpy_in_float32(dtype: str, scale: float) -> None:
    s = spec(dtype, scale, 7)
    rng = np.random.default_rng(1)
    x = np.concatenate([
        rng.uniform(-300 * scale, 300 * scale, 20000), rng.normal(0, 1e4 * scale, 2000),
        np.arange(-260, 260) * scale / 2,
    ]).astype(np.float32)  # fmt: skip
    quantizer = Quantizer(s)
    assert quantizer(x.tobytes()) == by_numpy(x, s)
    assert quantizer(x.tobytes()) == by_numpy(x, s)  # again, after it has given up to remember


def test_halves_go_to_even() -> None:
    s = spec("int8", 1.0, 0)
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5], np.float32)
    assert numbers(Quantizer(s)(x.tobytes()), "int8") == (0, 2, 2, 0, -2, -2)


def test_remembered_values_give_the_same_as_new_ones() -> None:
    s = spec()
    x = np.linspace(0, 1, 256, dtype=np.float32)
    quantizer = Quantizer(s)
    first = quantizer(x.tobytes())
    assert quantizer(x[::-1].tobytes()) == first[::-1]
    assert first == by_numpy(x, s)


def test_values_out_of_range_are_clamped_infinities_too() -> None:
    s = spec("uint8", 0.5, 3)
    values = [math.inf, -math.inf, 3e38, -3e38, 1.0, 1e30]
    assert list(Quantizer(s)(pack(values, "float32"))) == [255, 0, 255, 0, 5, 255]


def test_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        Quantizer(spec())(pack([0.0, math.nan], "float32"))


def test_a_tiny_scale_does_not_overflow() -> None:
    s = spec("int8", 1e-38, 0)
    assert numbers(Quantizer(s)(pack([1e10, -1e10, 0.0], "float32")), "int8") == (127, -128, 0)


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=40), st.sampled_from(DTYPES),
       st.floats(min_value=2**-20, max_value=2**10, width=32), st.integers(-128, 127))  # fmt: skip
def test_any_number_and_any_parameters(values: list[float], dtype: str, scale: float, zero: int) -> None:
    s = TensorSpec("x", dtype, (1, len(values)), scale, zero)
    x = np.array(values, np.float32)
    with np.errstate(over="ignore"):
        assert Quantizer(s)(x.tobytes()) == by_numpy(x, s)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dequantizing_equals_numpy_in_float32(dtype: str) -> None:
    info = np.iinfo(dtype)
    q = np.arange(info.min, info.max + 1, max(1, (info.max - info.min) // 999)).astype(dtype)
    s = spec(dtype, 0.0123, 5)
    wanted = (q.astype(np.float32) - np.float32(5)) * np.float32(s.scale)
    assert np.array_equal(np.array(dequantize(q.tobytes(), s), np.float32), wanted)


def test_what_is_not_quantized_stays_as_it_is() -> None:
    plain = TensorSpec("x", "float32", (1, 2))
    assert not is_quantized(plain)
    assert not is_quantized(TensorSpec("x", "bool", (1, 2), 0.5, 0))
    assert dequantize(pack([1.5, -2.0], "float32"), plain) == (1.5, -2.0)


def test_float16_and_bool_pack_and_unpack() -> None:
    assert numbers(pack([0.5, 65504.0], "float16"), "float16") == (0.5, 65504.0)
    assert numbers(pack([True, False], "bool"), "bool") == (True, False)
    with pytest.raises((struct.error, OverflowError)):
        pack([1e6], "float16")


def test_the_winner_is_the_first_of_the_highest() -> None:
    s = spec("int8", 1 / 256, -128)
    assert winner(pack([-128, 64, 64, 0], "int8"), s) == (1, 0.75)
    plain = TensorSpec("x", "float32", (1, 3))
    assert winner(pack([-3.0, 7.5, 0.0], "float32"), plain) == (1, 1.0)  # scores that are no probabilities: clipped
    assert winner(pack([-3.0, -1.0, -2.0], "float32"), plain) == (1, 0.0)


def test_a_winner_that_is_not_finite_has_no_confidence() -> None:
    plain = TensorSpec("x", "float32", (1, 2))
    assert winner(pack([math.nan, 1.0], "float32"), plain) == (0, None)
    assert winner(pack([0.0, math.inf], "float32"), plain) == (1, None)
