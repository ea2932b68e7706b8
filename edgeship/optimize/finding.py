"""The step that finds a user's metric and reads its parameters, before anything is built that it is to judge."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeship.optimize import scoring


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:  # noqa: ARG001 - every step is given one
    """Import the module and look at the function; it is not called.

    Args:
        request: "folder" to look for the module in, "path": the parent's `sys.path`, "cwd", "module", "function".
        folder: not used.

    Returns:
        {"parameters": those of `scoring.PARAMETERS` that it takes}.

    Raises:
        UsageError: no such module or function, or it takes other arguments.
        InputError: importing it raised.
    """
    sys.path[:] = [request["folder"], *request["path"], *sys.path]
    os.chdir(request["cwd"])
    return {"parameters": list(scoring.asked_for(scoring.find(request["module"], request["function"])))}
