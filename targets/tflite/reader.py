"""Reads the structure of a TFLite file with every offset checked, before any interpreter sees the file.

An 8-byte file and a truncated one have crashed interpreters. Here nothing is followed that does not lie within the
file: tables, vtables, vectors, strings, buffers; and every index points at something: tensors, buffers, operator codes,
subgraphs. The layout is FlatBuffers' (https://flatbuffers.dev/internals/), the field numbers are those of the TFLite
schema, version 3.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from edgeship.errors import InputError

IDENTIFIER = b"TFL3"
MAX_ITEMS = 1 << 20  # of tables in one vector: operators, tensors
MAX_RANK = 8
MAX_ELEMENTS = 1 << 34

#: TensorType of the schema -> (name, bits an element); names as in wire.DTYPES where it has them.
TYPES: dict[int, tuple[str, int]] = {
    0: ("float32", 32), 1: ("float16", 16), 2: ("int32", 32), 3: ("uint8", 8), 4: ("int64", 64), 5: ("string", 0),
    6: ("bool", 8), 7: ("int16", 16), 8: ("complex64", 64), 9: ("int8", 8), 10: ("float64", 64),
    11: ("complex128", 128), 12: ("uint64", 64), 13: ("resource", 0), 14: ("variant", 0), 15: ("uint32", 32),
    16: ("uint16", 16), 17: ("int4", 4), 18: ("bfloat16", 16), 19: ("int2", 2),
}  # fmt: skip


class Bytes(Protocol):
    """bytes, bytearray, memoryview or mmap."""

    def __len__(self) -> int: ...
    def __getitem__(self, at: slice) -> bytes: ...


class DamagedError(ValueError):
    """The bytes are no sound TFLite file; the message says where."""


@dataclass(frozen=True)
class Tensor:
    """One tensor of a subgraph."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    open_axes: tuple[int, ...]  # axes that the signature leaves open (−1)
    buffer: int
    constant: bool
    scales: int  # how many: 0 none, 1 per tensor, more per channel
    scale: float
    zero_point: int
    variable: bool
    sparse: bool = False
    open_at: tuple[int, ...] = ()  # absolute offsets of the −1, to fix them in place

    @property
    def elements(self) -> int:
        """Elements of the shape."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Operator:
    """One node: operator name and the tensors it reads and writes (−1: an optional input left out)."""

    code: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Subgraph:
    """Tensors and nodes."""

    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[Operator, ...]


@dataclass(frozen=True)
class Signature:
    """Names of a subgraph's inputs and outputs: (name, tensor index)."""

    key: str
    subgraph: int
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Structure:
    """A whole file."""

    codes: tuple[tuple[int, str, int], ...]  # builtin code, custom name, version
    subgraphs: tuple[Subgraph, ...]
    signatures: tuple[Signature, ...]
    buffers: tuple[int, ...] = field(default=())  # bytes of each
    places: tuple[int, ...] = field(default=())  # absolute offset of each
    old_codes: bool = False  # an operator's code stands in the one byte alone that files before 2020 have for it


def read(data: Bytes) -> Structure:
    """The structure of a TFLite file.

    Raises:
        InputError: it is damaged, truncated, or something else.
    """
    try:
        return _model(_Flat(data))
    except (DamagedError, struct.error, UnicodeDecodeError) as error:
        raise InputError(
            f"not a sound TFLite file: {error}", hint="it may be truncated or damaged: save or download it again"
        ) from error


# ── FlatBuffers ──────────────────────────────────────────────────────────────────────────────────────────────────────


class _Flat:
    """Checked access to the bytes."""

    def __init__(self, data: Bytes) -> None:
        self.data, self.size = data, len(data)

    def unpack(self, code: struct.Struct, at: int, what: str) -> int:
        if not 0 <= at <= self.size - code.size:
            raise DamagedError(f"{what} at byte {at} is outside of the file's {self.size}")
        value: int = code.unpack(self.data[at : at + code.size])[0]
        return value

    def root(self) -> _Table:
        if self.data[4:8] != IDENTIFIER:
            raise DamagedError(f"{self.size} bytes without the mark TFL3")
        if self.size < 16:
            raise DamagedError(f"{self.size} bytes, cut off right behind the mark TFL3")
        return _Table(self, self.unpack(_U32, 0, "the root"), "the model")


_U8, _I8, _U16, _I32, _U32 = (struct.Struct(f"<{c}") for c in "BbHiI")
_I64, _U64, _F32 = (struct.Struct(f"<{c}") for c in "qQf")


