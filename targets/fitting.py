"""The fitted weights of a float variant over data: found once, in a step of its own, and kept by content."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeship.dataset import Dataset
from edgeship.targets import cache, child, rounding
from edgeship.targets.base import QUANTIZERS, Variant, versions_of
from edgeship.targets.build import Made
from edgeship.targets.scheme import Scheme

BY = "fit/3"  # raised when what the steps find changes


def step() -> dict[str, Any]:
    """As a recipe has it."""
    return {"do": "fit", "weights": "to what layers read", "by": BY}


def levels(scheme: Scheme) -> int:
    """That activations are rounded to; 0 where they stay in float."""
    return {"int8": 1 << 8, "int16x8": 1 << 16}.get(scheme.precision, 0)


def fitted(start: Variant, scheme: Scheme, data: Dataset, subject: str) -> Path:
    """The folder that `rounding.load` reads.

    Args:
        start: the float32 variant of the format.
        scheme: says how what the layers read is rounded.
        data: representative inputs, as `base.calibration_of` draws them.
        subject: what it is done for, for errors.

    Raises:
        ConversionError: the model cannot be run.
    """

    def fit(place: Path) -> Mapping[str, Any]:
        with child.workspace() as work:
            made = Made(
                f"edgeship.targets.{start.format}.fit",
                {"path": str(start.path.resolve()), "levels": levels(scheme)}, data, work, child.CONVERT,
            )  # fmt: skip
            facts = made.run(subject)
            for name in rounding.FILES:
                shutil.copyfile(work / name, place / name)
        return facts

    tools = versions_of(QUANTIZERS[start.format])
    key = cache.key_of(BY, start.format, start.sha256, levels(scheme), data.inputs_sha256, tools)
    return cache.keep(start.cache, key, fit).folder
