"""Representative and evaluation data: `.npz` files of arrays named like the model's inputs, and `labels`.

Rules this module keeps:

* No pickle is ever opened, and no array is allocated before its declared size was compared with the file's.
* Values are finite, shapes are the model's, numbers of samples agree; every error names the array, what was expected
  and what was there.
* What comes out is uniform: real values in the input's own kind of number, `[n, *shape]` with the model's whole shape,
  so that `inputs[name][i]` is exactly what the model takes.
"""

from __future__ import annotations

import hashlib
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from edgeship.errors import InputError, UsageError
from edgeship.model import ModelFacts
from edgeship.runtime.manifest import TensorSpec

MAX_BYTES = 8 << 30  # of all arrays of one file, uncompressed
MAX_ARRAYS = 64
LABELS = "labels"
ANONYMOUS = ("x", "images", "image", "data", "arr_0", "inputs")  # accepted for a model with one input

Array = NDArray[Any]


@dataclass(frozen=True)
class Dataset:
    """Samples in memory.

    Attributes:
        inputs: input name -> array [n, *shape], shape as the model declares it, batch axis included. float32 for float
            and quantized inputs (real values, not quantized), the input's own integer dtype otherwise.
        labels: class of each sample, int32 [n], or None.
        targets: what a regression or an embedding should answer, float32 [n, …], or None.
        slices: name of a part of the data that is judged alone -> bool [n].
    """

    inputs: dict[str, Array]
    labels: NDArray[np.int32] | None = None
    targets: NDArray[np.float32] | None = None
    slices: dict[str, NDArray[np.bool_]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    @cached_property
    def inputs_sha256(self) -> str:
        """Hexadecimal digest of the inputs: names, dtypes, shapes and values, whatever the file looked like."""
        return _digest(self.inputs)

    @cached_property
    def sha256(self) -> str:
        """The same of everything."""
        more: dict[str, Array | None] = {"\0labels": self.labels, "\0targets": self.targets}
        more |= {f"\0slice {name}": mask for name, mask in self.slices.items()}
        return _digest(self.inputs | {name: array for name, array in more.items() if array is not None})

    def take(self, n: int, seed: int) -> Dataset:
        """At most `n` samples drawn without replacement, in the order of the data; the same for the same seed."""
        if n >= len(self):
            return self
        chosen = np.sort(np.random.default_rng(seed).permutation(len(self))[:n])
        return self.select(chosen)

    def select(self, indices: Sequence[int] | NDArray[np.intp]) -> Dataset:
        """The samples at these positions."""
        at = np.asarray(indices, dtype=np.intp)
        return Dataset(
            {name: array[at] for name, array in self.inputs.items()},
            None if self.labels is None else self.labels[at],
            None if self.targets is None else self.targets[at],
            {name: mask[at] for name, mask in self.slices.items()},
        )


def _digest(arrays: Mapping[str, Array]) -> str:
    hasher = hashlib.sha256()
    for name, array in arrays.items():
        hasher.update(f"{name}\0{array.dtype.str}{array.shape}\n".encode())
        hasher.update(np.ascontiguousarray(array).tobytes())
    return hasher.hexdigest()


_PREPARE = "prepare the samples as in training: the model's input, one sample a row"


def check_file(path: Path) -> None:
    """Raise UsageError unless the path is a file; it is not read."""
    if not path.exists():
        raise UsageError(f"{path}: no such data file", hint="an .npz with arrays named like the model's inputs")
    if not path.is_file():
        raise UsageError(f"{path}: not a file", hint="an .npz with arrays named like the model's inputs")


def load(path: Path, facts: ModelFacts, *, need_labels: bool = False) -> Dataset:
    """Read a data file for a model.

    Args:
        path: `.npz`, or `.npy` for a model with one input.
        facts: the model; its inputs say which arrays are wanted and in which shape.
        need_labels: whether data without `labels` is refused.

    Raises:
        UsageError: no such file; labels are needed and missing.
        InputError: not such a file, truncated, too large, an array is missing, has another shape or dtype, holds NaN or
            infinity, or the numbers of samples differ.
    """
    return read(path, facts.inputs, need_labels=need_labels)


def read(path: Path, specs: Sequence[TensorSpec], *, need_labels: bool = False) -> Dataset:
    """As `load`, for inputs that are known without the model file: those of what a device serves."""
    check_file(path)
    wanted = [spec.name for spec in specs]
    arrays = _read(path, wanted)
    labels = arrays.pop(LABELS, None) if LABELS not in wanted else None
    named = _assign(path, arrays, wanted)
    inputs = {spec.name: _conform(path, named[spec.name], spec) for spec in specs}
    counts = {name: len(array) for name, array in inputs.items()}
    if len(set(counts.values())) > 1:
        raise InputError(f"{path}: the arrays differ in samples: {_listed(counts)}", hint="one row a sample in each")
    count = next(iter(counts.values()))
    if count == 0:
        raise InputError(f"{path}: no samples in it", hint="200 to 1,000 samples as the model will see them")
    if labels is None:
        if need_labels:
            raise UsageError(
                f"{path}: no array {LABELS!r} in it", hint=f"add integer class labels as {LABELS!r}, one a sample"
            )
        return Dataset(inputs)
    return Dataset(inputs, _labels(path, labels, count))


# ── the file ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _read(path: Path, wanted: Sequence[str]) -> dict[str, Array]:
    """All arrays that are wanted or could be, by name; sizes are checked before anything is allocated."""
    try:
        with path.open("rb") as file:
            if file.read(6) == b"\x93NUMPY":
                return {"arr_0": _array(path, "arr_0", file, path.stat().st_size)}
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist() if not info.is_dir()}
            if not members:
                raise InputError(f"{path}: no arrays in it")
            if len(members) > MAX_ARRAYS:
                raise InputError(f"{path}: {len(members)} arrays are over the limit of {MAX_ARRAYS}")
            total = sum(info.file_size for info in members.values())
            if total > MAX_BYTES:
                raise InputError(f"{path}: {total} bytes of arrays are over the limit of {MAX_BYTES}")
            keep = {*wanted, LABELS} if set(wanted) & set(members) else set(members)
            out: dict[str, Array] = {}
            for name in sorted(keep & set(members)):
                with archive.open(members[name]) as member:
                    out[name] = _array(path, name, member, members[name].file_size)
            return out
    except (OSError, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise InputError(
            f"{path}: not a readable .npz file: {error}", hint="write it with numpy.savez_compressed"
        ) from error


def _array(path: Path, name: str, file: IO[bytes], size: int) -> Array:
    """One array of `.npy` format, `size` bytes long in all. Raises InputError."""
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
                hint="save numbers: numpy.asarray(…, dtype='float32')",
            )
        expected = math.prod(shape) * dtype.itemsize
        if expected != size - file.tell():
            raise ValueError(f"{expected} bytes declared, {size - file.tell()} there")
        flat = np.frombuffer(bytearray(file.read(expected)), dtype=dtype)
        if flat.size != math.prod(shape):
            raise ValueError("it ends early")
        return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: array {name!r} is damaged: {error}") from error