class _Table:
    """One table: its fields by number."""

    def __init__(self, flat: _Flat, at: int, what: str) -> None:
        self.flat, self.at, self.what = flat, at, what
        vtable = at - flat.unpack(_I32, at, what)
        length = flat.unpack(_U16, vtable, f"the vtable of {what}")
        inline = flat.unpack(_U16, vtable + 2, f"the vtable of {what}")
        if length < 4 or length % 2 or vtable + length > flat.size or inline < 4 or at + inline > flat.size:
            raise DamagedError(f"the vtable of {what} is wrong")
        self.vtable, self.length, self.inline = vtable, length, inline

    def offset(self, number: int) -> int:
        """Absolute place of a field, 0 where the table does not have it."""
        slot = 4 + 2 * number
        if slot + 2 > self.length:
            return 0
        relative = self.flat.unpack(_U16, self.vtable + slot, f"a field of {self.what}")
        if relative >= self.inline:
            raise DamagedError(f"field {number} of {self.what} lies outside of it")
        return self.at + relative if relative else 0

    def scalar(self, number: int, code: struct.Struct, default: int = 0) -> int:
        at = self.offset(number)
        return self.flat.unpack(code, at, self.what) if at else default

    def target(self, number: int) -> int:
        at = self.offset(number)
        return at + self.flat.unpack(_U32, at, self.what) if at else 0

    def table(self, number: int, what: str) -> _Table | None:
        at = self.target(number)
        return _Table(self.flat, at, what) if at else None

    def vector(self, number: int, item: int, what: str) -> tuple[int, int]:
        """(place of the first item, count); items of `item` bytes lie within the file."""
        at = self.target(number)
        if not at:
            return 0, 0
        count = self.flat.unpack(_U32, at, what)
        if at + 4 + count * item > self.flat.size:
            raise DamagedError(f"{what}: {count} items reach beyond the end of the file")
        return at + 4, count

    def tables(self, number: int, what: str) -> Iterator[_Table]:
        start, count = self.vector(number, 4, what)
        if count > MAX_ITEMS:
            raise DamagedError(f"{what}: {count} is over the limit of {MAX_ITEMS}")
        for index in range(count):
            at = start + 4 * index
            yield _Table(self.flat, at + self.flat.unpack(_U32, at, what), f"{what}[{index}]")

    def ints(self, number: int, what: str) -> tuple[int, ...]:
        start, count = self.vector(number, 4, what)
        if count > MAX_ITEMS:
            raise DamagedError(f"{what}: {count} is over the limit of {MAX_ITEMS}")
        return struct.unpack(f"<{count}i", self.flat.data[start : start + 4 * count]) if count else ()

    def text(self, number: int, what: str) -> str:
        start, count = self.vector(number, 1, what)
        if count > 1 << 16:
            raise DamagedError(f"{what}: a name of {count} bytes")
        return self.flat.data[start : start + count].decode("utf-8") if count else ""


# ── the schema ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _model(flat: _Flat) -> Structure:
    model = flat.root()
    version = model.scalar(0, _U32)
    if version != 3:
        raise DamagedError(f"schema version {version}, 3 is known")
    found = [_buffer(b) for b in model.tables(4, "buffers")]
    buffers, places = tuple(size for size, _ in found), tuple(at for _, at in found)
    codes = tuple(
        (max(c.scalar(0, _I8), c.scalar(3, _I32)), c.text(1, "custom code"), c.scalar(2, _I32, 1))
        for c in model.tables(1, "operator codes")
    )
    old_codes = any(c.scalar(0, _I8) > c.scalar(3, _I32) for c in model.tables(1, "operator codes"))
    subgraphs = tuple(_subgraph(s, buffers, len(codes)) for s in model.tables(2, "subgraphs"))
    if not subgraphs:
        raise DamagedError("no subgraph in it")
    signatures = tuple(_signature(s, subgraphs) for s in model.tables(7, "signatures"))
    return Structure(codes, subgraphs, signatures, buffers, places, old_codes)


def _buffer(table: _Table) -> tuple[int, int]:
    """(bytes, place) of a buffer; large models keep them behind the tables, by offset and size."""
    place, count = table.vector(0, 1, "a buffer")
    offset, size = table.scalar(1, _U64), table.scalar(2, _U64)
    if offset > 1 or size > 1:  # 0 and 1 are place holders of the writer
        if offset + size > table.flat.size:
            raise DamagedError(f"a buffer of {size} bytes at {offset} reaches beyond the end of the file")
        return size, offset
    return count, place


