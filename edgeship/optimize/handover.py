"""Files for the user's own folder: each appears there whole or not at all, whatever was there before."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from edgeship.errors import ConversionError


def put(path: Path, make: Callable[[Path], object]) -> None:
    """Have `make` write a file beside its place, and rename it.

    Raises:
        OSError: it cannot be written; nothing is left of it.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        make(temporary)
        os.fsync(handle)
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        os.close(handle)
        temporary.unlink(missing_ok=True)


def copy(file: Path, output: Path) -> None:
    """A copy of a file. Raises ConversionError."""
    try:
        put(output, lambda path: shutil.copyfile(file, path))
    except OSError as error:
        raise ConversionError(
            f"{output}: cannot be written: {error.strerror or error}",
            hint="is there room, and may you write there? Else another --output",
        ) from error
