"""Samples on the disk under the hash of what they are: processes that share a cache map them instead of copying."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.dataset import Dataset
from edgeship.errors import ConversionError
from edgeship.targets import cache


@dataclass(frozen=True)
class Stored:
    """A dataset in a cache."""

    folder: Path
    key: str

    def load(self) -> Dataset:
        """The samples, mapped read-only. Raises ConversionError where they are gone or were changed."""
        entry = cache.lookup(self.folder, self.key)
        if entry is None:
            raise ConversionError(f"{self.folder / self.key}: the samples are gone", hint="start the search again")

        def array(name: str) -> Any:
            return np.load(entry.path(name), mmap_mode="r", allow_pickle=False)

        return Dataset(
            {str(name): array(file) for name, file in entry.facts["inputs"]},
            array("labels.npy") if "labels.npy" in entry.files else None,
            array("targets.npy") if "targets.npy" in entry.files else None,
            {str(name): array(file) for name, file in entry.facts["slices"]},
            preparation=entry.facts["preparation"],
        )


def put(data: Dataset, folder: Path) -> Stored:
    """Keep a dataset. Raises ConversionError where the folder cannot be written."""
    preparation = None if data.preparation is None else dict(data.preparation)
    key = cache.key_of("samples/2", data.sha256, preparation)

    def make(place: Path) -> Mapping[str, Any]:
        def save(file: str, array: Any) -> str:
            np.save(place / file, array, allow_pickle=False)
            return file

        inputs = [(name, save(f"input{i}.npy", array)) for i, (name, array) in enumerate(data.inputs.items())]
        slices = [(name, save(f"slice{i}.npy", mask)) for i, (name, mask) in enumerate(data.slices.items())]
        for file, array in (("labels.npy", data.labels), ("targets.npy", data.targets)):
            if array is not None:
                save(file, array)
        return {"inputs": inputs, "slices": slices, "preparation": preparation}

    cache.keep(folder, key, make)
    return Stored(folder, key)
