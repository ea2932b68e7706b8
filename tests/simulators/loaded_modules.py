"""A step of `child` that prepares an ONNX model and writes which top-level modules that loaded."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeship.targets.onnx import prepare


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """As `prepare.perform`; writes `modules` into the folder too."""
    facts = prepare.perform(request, folder)
    (folder / "modules").write_text("\n".join(sorted({name.partition(".")[0] for name in sys.modules})))
    return facts
