"""Where a command keeps conversions: in the project, else in a folder that goes when the command ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def conversions() -> Iterator[Path]:
    """The project's cache of variants, or a temporary one where there is no project."""
    from edgeship import config, scratch

    if config.find() is not None:
        yield config.load().state / "variants"
        return
    with scratch.folder("edgeship-model-") as folder:
        yield folder