def _assign(path: Path, arrays: Mapping[str, Array], wanted: Sequence[str]) -> dict[str, Array]:
    """Array by input name; an array of a general name serves a model with one input."""
    if set(wanted) <= set(arrays):
        return {name: arrays[name] for name in wanted}
    if len(wanted) == 1:
        general = [name for name in arrays if name in ANONYMOUS] if len(arrays) > 1 else list(arrays)
        if len(general) == 1 and (general[0] in ANONYMOUS or len(arrays) == 1):
            return {wanted[0]: arrays[general[0]]}
    missing = [name for name in wanted if name not in arrays]
    raise InputError(
        f"{path}: no array for the model's input {', '.join(map(repr, missing))}; it holds {_names(arrays)}",
        hint=f"name the arrays like the inputs: {', '.join(wanted)}",
    )


# ── values ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _conform(path: Path, array: Array, spec: TensorSpec) -> Array:
    """`array` as [n, *spec.shape] in the kind of number that the input takes."""
    where = f"{path}: array {spec.name!r}"
    if array.dtype.kind not in "fiub":
        raise InputError(f"{where} is of type {array.dtype}, numbers are wanted", hint=_PREPARE)
    shape = spec.shape
    sample = shape[1:] if shape and shape[0] == 1 else shape
    if array.shape[1:] != shape and array.shape[1:] != sample:
        expected = " or ".join(dict.fromkeys(_shape(s) for s in (sample, shape)))
        raise InputError(
            f"{where}: expected shape {expected}, got {list(array.shape)}", hint=_layout(array, sample) or _PREPARE
        )
    if array.dtype.kind == "f":
        _finite(where, array)
    array = array.reshape(len(array), *shape)
    if spec.scale and array.dtype == np.dtype(spec.dtype):  # given in the model's own integers: back to real values
        return ((array.astype(np.float64) - spec.zero_point) * spec.scale).astype(np.float32)
    if spec.scale or spec.dtype.startswith("float"):
        with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused as that
            real: Array = array.astype(np.float32)
        _finite(where, real)
        return real
    target = np.dtype(spec.dtype)
    if array.dtype.kind == "f" and not np.array_equal(array, np.rint(array)):
        raise InputError(f"{where}: the input takes {spec.dtype}, got {array.dtype} with fractions", hint=_PREPARE)
    low, high = (0, 1) if target.kind == "b" else (np.iinfo(target).min, np.iinfo(target).max)
    if array.size and (array.min() < low or array.max() > high):
        raise InputError(f"{where}: values {array.min()} to {array.max()} do not fit {spec.dtype}", hint=_PREPARE)
    return array.astype(target)


