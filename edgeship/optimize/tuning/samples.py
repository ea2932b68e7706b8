"""What a training step reads in the child: inputs in the model's order, the teacher's answers, labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.dataset import Dataset
from edgeship.targets import feed

Array = NDArray[Any]


@dataclass(frozen=True)
class Samples:
    """Arrays [n, …] without the batch axis of 1 that a `Dataset` has."""

    inputs: tuple[Array, ...]
    labels: NDArray[np.int32] | None = None
    targets: NDArray[np.float32] | None = None
    answers: tuple[NDArray[np.float32], ...] = ()  # of the teacher, one an output

    def __len__(self) -> int:
        return len(self.inputs[0])

    def answered(self, answers: Sequence[NDArray[np.float32]]) -> Samples:
        """The same with a teacher's answers."""
        return replace(self, answers=tuple(answers))


def write(data: Dataset, folder: Path, prefix: str) -> dict[str, Any]:
    """Put samples into a child's folder; what `read` takes."""
    out: dict[str, Any] = {"inputs": feed.write(data, folder, f"{prefix}_")}
    for name, array in (("labels", data.labels), ("targets", data.targets)):
        if array is not None:
            out[name] = str(folder / f"{prefix}_{name}.npy")
            np.save(out[name], array, allow_pickle=False)
    return out


def read(files: Mapping[str, Any], names: Sequence[str]) -> Samples:
    """The samples that `write` left, inputs in the order of `names`."""
    arrays = feed.read(files["inputs"])
    more = {
        key: np.load(files[key], mmap_mode="r", allow_pickle=False) if key in files else None
        for key in ("labels", "targets")
    }
    return Samples(tuple(arrays[name][:, 0] for name in names), more["labels"], more["targets"])
