"""Numbers and text in and out of raw tensors with the standard library: float32 ↔ quantized, the winning class.

Quantizing follows QuantizeLinear of ONNX and numpy: the quotient x / scale in float32, rounded half to even, plus the
zero point, clamped to the dtype. Dequantizing is scale × (q − zero_point) in float32. A Python float is a double, and a
double quotient or product of two float32, rounded to float32, is the correctly rounded float32 one, so packing as "f"
gives the same bits.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

from edgeship.runtime.manifest import TensorSpec
from edgeship.runtime.wire import DTYPES, TEXT_BYTES

LENGTH_BYTES = 4  # before each text where texts are framed
_LENGTH = struct.Struct("<I")

_MEMO = 4096  # distinct values of an input that are remembered; an image of 8 bits per channel has at most 768

_RANGES = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-(1 << 15), (1 << 15) - 1), "uint16": (0, (1 << 16) - 1),
           "int32": (-(1 << 31), (1 << 31) - 1)}  # fmt: skip


def numbers(raw: bytes | memoryview, dtype: str) -> tuple[float, ...]:
    """The elements of a raw tensor, in C order."""
    size, code = DTYPES[dtype]
    return struct.unpack(f"<{len(raw) // size}{code}", raw)


def pack(values: Sequence[float], dtype: str) -> bytes:
    """Elements to a raw tensor.

    Raises:
        struct.error, OverflowError: a value is no number, or out of the dtype's range.
    """
    return struct.pack(f"<{len(values)}{DTYPES[dtype][1]}", *values)


def texts(raw: bytes | memoryview) -> list[bytes]:
    """The elements of a raw tensor of text, UTF-8, each up to its first zero."""
    data = bytes(raw)
    return [data[at : at + TEXT_BYTES].partition(b"\0")[0] for at in range(0, len(data), TEXT_BYTES)]


def pack_texts(elements: Sequence[bytes]) -> bytes:
    """Elements to a raw tensor of text.

    Raises:
        ValueError: an element is longer than `TEXT_BYTES`, is no UTF-8, or holds a zero, behind which all is lost.
    """
    for element in elements:
        if len(element) > TEXT_BYTES:
            raise ValueError(f"a text of {len(element)} bytes is over the limit of {TEXT_BYTES}")
        if b"\0" in element:
            raise ValueError("a text holds a zero byte")
        element.decode()
    return b"".join(element.ljust(TEXT_BYTES, b"\0") for element in elements)


def frame_texts(elements: Sequence[bytes]) -> bytes:
    """Elements as the Open Inference Protocol has them in binary: each behind its length."""
    return b"".join(_LENGTH.pack(len(element)) + element for element in elements)


def framed_texts(data: bytes, count: int) -> list[bytes]:
    """At most `count` elements of what `frame_texts` made. Raises ValueError where it ends within one, or has more."""
    elements: list[bytes] = []
    at = 0
    while at < len(data) and len(elements) < count:
        if at + _LENGTH.size > len(data):
            raise ValueError(f"it ends within the length of element {len(elements)}")
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if at + length > len(data):
            raise ValueError(f"element {len(elements)} has {length} bytes, {len(data) - at} are left of it")
        elements.append(data[at : at + length])
        at += length
    if at != len(data):
        raise ValueError(f"more than {count} texts came: {len(data) - at} bytes are left behind them")
    return elements


def is_quantized(spec: TensorSpec) -> bool:
    """Whether float32 can be converted to and from this tensor."""
    return spec.scale > 0 and spec.dtype in _RANGES


class Quantizer:
    """float32 -> one quantized input. Remembers values that it has seen until they are too many to be worth it."""

    def __init__(self, spec: TensorSpec) -> None:
        self._spec = spec
        self._low, self._high = _RANGES[spec.dtype]
        self._memo: dict[float, int] | None = {}

    def __call__(self, raw: bytes | memoryview) -> bytes:
        """Quantize float32 elements. Raises ValueError when one is not a number (NaN)."""
        values, memo = numbers(raw, "float32"), self._memo
        if memo is None:
            return pack(self._round(values), self._spec.dtype)
        try:
            return pack([memo[value] for value in values], self._spec.dtype)
        except KeyError:
            pass
        rounded = self._round(values)
        memo.update(zip(values, rounded, strict=True))
        if len(memo) > _MEMO:
            self._memo = None
        return pack(rounded, self._spec.dtype)

    def _round(self, values: Sequence[float]) -> list[int]:
        scale, zero, low, high = self._spec.scale, self._spec.zero_point, self._low, self._high
        try:
            quotients = numbers(pack([value / scale for value in values], "float32"), "float32")
            rounded = [round(quotient) + zero for quotient in quotients]
        except (OverflowError, ValueError):
            return [self._clamp(value) for value in values]
        if min(rounded) < low or max(rounded) > high:
            return [low if q < low else min(q, high) for q in rounded]
        return rounded

    def _clamp(self, value: float) -> int:
        # an infinity, or a quotient over float32's range
        if math.isnan(value):
            raise ValueError("NaN")
        quotient = value / self._spec.scale
        if abs(quotient) > 1 << 40:
            return self._high if quotient > 0 else self._low
        rounded = round(numbers(pack([quotient], "float32"), "float32")[0]) + self._spec.zero_point
        return max(self._low, min(self._high, rounded))


def dequantize(raw: bytes | memoryview, spec: TensorSpec) -> tuple[float, ...]:
    """The real values of a tensor; float32 precision where it is quantized, as they are where it is not."""
    values = numbers(raw, spec.dtype)
    if not is_quantized(spec):
        return values
    scale, zero = spec.scale, spec.zero_point
    return numbers(pack([(q - zero) * scale for q in values], "float32"), "float32")


def winner(raw: bytes | memoryview, spec: TensorSpec) -> tuple[int, float | None]:
    """The class with the highest score (the first of equals) and that score in [0, 1], None where it is not finite."""
    values = numbers(raw, spec.dtype)
    best = max(values)
    index = values.index(best) if best == best else 0
    score = (best - spec.zero_point) * spec.scale if is_quantized(spec) else float(best)
    return index, min(1.0, max(0.0, score)) if math.isfinite(score) else None
