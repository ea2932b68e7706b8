"""How a network is trained, as data."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgeship.errors import UsageError


@dataclass(frozen=True)
class Settings:
    """Of a training that follows a teacher, and labels where there are some.

    Attributes:
        epochs: at most; early stop may end it before.
        batch: samples a step.
        rate: learning rate of Adam at the start; it falls to 0 along half a cosine (Loshchilov and Hutter, SGDR, 2017).
        patience: epochs without a better validation loss after which it stops.
        temperature: of the softened class scores (Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural
            Network, 2015).
        alpha: weight of the labels against the teacher, 0 to 1; without labels the teacher alone counts.
        seed: of the split, the order of the samples and new weights.

    Raises:
        UsageError: a value that makes no sense.
    """

    epochs: int = 10
    batch: int = 64
    rate: float = 1e-3
    patience: int = 3
    temperature: float = 2.0
    alpha: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        for value, sound, what, hint in (
            (self.epochs, self.epochs >= 0, "epochs", "0 or more"),
            (self.batch, self.batch >= 1, "samples a batch", "1 or more"),
            (self.rate, 0 < self.rate < math.inf, "learning rate", "such as 0.001"),
            (self.patience, self.patience >= 1, "epochs of patience", "1 or more"),
            (self.temperature, 0 < self.temperature < math.inf, "temperature", "2 to 10 are usual"),
            (self.alpha, 0 <= self.alpha <= 1, "weight of the labels", "between 0 and 1"),
            (self.seed, 0 <= self.seed < 1 << 32, "seed", "0 or more"),
        ):
            if not sound:
                raise UsageError(f"{what}: {value:g} makes no sense", hint=hint)
