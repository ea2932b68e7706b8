"""Durable writes on the host: what a crash or a power cut must not tear.

A file is written under a temporary name in its own folder, flushed to the disk, renamed over the old one, and the
folder is flushed too; a reader sees the old file or the new one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from edgeship.errors import ReleaseError

CHUNK = 1 << 20


def write(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Put `data` at `path`, whole or not at all. `mode` holds from the first byte on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            _flush(file)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def copy(source: Path, path: Path, sha256: str) -> None:
    """Copy `source` to `path` durably and read-only, hashing on the way.

    Raises:
        ReleaseError: the copied bytes do not have the hash `sha256`; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    digest = hashlib.sha256()
    try:
        with source.open("rb") as read, temporary.open("xb") as file:
            while chunk := read.read(CHUNK):
                digest.update(chunk)
                file.write(chunk)
            _flush(file)
        if digest.hexdigest() != sha256:
            raise ReleaseError(f"{source} changed while it was being released", hint="run the push again")
        os.chmod(temporary, 0o444)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _flush(file: BinaryIO) -> None:
    file.flush()  # Python's own buffer first, or the disk is told to keep an empty file
    os.fsync(file.fileno())


def sha256_of(path: Path) -> tuple[str, int]:
    """Hash and length of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
        return digest.hexdigest(), file.tell()


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; waits for another process of this host that holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
