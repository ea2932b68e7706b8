"""Fashion-MNIST out of Debian's package, for the benchmarks that train on it. Nothing to run here."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def folder(given: Path | None, work: Path) -> Path:
    """Where the four files are; where they are nowhere, the package (31 MB, no root) is unpacked in `work`."""
    for place in (given, Path("/usr/share/datasets/fashion-mnist"), work / "usr/share/datasets/fashion-mnist"):
        if place is not None and (place / "train-images-idx3-ubyte.gz").exists():
            return place
    if given is not None:
        sys.exit(f"{given} lacks train-images-idx3-ubyte.gz")
    work.mkdir(parents=True, exist_ok=True)
    subprocess.run(["apt-get", "download", "dataset-fashion-mnist"], cwd=work, check=True, stdout=subprocess.DEVNULL)
    (package,) = work.glob("dataset-fashion-mnist_*.deb")
    subprocess.run(["dpkg-deb", "-x", str(package), str(work)], check=True)
    return work / "usr/share/datasets/fashion-mnist"


def read(folder: Path, part: str, count: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """(images float32 [n, 28, 28, 1] in 0…1, labels int32 [n]) of "train" or "t10k"."""
    with gzip.open(folder / f"{part}-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28, 1)[:count]
    with gzip.open(folder / f"{part}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)[:count]
    return (images / np.float32(255)).astype(np.float32), labels.astype(np.int32)
