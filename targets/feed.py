"""How samples travel to a child process: one `.npy` file an input, which the child maps instead of reading."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.dataset import Dataset
from edgeship.errors import ConversionError

Array = NDArray[Any]


def write(data: Dataset, folder: Path, prefix: str = "input") -> list[dict[str, str]]:
    """Write the inputs of `data` into a folder.

    Returns:
        `[{"name", "file"}]`, which `read` takes in the child.
    """
    files: list[dict[str, str]] = []
    for index, (name, array) in enumerate(data.inputs.items()):
        file = folder / f"{prefix}{index}.npy"
        np.save(file, array, allow_pickle=False)
        files.append({"name": name, "file": str(file)})
    return files


def read(files: list[Mapping[str, str]]) -> dict[str, Array]:
    """Input name -> array [n, *shape], mapped from the disk and read-only."""
    return {item["name"]: np.load(item["file"], mmap_mode="r", allow_pickle=False) for item in files}


class Samples:
    """The samples of a feed, read one at a time: mapped pages would count as memory. Raises ConversionError if none."""

    def __init__(self, files: Sequence[Mapping[str, str]] | None) -> None:
        self._arrays = read(list(files or []))
        self._files = {item["name"]: Path(item["file"]) for item in files or []}
        self._count = min((len(array) for array in self._arrays.values()), default=0)
        if not self._count:
            raise ConversionError("no calibration samples arrived")

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        opened = {name: path.open("rb") for name, path in self._files.items()}
        try:
            for index in range(self._count):
                yield {name: self._one(name, index, file) for name, file in opened.items()}
        finally:
            for file in opened.values():
                file.close()

    def _one(self, name: str, index: int, file: Any) -> NDArray[Any]:
        array = self._arrays[name]
        shape = array.shape[1:]
        file.seek(int(getattr(array, "offset", 0)) + index * math.prod(shape) * array.dtype.itemsize)
        flat: NDArray[Any] = np.fromfile(file, dtype=array.dtype, count=math.prod(shape))
        return flat.reshape(shape)