def _finite(where: str, array: Array) -> None:
    bad = ~np.isfinite(array)
    if bad.any():
        first = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), array.shape))
        raise InputError(
            f"{where}: {int(bad.sum())} values are NaN or infinite or too large for float32, "
            f"the first at {list(first)}",
            hint=_PREPARE,
        )


def _layout(array: Array, sample: tuple[int, ...]) -> str | None:
    """A hint where only the order of the axes, or a channel axis, is wrong."""
    got = array.shape[1:]
    if len(got) > 1 and sorted(got) == sorted(sample):
        return "the axes are in another order: numpy.transpose (channels last or channels first)"
    if math.prod(got) == math.prod(sample) and array.ndim > 1:
        return f"reshape the samples: array.reshape(-1, {', '.join(map(str, sample))})"
    return None


def _labels(path: Path, labels: Array, count: int) -> NDArray[np.int32]:
    where = f"{path}: array {LABELS!r}"
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (count,):
        raise InputError(
            f"{where}: expected shape [{count}], got {list(labels.shape)}",
            hint="class indices, not one-hot: labels.argmax(axis=1)" if labels.ndim == 2 else None,
        )
    if labels.dtype.kind not in "iuf" or not np.array_equal(labels, np.rint(labels)):
        raise InputError(f"{where}: class indices (integers) are wanted, got {labels.dtype}")
    if labels.min() < 0 or labels.max() > np.iinfo(np.int32).max:
        raise InputError(f"{where}: class indices must be 0 or more, got {labels.min()} to {labels.max()}")
    return labels.astype(np.int32)


def _shape(sample: Sequence[int]) -> str:
    return f"[n, {', '.join(map(str, sample))}]" if sample else "[n]"


def _names(arrays: Mapping[str, Array]) -> str:
    return ", ".join(f"{name!r} {list(array.shape)}" for name, array in arrays.items()) or "none"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name!r} {count}" for name, count in counts.items())
