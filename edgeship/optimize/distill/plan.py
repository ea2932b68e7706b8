"""What is asked of a distillation, as data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeship.errors import UsageError
from edgeship.optimize.tuning.settings import Settings

DEFAULTS = Settings(epochs=30, patience=5, temperature=4.0)


@dataclass(frozen=True)
class Plan:
    """How a student is to be taught.

    Attributes:
        width: of a derived student: part of the channels of each layer that it has, above 0 and at most 1; None where
            the student is given.
        depth: of a derived student: part of the repeated blocks of each stage, above 0 and at most 1.
        features: pairs of layers (teacher's, student's) whose outputs should be alike.
        settings: of the training.

    Raises:
        UsageError: a value that makes no sense.
    """

    width: float | None = None
    depth: float = 1.0
    features: tuple[tuple[str, str], ...] = ()
    settings: Settings = field(default_factory=lambda: DEFAULTS)

    def __post_init__(self) -> None:
        for value, what in ((self.width, "width"), (self.depth, "depth")):
            if value is not None and not 0 < value <= 1:
                raise UsageError(
                    f"a {what} of {value:g}: it must be above 0 and at most 1", hint="0.5 takes a half of the teacher's"
                )
        if self.width == 1 and self.depth == 1:
            raise UsageError(
                "width and depth of 1 give the teacher again", hint="make one of them smaller, such as --width 0.5"
            )
        if self.width is None and self.depth != 1:
            raise UsageError("depth is of a derived student", hint="give --width too; 1.0 leaves the width as it is")

    def encode(self) -> dict[str, Any]:
        """To what `json.dumps` takes."""
        return {**dataclasses.asdict(self), "features": [list(pair) for pair in self.features]}

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Plan:
        """From what `encode` gave."""
        features = tuple((str(a), str(b)) for a, b in data["features"])
        return cls(data["width"], data["depth"], features, Settings(**data["settings"]))


def feature_pair(text: str) -> tuple[str, str]:
    """`LAYER`, of the same name in both, or `TEACHERS:STUDENTS`. Raises UsageError."""
    teacher, colon, student = text.partition(":")
    if not teacher or (colon and not student):
        raise UsageError(f"{text!r} names no layers", hint="LAYER, or TEACHERS_LAYER:STUDENTS_LAYER")
    return teacher, student or teacher
