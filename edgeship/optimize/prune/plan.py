"""What is asked of pruning, as data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeship.errors import UsageError
from edgeship.optimize.tuning.settings import Settings

#: channels: whole channels go, the model is smaller and faster everywhere. magnitude: single weights become zero.
#: 2:4: two of every four weights in a row become zero.
CHANNELS, MAGNITUDE, TWO_OF_FOUR = "channels", "magnitude", "2:4"
METHODS = (CHANNELS, MAGNITUDE, TWO_OF_FOUR)

DEFAULT_AMOUNT = 0.5


@dataclass(frozen=True)
class Plan:
    """How a model is to be pruned.

    Attributes:
        method: one of `METHODS`.
        amount: share that goes, above 0 and below 1: of the channels of each group, or of the weights. None where
            `speedup` is given, or with 2:4, which is always a half.
        speedup: multiply-accumulate operations now over those afterwards, above 1; of channels.
        settings: of the fine-tuning.

    Raises:
        UsageError: a value that makes no sense.
    """

    method: str = CHANNELS
    amount: float | None = None
    speedup: float | None = None
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"unknown method {self.method!r}", hint=f"known are {', '.join(METHODS)}")
        if self.amount is not None and self.speedup is not None:
            raise UsageError("an amount and a speedup exclude each other", hint="give one of them")
        if self.speedup is not None and self.method != CHANNELS:
            raise UsageError(
                f"{self.method} takes no speedup: masks leave the shapes, so the dense model is as slow as before",
                hint="--method channels makes it faster",
            )
        if self.method == TWO_OF_FOUR and self.amount is not None:
            raise UsageError("2:4 takes no amount: it is always a half", hint="leave the amount out")
        if self.amount is not None and not 0 < self.amount < 1:
            raise UsageError(f"an amount of {self.amount:g}: it must lie between 0 and 1", hint="0.5 removes a half")
        if self.speedup is not None and not (1 < self.speedup < math.inf):
            raise UsageError(f"a speedup of {self.speedup:g}: it must be above 1", hint="1.5 asks for two thirds")
        if self.amount is None and self.speedup is None and self.method != TWO_OF_FOUR:
            object.__setattr__(self, "amount", DEFAULT_AMOUNT)

    def encode(self) -> dict[str, Any]:
        """To what `json.dumps` takes."""
        return dataclasses.asdict(self)

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Plan:
        """From what `encode` gave."""
        return cls(data["method"], data["amount"], data["speedup"], Settings(**data["settings"]))
