"""What a user or a search asks of a quantizer: a Scheme. It is data, part of a recipe, and says nothing of a format."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeship.errors import UsageError

#: float32, float16: weights. dynamic: int8 weights, activations quantized as they come. int8-weights: int8 weights,
#: computed in float. int8: weights and activations, calibrated. int16x8: int16 activations, int8 weights, calibrated.
PRECISIONS = ("float32", "float16", "dynamic", "int8-weights", "int8", "int16x8")
CALIBRATED = ("int8", "int16x8")

#: How the range of an activation is chosen from what calibration saw.
RANGES = ("min-max", "moving-average", "percentile", "entropy", "mse")

#: Types of the inputs and outputs: what the format's quantizer makes of itself, or this.
ENDPOINTS = ("default", "int8", "float32")

#: How weights become int8: each to its nearest step, or so that the layer's answers stay (`targets.rounding`).
ROUNDINGS = ("nearest", "fitted")
FITTED = ("int8-weights", "int8", "int16x8")  # precisions that can be


@dataclass(frozen=True)
class Scheme:
    """How a float model is to be quantized.

    Attributes:
        precision: one of `PRECISIONS`.
        ranges: one of `RANGES`; of calibrated precisions.
        per_channel: a scale for each channel of a weight, else one for all of it.
        symmetric: activations with zero point 0; int16x8 always is.
        endpoints: one of `ENDPOINTS`; of int8.
        keep: layers that stay in float: names of the tensors that they write, in the float model of the format.
        rounding: one of `ROUNDINGS`; fitted takes representative data.
        weights_only: layers with int8 weights that are computed in float, named likewise; of calibrated precisions.

    Raises:
        UsageError: a word that is not known.
    """

    precision: str
    ranges: str = "min-max"
    per_channel: bool = True
    symmetric: bool = False
    endpoints: str = "default"
    keep: tuple[str, ...] = ()
    rounding: str = "nearest"
    weights_only: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for value, known, what in (
            (self.precision, PRECISIONS, "precision"), (self.ranges, RANGES, "choice of ranges"),
            (self.endpoints, ENDPOINTS, "type of inputs and outputs"),
            (self.rounding, ROUNDINGS, "rounding of weights"),
        ):  # fmt: skip
            if value not in known:
                close = difflib.get_close_matches(value, known, n=1)
                raise UsageError(
                    f"unknown {what} {value!r}" + (f"; did you mean {close[0]!r}?" if close else ""),
                    hint=f"known are {', '.join(known)}",
                )

    @property
    def calibrated(self) -> bool:
        """Whether activations are quantized with ranges from representative data."""
        return self.precision in CALIBRATED

    @property
    def needs_data(self) -> bool:
        """Whether it takes representative data."""
        return self.calibrated or self.rounding == "fitted"

    @property
    def idle(self) -> tuple[str, str] | None:
        """(a setting that this precision has no use for, what to do), or None: nothing that is asked is left undone."""
        if self.endpoints == "int8" and self.precision != "int8":
            return (
                f"{self.precision} has no int8 inputs and outputs: its activations are not int8",
                "--precision int8, or leave inputs and outputs as they are",
            )
        if not self.calibrated and (self.symmetric or self.ranges != "min-max"):
            asked = "symmetric activations" if self.symmetric else f"ranges by {self.ranges}"
            return f"{self.precision} calibrates no activations, so there are no {asked}", "--precision int8"
        if self.rounding == "fitted" and (self.precision not in FITTED or not self.per_channel):
            return (
                f"weights of {self.precision}{'' if self.per_channel else ' with one scale a tensor'} are not fitted",
                "--precision int8 or int8-weights, with a scale for each channel",
            )
        if self.weights_only and not self.calibrated:
            return f"{self.precision} has no int8 activations that layers could go without", "--precision int8"
        if self.precision in ("float32", "float16") and not self.per_channel:
            return f"{self.precision} has no scales, so there is none a tensor", "--precision int8"
        return None

    @property
    def name(self) -> str:
        """For people: `int8`, `int8 percentile fitted, 3 layers int8 weights, 2 layers float32`."""
        words = [self.precision]
        if self.calibrated and self.ranges != "min-max":
            words.append(self.ranges)
        if self.rounding != "nearest":
            words.append(self.rounding)
        if not self.per_channel:
            words.append("per-tensor")
        if self.symmetric and self.precision == "int8":
            words.append("symmetric")
        if self.endpoints != "default":
            words.append(f"{self.endpoints} in and out")
        parts = [" ".join(words)]
        if self.weights_only:
            parts.append(f"{_layers(self.weights_only)} int8 weights")
        if self.keep:
            parts.append(f"{_layers(self.keep)} float32")
        return ", ".join(parts)

    def encode(self) -> dict[str, Any]:
        """To what `json.dumps` takes.

        What is as by default is left out: a setting that is added later moves no recipe's hash.
        """
        given = {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}
        usual = {k: [] if isinstance(v, tuple) else v for k, v in dataclasses.asdict(Scheme(self.precision)).items()}
        return {key: value for key, value in given.items() if key == "precision" or value != usual[key]}

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Scheme:
        """From what `encode` gave. Raises UsageError."""
        given: dict[str, Any] = {k: tuple(map(str, v)) if k in ("keep", "weights_only") else v for k, v in data.items()}
        try:
            return cls(**given)
        except TypeError as error:
            raise UsageError(f"not a scheme: {error}") from error


def _layers(names: tuple[str, ...]) -> str:
    return f"{len(names)} layer{'s' * (len(names) > 1)}"
