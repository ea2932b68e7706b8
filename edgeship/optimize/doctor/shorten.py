"""The Keras layer that a conversion fails on: TensorFlow shortens the model, and again where a conversion kills it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeship.dataset import Dataset
from edgeship.errors import EdgeshipError
from edgeship.model import ModelFacts
from edgeship.optimize.doctor.bisect import LimitReachedError
from edgeship.optimize.doctor.trial import Clock
from edgeship.targets import child, feed

_STEP = "edgeship.targets.keras.truncate"
MOST_CRASHES = 8  # TensorFlow is started again after each: a search over 256 layers


@dataclass(frozen=True)
class Truncated:
    """The first layer with which the conversion fails."""

    layer: str
    kind: str  # class of the layer
    attributes: Mapping[str, str]
    alone: bool  # it fails by itself
    before: int  # layers before it
    files: tuple[Path, ...]  # the layer as a model of its own, and samples for it


def truncated(facts: ModelFacts, format: str, data: Dataset | None, place: Path, clock: Clock) -> Truncated | None:  # noqa: A002
    """Find it.

    Args:
        facts: a Keras source.
        format: that it cannot be converted to.
        data: a few samples, for the saved layer.
        place: folder for what is made.
        clock: counts the starts of TensorFlow.

    Returns:
        None where no beginning of the model fails, or the trials ran out.
    """
    low, high = 0, -1
    for number in range(MOST_CRASHES):
        work = place / str(number)
        work.mkdir()
        request = {
            "path": str(facts.path.resolve()), "format": format, "low": low, "high": high,
            "samples": None if data is None else feed.write(data, work),
        }  # fmt: skip
        try:
            clock.tick()
            found = child.run(_STEP, request, work, limits=child.CONVERT, subject=str(facts.path))
        except LimitReachedError:
            return None
        except EdgeshipError:
            progress = work / "progress.json"
            if not progress.is_file():
                return None
            at = json.loads(progress.read_text(encoding="utf-8"))
            if at["found"] is not None:  # the layer kills it by itself
                return _truncated({**at["found"], "alone": True}, work)
            if at["trying"] == high:
                return None
            low, high = int(at["low"]), int(at["trying"])  # the conversion of this beginning killed it
            continue
        return None if found["layer"] is None else _truncated(found, work)
    return None


def _truncated(found: Mapping[str, Any], work: Path) -> Truncated:
    attributes = {str(key): str(value) for key, value in found["attributes"].items()}
    files = tuple(path for path in (work / "part.keras", work / "part.npz") if path.is_file())
    return Truncated(
        str(found["layer"]), str(found["class"]), attributes, bool(found["alone"]), int(found["before"]), files
    )


def copied(files: tuple[Path, ...], output: Path) -> tuple[Path, ...]:
    """Copies in the output folder."""
    output.mkdir(parents=True, exist_ok=True)
    out = []
    for path in files:
        shutil.copyfile(path, output / path.name)
        out.append(output / path.name)
    return tuple(out)
