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

BY = "fit/2"  # raised when what the steps find changes


def step() -> dict[str, Any]:
    """As a recipe has it."""
    return {"do": "fit", "weights": "to what layers read", "by": BY}


def fitted(start: Variant, data: Dataset, subject: str) -> Path:
    """The folder that `rounding.load` reads.

    Args:
        start: the float32 variant of the format.
        data: representative inputs, as `base.calibration_of` draws them.
        subject: what it is done for, for errors.

    Raises:
        ConversionError: the model cannot be run.
    """

    def fit(place: Path) -> Mapping[str, Any]:
        with child.workspace() as work:
            made = Made(
                f"edgeship.targets.{start.format}.fit", {"path": str(start.path.resolve())}, data, work, child.CONVERT
            )
            facts = made.run(subject)
            for name in rounding.FILES:
                shutil.copyfile(work / name, place / name)
        return facts

    key = cache.key_of(BY, start.format, start.sha256, data.inputs_sha256, versions_of(QUANTIZERS[start.format]))
    return cache.keep(start.cache, key, fit).folder
