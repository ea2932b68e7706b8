"""The environments that `edgeship setup` makes, for tests of what runs in them.

They are made once a machine, in a cache of the tests' own; with `CI=true` by the first test that asks, which downloads
up to 150 MB. Outside of CI a test is skipped where its environment is not there; it says how to make it.
"""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs
import pytest

from edgeship import environments
from edgeship.reporter import Reporter

#: Taken before any test turns XDG_CACHE_HOME elsewhere.
HOME = Path(platformdirs.user_cache_dir("edgeship")) / "tests"


def use(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, edgeship finds this environment."""
    monkeypatch.setenv("XDG_DATA_HOME", str(HOME))
    if os.environ.get("CI") == "true":
        environments.setup(name, reporter=Reporter())
    elif (reason := environments.missing(name)) is not None:
        pytest.skip(f"{reason} (XDG_DATA_HOME={HOME})")
