"""Runs the steps of `edgeship.targets.child` in this process: frameworks are imported once, not once a step.

For tests of what steps do. What the child is for (limits, crashes, quiet) is tested with real children.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from edgeship.errors import ConversionError, EdgeshipError
from edgeship.targets import child


def patch(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, steps run here."""
    monkeypatch.setattr(child, "run", run)


def run(
    step: str, request: Mapping[str, Any], folder: Path, *, limits: child.Limits, subject: str,
    failure: type[EdgeshipError] = ConversionError,
) -> dict[str, Any]:  # fmt: skip
    """As `child.run`, with its errors."""
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # a child's warnings and prints go to its log
            result = importlib.import_module(step).perform(json.loads(json.dumps(dict(request))), folder)
    except EdgeshipError as error:
        raise type(error)(f"{subject}: {error}", hint=error.hint) from error
    except Exception as error:
        raise failure(f"{subject}: {step}: {type(error).__name__}: {error}") from error
    decoded: dict[str, Any] = json.loads(json.dumps(result))
    return decoded
