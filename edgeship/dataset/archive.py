"""Arrays in a file: `.npz` with arrays named like the model's inputs, or one `.npy`.

Beside the inputs a `.npz` may hold `labels`, `targets`, `groups`, `slices` (one column of names) and `slice:NAME`
(booleans, or a column of text or integers).
"""

from __future__ import annotations

import lzma
import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from edgeship.dataset import values
from edgeship.dataset.drawing import Bound, recorded
from edgeship.dataset.samples import Array, Dataset
from edgeship.errors import InputError
from edgeship.runtime.manifest import TensorSpec
from edgeship.runtime.wire import TEXT, TEXT_BYTES

MAX_BYTES = 8 << 30  # of all arrays of one file, uncompressed
MAX_ARRAYS = 64
_CHUNK = 1 << 22  # bytes that are looked at at a time, of more samples than are kept
LABELS, TARGETS, GROUPS, SLICES, SLICE = "labels", "targets", "groups", "slices", "slice:"
#: What a member raises whose packed bytes are damaged: `zipfile` passes on what its unpackers raise.
_DAMAGED = (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)

ANONYMOUS = ("x", "images", "image", "data", "arr_0", "inputs")  # accepted for a model with one input


def read(path: Path, specs: Sequence[TensorSpec], bound: Bound | None = None) -> Dataset:
    """The samples of a file.

    Args:
        path: the file.
        specs: of the model's inputs.
        bound: what is kept at most: of more samples, a draw is read, and `preparation` says so; None: all.

    Raises:
        InputError: not such a file, truncated, too large, an array is missing, has another shape or dtype, holds NaN or
            infinity, or the numbers of samples differ.
    """
    arrays, drawn = _read(path, specs, bound)
    data = assemble(str(path), arrays, specs)
    return data if drawn is None else replace(data, preparation=recorded(None, len(data), drawn))


def is_about_samples(name: str) -> bool:
    """Whether an array of this name says something of the samples and is no input."""
    return name in (LABELS, TARGETS, GROUPS, SLICES) or name.startswith(SLICE)


def assemble(where: str, arrays: Mapping[str, Array], specs: Sequence[TensorSpec]) -> Dataset:
    """A dataset out of arrays by name, one row a sample in each. Raises InputError that names `where`."""
    wanted = [spec.name for spec in specs]
    about = {name: array for name, array in arrays.items() if is_about_samples(name) and name not in wanted}
    named = _assign(where, {name: array for name, array in arrays.items() if name not in about}, wanted)
    inputs = {spec.name: values.conform(_of(where, spec.name), named[spec.name], spec) for spec in specs}
    counts = {name: len(array) for name, array in inputs.items()}
    if len(set(counts.values())) > 1:
        raise InputError(f"{where}: the arrays differ in samples: {_listed(counts)}", hint="one row a sample in each")
    count = next(iter(counts.values()))
    if count == 0:
        raise InputError(f"{where}: no samples in it", hint="200 to 1,000 samples as the model will see them")
    return describe(where, Dataset(inputs), about)


def describe(where: str, data: Dataset, about: Mapping[str, Array]) -> Dataset:
    """The dataset with what arrays say of its samples: `labels`, `targets`, `groups`, slices. Raises InputError."""
    count = len(data)
    slices = dict(data.slices)
    for name, array in about.items():
        if name == SLICES or name.startswith(SLICE):
            made = values.as_slices(_of(where, name), name.removeprefix(SLICE) if name != SLICES else "", array, count)
            if twice := slices.keys() & made.keys():
                raise InputError(
                    f"{_of(where, name)} names the slice {min(twice)!r} a second time",
                    hint="give each slice a name of its own",
                )
            slices |= made
    return replace(
        data,
        labels=values.as_labels(_of(where, LABELS), about[LABELS], count) if LABELS in about else data.labels,
        targets=values.as_targets(_of(where, TARGETS), about[TARGETS], count) if TARGETS in about else data.targets,
        slices=slices,
        groups=values.as_groups(_of(where, GROUPS), about[GROUPS], count) if GROUPS in about else data.groups,
    )


