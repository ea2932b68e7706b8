"""Keeps what was built under the hash of what decides it: the same thing is not made twice, nor kept half made.

An entry is a folder `<folder>/<key>` with its files and `entry.json`, which holds their sha256. It is written beside
its place, made durable, and renamed; files that do not match `entry.json` any more are made again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeship import scratch
from edgeship.errors import ConversionError
from edgeship.runtime.errors import ProtocolError
from edgeship.runtime.wire import need, parse_object

_ENTRY = "entry.json"
_MAKING = ".making-"
_MAX_ENTRY = 16 << 20
_SCARCE = (errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE)
_WRITE = (
    "is there room on that disk, and may you write there? Outside a project, XDG_CACHE_HOME names another folder for it"
)


@dataclass(frozen=True)
class Entry:
    """What is kept: `folder / name` for each file, and the facts that its maker returned."""

    folder: Path
    files: Mapping[str, str]  # name -> sha256
    facts: Mapping[str, Any]
    cached: bool  # it was there already

    def path(self, name: str) -> Path:
        """Of one of its files."""
        return self.folder / name


def key_of(*parts: Any) -> str:
    """Hexadecimal digest of JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, allow_nan=False).encode()).hexdigest()


def lookup(folder: Path, key: str) -> Entry | None:
    """The entry of a key, or None where there is none or a file of it was changed."""
    place = folder / key
    try:
        data = parse_object((place / _ENTRY).read_bytes(), limit=_MAX_ENTRY)
        files, facts = need(data, "files", dict), need(data, "facts", dict)
    except (OSError, ProtocolError):
        return None
    if any(_sha256(place / name) != sha for name, sha in files.items()):
        return None
    return Entry(place, files, facts, cached=True)


def keep(folder: Path, key: str, make: Callable[[Path], Mapping[str, Any]]) -> Entry:
    """The entry of a key; made by `make` where there is none.

    Args:
        folder: of all entries; it is created.
        key: hexadecimal, names the entry.
        make: writes files into the folder that it is given, and returns facts (JSON). What it raises passes through,
            and nothing is kept.

    Raises:
        ConversionError: the folder cannot be written, or the system refused `make` something: it is named.
    """
    if (found := lookup(folder, key)) is not None:
        return found
    place = folder / key
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with scratch.folder(_MAKING, folder) as temporary:
            facts = dict(make(temporary))
            files = {path.name: _sha256(path) for path in sorted(temporary.iterdir()) if path.is_file()}
            entry = json.dumps({"files": files, "facts": facts}, allow_nan=False)
            (temporary / _ENTRY).write_text(entry, encoding="utf-8")
            for path in temporary.iterdir():
                _sync(path)
            _sync(temporary)
            temporary.chmod(0o755)
            _put(temporary, place)
            _sync(folder)
    except OSError as error:
        raise _told(error, folder) from error
    return Entry(place, files, facts, cached=False)


def _told(error: OSError, folder: Path) -> ConversionError:
    """What the system refused: often the disk; else memory or a process, or a file that has nothing to do with it."""
    if error.errno in _SCARCE:
        return ConversionError(
            f"what belongs in {folder} could not be made: {_why(error)}",
            hint="the machine is short of memory, processes or open files: close something, or use fewer --jobs",
        )
    if (file := _elsewhere(error, folder)) is not None:
        return ConversionError(f"{file}: {_why(error)}", hint="is it there still, and may you read it?")
    where, hint = _where(error, folder)
    return ConversionError(f"{where}: cannot be written: {_why(error)}", hint=hint)


def _elsewhere(error: OSError, folder: Path) -> Path | None:
    """The file that an error names, where it lies neither in the folder nor among the temporary ones."""
    if not isinstance(error.filename, str) or _is_full(error):
        return None
    file = Path(error.filename)
    mine = folder.is_relative_to(file) or any(file.is_relative_to(place) for place in (folder, tempfile.gettempdir()))
    return None if mine else file


def _where(error: OSError, folder: Path) -> tuple[Path, str]:
    """Which folder is meant, and what to do: what makes a thing writes temporary files too, and a full disk no name."""
    temporary = Path(tempfile.gettempdir())
    if _is_full(error) and _room(temporary) < _room(folder):
        return temporary, "free some room there, or let TMPDIR name a folder on another disk"
    return folder, _WRITE


def _room(folder: Path) -> int:
    """Bytes that are free on the disk of a folder."""
    try:
        facts = os.statvfs(folder)
    except OSError:
        return 0
    return facts.f_bavail * facts.f_frsize


def _is_full(error: OSError) -> bool:
    """Numpy says of a full disk how many numbers it wrote, without the system's code."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT) or (error.errno is None and "requested and" in str(error))


def _why(error: OSError) -> str:
    return os.strerror(errno.ENOSPC) if error.errno is None and _is_full(error) else error.strerror or str(error)


def _put(temporary: Path, place: Path) -> None:
    """Rename into place; somebody who was faster made the same, a damaged entry gives way."""
    for _ in range(3):
        try:
            temporary.rename(place)
            return
        except OSError:
            if not place.exists():
                raise
            if lookup(place.parent, place.name) is not None:
                return
            shutil.rmtree(place, ignore_errors=True)
    raise OSError(17, "an entry is in the way", str(place))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
