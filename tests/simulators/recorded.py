"""Steps that were performed once, in a child with everything else of their kind, and are played back.

TensorFlow is started once for many cases: `record` keeps what a step writes and returns, or raises, in a folder; in a
test `played` is a stand-in for `child.run` that gives it again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgeship.errors import ConversionError, EdgeshipError
from edgeship.targets import child

_OUTCOME = "outcome.json"


def record(perform: Callable[..., dict[str, Any]], request: Mapping[str, Any], folder: Path) -> None:
    """Perform a step in a folder, and note what came of it."""
    try:
        found = perform(request, folder)
    except EdgeshipError as error:
        found = {"kind": type(error).__name__, "error": str(error), "hint": error.hint}
    (folder / _OUTCOME).write_text(json.dumps(found))


def outcome(folder: Path) -> dict[str, Any]:
    """The facts that the step returned, or {"kind", "error", "hint"}."""
    found: dict[str, Any] = json.loads((folder / _OUTCOME).read_text())
    return found


def played(folder: Path, step: str) -> Callable[..., dict[str, Any]]:
    """What `child.run` would do with this step; other steps run in a real child."""
    real = child.run

    def run(asked: str, request: Mapping[str, Any], work: Path, *, subject: str, **more: Any) -> dict[str, Any]:
        if asked != step:
            return real(asked, request, work, subject=subject, **more)
        shutil.copytree(folder, work, dirs_exist_ok=True)
        found = outcome(folder)
        if "error" in found:
            raise ConversionError(f"{subject}: {found['error']}", hint=found["hint"])
        return found

    return run
