"""Which reader reads what a user names as data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeship.dataset import archive
from edgeship.dataset.samples import Dataset
from edgeship.errors import UsageError
from edgeship.model import ModelFacts
from edgeship.runtime.manifest import TensorSpec


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
    data = archive.read(path, specs)
    if need_labels and data.labels is None:
        raise UsageError(
            f"{path}: no array 'labels' in it", hint="add integer class labels as 'labels', one a sample"
        )  # fmt: skip
    return data
