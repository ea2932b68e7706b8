"""How samples travel to a child process: one `.npy` file an input, which the child maps instead of reading."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.dataset import Dataset

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
