"""The step that calls a user's metric once, with the source's own answers: what is wrong with it is known at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeship.optimize.scoring import First


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Call it.

    Args:
        request: as `scoring.perform`.
        folder: likewise; "given" arrays are not looked at.

    Returns:
        {"kind": "scores" or "numbers", "seconds": that the call took, "calls": that judge a variant}.

    Raises:
        As `scoring.First.call`.
    """
    first = First.call(request, folder)
    return {"kind": "scores" if first.scores.ndim else "numbers", "seconds": first.seconds, "calls": first.calls}