def _of(where: str, name: str) -> str:
    return f"{where}: array {name!r}"


# ── the file ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _read(path: Path, specs: Sequence[TensorSpec], bound: Bound | None) -> tuple[dict[str, Array], int | None]:
    """All arrays that are wanted or could be, by name; sizes and shapes are checked before anything is allocated.

    Beside them how many samples there were, where a part of them was drawn.
    """
    wanted = {spec.name: spec for spec in specs}
    try:
        with path.open("rb") as file:
            if file.read(6) == b"\x93NUMPY":
                size = path.stat().st_size
                if size > MAX_BYTES:
                    raise InputError(
                        f"{path}: {size} bytes are over the limit of {MAX_BYTES}", hint="fewer samples: 200 to 1,000 do"
                    )
                head = Head.read(path, "arr_0", file, size)
                rows = None if bound is None else _drawn({"arr_0": head}, bound)
                return {"arr_0": head.array(file, rows)}, None if rows is None else head.shape[0]
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist() if not info.is_dir()}
            if not members:
                raise InputError(f"{path}: no arrays in it", hint="write it with numpy.savez_compressed")
            if len(members) > MAX_ARRAYS:
                raise InputError(
                    f"{path}: {len(members)} arrays are over the limit of {MAX_ARRAYS}",
                    hint="an array for each input, and labels, targets, slices: leave out what is neither",
                )
            total = sum(info.file_size for info in members.values())
            if total > MAX_BYTES:
                raise InputError(
                    f"{path}: {total} bytes of arrays are over the limit of {MAX_BYTES}",
                    hint="fewer samples: 200 to 1,000 do",
                )
            about = {name for name in members if is_about_samples(name)}
            keep = {*wanted, *about} if set(wanted) & set(members) else set(members)
            heads: dict[str, Head] = {}
            for name in sorted(keep & set(members)):
                with archive.open(members[name]) as member:
                    heads[name] = Head.read(path, name, member, members[name].file_size, wanted.get(name))
            rows = None if bound is None else _drawn(heads, bound)
            out: dict[str, Array] = {}
            for name, head in heads.items():
                with archive.open(members[name]) as member:
                    member.read(head.offset)
                    out[name] = head.array(member, rows)
            return out, None if rows is None else next(iter(heads.values())).shape[0]
    except (OSError, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise InputError(
            f"{path}: not a readable .npz file: {error}", hint="write it with numpy.savez_compressed"
        ) from error


def _drawn(heads: Mapping[str, Head], bound: Bound) -> NDArray[np.intp] | None:
    """Which rows of all arrays are read; None: all, also where their numbers differ, which is refused later on."""
    counts = {head.shape[0] if head.shape else -1 for head in heads.values()}
    if len(counts) != 1 or -1 in counts:
        return None
    return bound.rows(counts.pop(), sum(math.prod(head.shape[1:]) * _kept(head.dtype) for head in heads.values()))


def _kept(dtype: np.dtype[Any]) -> int:
    """Bytes of a value in memory."""
    return max(TEXT_BYTES if dtype.kind in "SU" else 4, dtype.itemsize)


@dataclass(frozen=True)
class Head:
    """What an array of `.npy` format says of itself."""

    path: Path
    name: str
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    offset: int  # bytes before the values

    @classmethod
    def read(cls, path: Path, name: str, file: IO[bytes], size: int, spec: TensorSpec | None = None) -> Head:
        """Of an array that is `size` bytes long in all and whose shape fits `spec` if given. Raises InputError."""
        file.seek(0)
        try:
            version = np.lib.format.read_magic(file)
            read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            if version not in read_header:
                raise ValueError(f"format version {version}")
            shape, fortran, dtype = read_header[version](file)
            if dtype.hasobject:
                raise InputError(
                    f"{path}: array {name!r} holds Python objects, which are never unpickled",
                    hint=f"save it as numpy.asarray(…, dtype={'str' if spec and spec.dtype == TEXT else 'float32'!r})",
                )
            expected = math.prod(shape) * dtype.itemsize
            if expected != size - file.tell():
                raise ValueError(f"{expected} bytes declared, {size - file.tell()} there")
        except _DAMAGED as error:
            raise _damaged(path, name, error) from error
        if spec is not None:  # before the bytes are unpacked, which may be thousands of times what the file has
            values.check_dtype(_of(str(path), name), dtype, spec)
            values.check_shape(_of(str(path), name), shape, spec)
        return cls(path, name, shape, fortran, dtype, file.tell())

    def array(self, file: IO[bytes], rows: NDArray[np.intp] | None = None) -> Array:
        """The values, from where `file` is: all, or some rows, which alone are kept in memory. Raises InputError."""
        size = math.prod(self.shape) * self.dtype.itemsize
        try:
            if rows is not None and not self.fortran:
                return self._rows(file, rows)
            flat = np.frombuffer(_filled(file, size), dtype=self.dtype)
            whole = flat.reshape(self.shape[::-1]).T if self.fortran else flat.reshape(self.shape)
            return whole if rows is None else whole[rows]
        except _DAMAGED as error:
            raise _damaged(self.path, self.name, error) from error
        except MemoryError as error:
            raise InputError(
                f"{self.path}: array {self.name!r}: {size} bytes do not fit into the memory",
                hint="fewer samples: 200 to 1,000 do",
            ) from error

    def _rows(self, file: IO[bytes], rows: NDArray[np.intp]) -> Array:
        """Rows in ascending order, read a chunk at a time. Raises ValueError where the file ends early."""
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        size = math.prod(self.shape[1:]) * self.dtype.itemsize
        step, done = max(1, _CHUNK // max(1, size)), 0
        for start in range(0, self.shape[0], step):
            count = min(step, self.shape[0] - start)
            raw = file.read(count * size)
            if len(raw) != count * size:
                raise ValueError("it ends early")
            end = int(np.searchsorted(rows, start + count))
            out[done:end] = np.frombuffer(raw, self.dtype).reshape(count, *self.shape[1:])[rows[done:end] - start]
            done = end
        return out


def _filled(file: IO[bytes], size: int) -> bytearray:
    """So many bytes, held once: `read` of all of them would hold them twice. Raises ValueError where the file ends."""
    raw, done = bytearray(size), 0
    with memoryview(raw) as view:
        while done < size:
            if not (chunk := file.read(min(_CHUNK, size - done))):
                raise ValueError("it ends early")
            view[done : done + len(chunk)] = chunk
            done += len(chunk)
    return raw


def read_array(path: Path, name: str, file: IO[bytes], size: int) -> Array:
    """One array of `.npy` format, `size` bytes long in all. Raises InputError."""
    return Head.read(path, name, file, size).array(file)


def _damaged(path: Path, name: str, error: BaseException) -> InputError:
    return InputError(f"{path}: array {name!r} is damaged: {error}", hint="write it again with numpy.savez_compressed")


def _assign(where: str, arrays: Mapping[str, Array], wanted: Sequence[str]) -> dict[str, Array]:
    """Array by input name; an array of a general name serves a model with one input."""
    if set(wanted) <= set(arrays):
        return {name: arrays[name] for name in wanted}
    if len(wanted) == 1:
        general = [name for name in arrays if name in ANONYMOUS] if len(arrays) > 1 else list(arrays)
        if len(general) == 1 and (general[0] in ANONYMOUS or len(arrays) == 1):
            return {wanted[0]: arrays[general[0]]}
    missing = [name for name in wanted if name not in arrays]
    raise InputError(
        f"{where}: no array for the model's input {', '.join(map(repr, missing))}; it holds {_names(arrays)}",
        hint=f"name the arrays like the inputs: {', '.join(wanted)}",
    )


def _names(arrays: Mapping[str, Array]) -> str:
    return ", ".join(f"{name!r} {list(array.shape)}" for name, array in arrays.items()) or "none"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name!r} {count}" for name, count in counts.items())
