"""Temporary folders that nothing is left of: not after an error, not after Ctrl-C, and not for long after `kill -9`.

A folder is locked while its maker lives; the system lets go of the lock however the maker ends. Whoever makes the next
one beside it removes those that nobody holds any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

#: Seconds: a folder that is younger may not be locked yet.
YOUNG = 60.0


@contextlib.contextmanager
def folder(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """A new folder, removed at the end of the block unless it was renamed by then.

    Args:
        prefix: of its name; what others of the same prefix left behind is removed.
        parent: where it is made; the system's temporary folder by default.

    Raises:
        OSError: it cannot be made.
    """
    beside = Path(tempfile.gettempdir()) if parent is None else parent
    sweep(prefix, beside)
    path = Path(tempfile.mkdtemp(prefix=prefix, dir=beside))
    handle = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks: nothing will be swept there either
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(handle)


def sweep(prefix: str, parent: Path, young: float = YOUNG) -> None:
    """Remove the folders of this prefix that are one's own, older than `young` seconds, and held by nobody."""
    try:
        with os.scandir(parent) as entries:
            found = [entry.path for entry in entries if entry.name.startswith(prefix) and _is_old(entry, young)]
    except OSError:
        return
    for path in found:
        with contextlib.suppress(OSError):  # somebody holds it, or was faster
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(handle)


def _is_old(entry: os.DirEntry[str], young: float) -> bool:
    try:
        facts = entry.stat(follow_symlinks=False)
    except OSError:
        return False
    return entry.is_dir(follow_symlinks=False) and facts.st_uid == os.geteuid() and facts.st_mtime < time.time() - young
