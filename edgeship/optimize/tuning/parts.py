"""The user's data in three parts: to train on, to stop by, and to judge on."""

from __future__ import annotations

from dataclasses import dataclass

from edgeship.dataset import Dataset, split
from edgeship.errors import InputError

JUDGED = 0.2  # of the samples, unless evaluation data is given
STOPPED_BY = 0.1  # of those that are left
LEAST = 20


@dataclass(frozen=True)
class Parts:
    """Three parts that share no sample: early stop never sees what the model is judged by."""

    train: Dataset
    validation: Dataset
    evaluation: Dataset


def divide(data: Dataset, evaluation: Dataset | None, seed: int, what: str = "the data") -> Parts:
    """The parts of `data`, the same for the same seed, each class in proportion and each group in one part.

    Args:
        data: all samples.
        evaluation: to judge on; None: a fifth of `data` is held out.
        seed: of the draw.
        what: the file that an error names.

    Raises:
        InputError: too few samples.
    """
    if len(data) < LEAST:
        raise InputError(
            f"{what}: {len(data)} sample{'s' * (len(data) != 1)} cannot be trained on and judged by",
            hint=f"give at least {LEAST}; some thousands make a good model",
        )
    rest, judged = split(data, JUDGED, seed) if evaluation is None else (data, evaluation)
    train, stopped = split(rest, STOPPED_BY, seed + 1)
    return Parts(train, stopped, judged)
