"""The record: samples in memory, and the digest of what they hold."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.runtime.manifest import TensorSpec
from edgeship.runtime.wire import TEXT, TEXT_BYTES

Array = NDArray[Any]


def dtype_of(spec: TensorSpec) -> np.dtype[Any]:
    """How numpy calls the dtype of an input or output; text is bytes of a fixed length."""
    return np.dtype(f"S{TEXT_BYTES}" if spec.dtype == TEXT else spec.dtype)


@dataclass(frozen=True)
class Dataset:
    """Samples in memory.

    Attributes:
        inputs: input name -> array [n, *shape], shape as the model declares it, batch axis included. float32 for float
            and quantized inputs (real values, not quantized), the input's own dtype otherwise (`dtype_of`).
        labels: class of each sample, int32 [n], or None.
        targets: what a regression or an embedding should answer, float32 [n, …], or None.
        slices: name of a part of the data that is judged alone -> bool [n].
        groups: samples of one number come from one recording or subject and are never parted, int32 [n], or None.
        classes: names of the classes in the order of `labels`, where the data has names.
        preparation: how the samples were made of files, JSON, for the recipe; None where they came as arrays.
    """

    inputs: dict[str, Array]
    labels: NDArray[np.int32] | None = None
    targets: NDArray[np.float32] | None = None
    slices: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    groups: NDArray[np.int32] | None = None
    classes: tuple[str, ...] = ()
    preparation: Mapping[str, Any] | None = None

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    @cached_property
    def inputs_sha256(self) -> str:
        """Hexadecimal digest of the inputs: names, dtypes, shapes and values, whatever the file looked like."""
        return _digest(self.inputs)

    @cached_property
    def sha256(self) -> str:
        """The same of everything that a model is judged by."""
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
        return replace(
            self,
            inputs={name: array[at] for name, array in self.inputs.items()},
            labels=None if self.labels is None else self.labels[at],
            targets=None if self.targets is None else self.targets[at],
            slices={name: mask[at] for name, mask in self.slices.items()},
            groups=None if self.groups is None else self.groups[at],
        )


def _digest(arrays: Mapping[str, Array]) -> str:
    hasher = hashlib.sha256()
    for name, array in arrays.items():
        hasher.update(f"{name}\0{array.dtype.str}{array.shape}\n".encode())
        hasher.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return hasher.hexdigest()