def _subgraph(table: _Table, buffers: Sequence[int], codes: int) -> Subgraph:
    tensors = tuple(_tensor(t, buffers) for t in table.tables(0, "tensors"))
    count = len(tensors)

    def indices(values: tuple[int, ...], what: str, low: int) -> tuple[int, ...]:
        bad = next((v for v in values if not low <= v < count), None)
        if bad is not None:
            raise DamagedError(f"{what} names tensor {bad} of {count}")
        return values

    operators = []
    for op in table.tables(3, "operators"):
        code = op.scalar(0, _U32)
        if code >= codes:
            raise DamagedError(f"an operator names code {code} of {codes}")
        if (kind := op.scalar(3, _U8)) and op.target(4):
            op.table(4, f"options of kind {kind}")
        op.vector(5, 1, "custom options")
        reads = indices(op.ints(1, "inputs"), "an operator", -1)
        operators.append(Operator(code, reads, indices(op.ints(2, "outputs"), "an operator", 0)))
    inputs = indices(table.ints(1, "the inputs"), "the inputs", 0)
    return Subgraph(tensors, inputs, indices(table.ints(2, "the outputs"), "the outputs", 0), tuple(operators))


def _tensor(table: _Table, buffers: Sequence[int]) -> Tensor:
    name, shape = table.text(3, "a tensor's name"), table.ints(0, "a shape")
    kind = table.scalar(1, _I8)
    if kind not in TYPES:
        raise DamagedError(f"tensor {name!r} is of the unknown type {kind}")
    if len(shape) > MAX_RANK or any(d < -1 for d in shape) or math.prod(map(abs, shape)) > MAX_ELEMENTS:
        raise DamagedError(f"tensor {name!r} has the shape {list(shape)}")
    signature = table.ints(7, "a shape signature")
    start, _ = table.vector(7, 4, "a shape signature")
    if signature and len(signature) != len(shape):
        raise DamagedError(f"tensor {name!r} has the shape {list(shape)} and the signature {list(signature)}")
    axes = tuple(i for i, d in enumerate(signature or shape) if d == -1)
    buffer = table.scalar(2, _U32)
    if buffer >= len(buffers):
        raise DamagedError(f"tensor {name!r} names buffer {buffer} of {len(buffers)}")
    dtype, bits = TYPES[kind]
    held, sparse = buffers[buffer], table.target(6) != 0
    if held and bits and not sparse and held < (math.prod(shape) * bits + 7) // 8:
        raise DamagedError(f"tensor {name!r}: {held} bytes are not {dtype} {list(shape)}")
    scales, scale, zero = _quantization(table)
    return Tensor(
        name, dtype, shape, axes, buffer, held > 0, scales, scale, zero, bool(table.scalar(5, _U8)), sparse,
        tuple(start + 4 * i for i in axes) if signature else (),
    )  # fmt: skip


def _quantization(table: _Table) -> tuple[int, float, int]:
    """(number of scales, the scale, the zero point); the last two where there is one of each."""
    parameters = table.table(4, "quantization")
    if parameters is None:
        return 0, 0.0, 0
    at, scales = parameters.vector(2, 4, "scales")
    zeros_at, zeros = parameters.vector(3, 8, "zero points")
    if scales != 1:
        return scales, 0.0, 0
    scale = float(_F32.unpack(table.flat.data[at : at + 4])[0])
    if not math.isfinite(scale) or scale < 0:
        raise DamagedError(f"a scale of {scale}")
    return 1, scale, table.flat.unpack(_I64, zeros_at, "zero points") if zeros else 0


def _signature(table: _Table, subgraphs: Sequence[Subgraph]) -> Signature:
    index, key = table.scalar(4, _U32), table.text(2, "a signature's key")
    if index >= len(subgraphs):
        raise DamagedError(f"signature {key!r} names subgraph {index} of {len(subgraphs)}")
    sides: list[tuple[tuple[str, int], ...]] = []
    for number in (0, 1):
        maps = tuple((m.text(0, "a name"), m.scalar(1, _U32)) for m in table.tables(number, "a signature"))
        bad = next((t for _, t in maps if t >= len(subgraphs[index].tensors)), None)
        if bad is not None:
            raise DamagedError(f"signature {key!r} names tensor {bad} of {len(subgraphs[index].tensors)}")
        sides.append(maps)
    return Signature(key, index, sides[0], sides[1])
