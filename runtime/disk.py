"""The only writer of the agent: every change of a disk goes through one object, and becomes durable or fails by name.

Rules this module keeps:

* A file appears whole under its name or not at all: temporary name beside it (O_EXCL, O_NOFOLLOW), fsync, rename,
  fsync of the directory.
* Links, FIFOs and hard links found where a file is about to be written are removed, never followed or written through.
* An OSError becomes a DiskError with the code "disk-full" or "disk-error" and the name of what was done to what.
* `Disk.step` is called before each single change. It does nothing; tests put kills and errors there.

Reading lies here too, since it has the same enemies: only regular files, never through a link, bounded.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator

from edgeship.runtime.errors import DiskError

CHUNK = 1 << 18
TEMPORARY = ".new-"  # prefix of names that a crash may leave behind

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PLAIN = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # O_NONBLOCK: a FIFO must not hang us


def disk_error(error: OSError, action: str, path: str) -> DiskError:
    """An OSError as the error that crosses the wire."""
    full = error.errno in _FULL
    text = "no room on the device" if full else (error.strerror or str(error))
    return DiskError(f"{action} {path}: {text}", "disk-full" if full else "disk-error")


class Disk:
    """Changes files durably. All paths are absolute and below the agent's folder (the boot hook excepted)."""

    def step(self, action: str, path: str) -> None:
        """Called before each change: create, write, sync, rename, link, unlink, mkdir, rmdir, truncate, chmod."""

    @contextlib.contextmanager
    def _change(self, action: str, path: str) -> Iterator[None]:
        try:
            self.step(action, path)
            yield
        except OSError as error:
            raise disk_error(error, action, path) from error

    # ── whole files ──────────────────────────────────────────────────────────────────────────────────────────────────

    def write(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        """Replace or make a file with these bytes."""
        with self.staged(path, mode=mode) as write:
            write(data)

    @contextlib.contextmanager
    def staged(self, path: str, *, mode: int = 0o600) -> Iterator[Callable[[bytes], None]]:
        """A file that appears under its name when the block ends well, and leaves nothing behind when it raises."""
        folder, name = os.path.split(path)
        temporary = os.path.join(folder, TEMPORARY + name)
        self.remove(temporary)
        with self._change("create", temporary):
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _PLAIN, mode)
        try:
            try:
                yield lambda data: self._fill(fd, data, temporary)
                self._sync(fd, temporary)
            finally:
                os.close(fd)
            self.rename(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    def _fill(self, fd: int, data: bytes, path: str) -> None:
        with self._change("write", path):
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]

    def _sync(self, fd: int, path: str) -> None:
        with self._change("sync", path):
            os.fsync(fd)

    # ── growing files ────────────────────────────────────────────────────────────────────────────────────────────────

    def append(self, path: str, data: bytes, *, sync: bool = True) -> None:
        """Add bytes to a file; with `sync` they are on the disk afterwards. A failure takes them back."""
        fd, size = self._open_to_grow(path)
        try:
            try:
                self._fill(fd, data, path)
                if sync:
                    self._sync(fd, path)
            except DiskError:
                with contextlib.suppress(OSError):
                    os.ftruncate(fd, size)
                raise
        finally:
            os.close(fd)
        if sync and not size:
            self.sync_folder(os.path.dirname(path))

    @contextlib.contextmanager
    def growing(self, path: str, offset: int) -> Iterator[Callable[[bytes], None]]:
        """Add bytes to a file from `offset` on; what lies behind is cut off. Not durable: a hash will be checked.

        Raises:
            DiskError: the file is shorter than `offset`.
        """
        fd, size = self._open_to_grow(path)
        try:
            if size < offset:
                raise DiskError(f"{path} has {size} bytes, cannot go on at {offset}")
            if size > offset:
                with self._change("truncate", path):
                    os.ftruncate(fd, offset)
            yield lambda data: self._fill(fd, data, path)
        finally:
            os.close(fd)

    def _open_to_grow(self, path: str) -> tuple[int, int]:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | _PLAIN
        with self._change("create", path):
            with contextlib.suppress(FileNotFoundError):
                found = os.lstat(path)
                if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
                    self.remove(path)
            fd = os.open(path, flags, 0o600)
            return fd, os.fstat(fd).st_size

    def truncate(self, path: str, size: int) -> None:
        """Cut a file, durably."""
        with self._change("truncate", path):
            fd = os.open(path, os.O_WRONLY | _PLAIN)
            try:
                os.ftruncate(fd, size)
                os.fsync(fd)
            finally:
                os.close(fd)

    # ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def adopt(self, source: str, path: str, *, mode: int = 0o600) -> None:
        """Make a received file durable under its final name."""
        with self._change("chmod", source):
            fd = os.open(source, os.O_RDONLY | _PLAIN)
        try:
            with self._change("chmod", source):
                os.fchmod(fd, mode)
            self._sync(fd, source)
        finally:
            os.close(fd)
        self.rename(source, path)

    def rename(self, source: str, path: str) -> None:
        """Replace `path` by `source`, in one directory or two, durably."""
        with self._change("rename", path):
            if os.path.isdir(path) and not os.path.islink(path):
                raise IsADirectoryError(errno.EISDIR, "a directory is in the way")
            os.replace(source, path)
        for folder in sorted({os.path.dirname(source), os.path.dirname(path)}):
            self.sync_folder(folder)

    def link(self, target: str, path: str) -> None:
        """Make `path` a symbolic link to `target`, replacing what it was in one step."""
        folder, name = os.path.split(path)
        temporary = os.path.join(folder, TEMPORARY + name)
        self.remove(temporary)
        with self._change("link", temporary):
            os.symlink(target, temporary)
        self.rename(temporary, path)

    def remove(self, path: str) -> None:
        """Remove a file, a link or a whole directory, never following a link; nothing there is fine."""
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise disk_error(error, "look at", path) from error
        if not stat.S_ISDIR(found.st_mode):
            with self._change("unlink", path), contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            return
        for name in sorted(os.listdir(path)):
            self.remove(os.path.join(path, name))
        with self._change("rmdir", path):
            os.rmdir(path)

    def mkdir(self, path: str, *, mode: int = 0o700) -> None:
        """Make a directory of ours, parents too; one that is there must be a directory and ours.

        Raises:
            DiskError: something else lies there, or it belongs to somebody else.
        """
        parent = os.path.dirname(path)
        if parent != path and not os.path.isdir(parent):
            self.mkdir(parent, mode=mode)
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            with self._change("mkdir", path), contextlib.suppress(FileExistsError):
                os.mkdir(path, mode)
            self.sync_folder(parent)
            found = os.lstat(path)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise DiskError(f"{path} is not a directory of ours; move it away")

    def sync_folder(self, path: str) -> None:
        """Make the names in a directory durable."""
        with self._change("sync", path):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def sync_tree(self, path: str) -> None:
        """Make a directory that somebody else filled durable: every file, every directory in it, itself."""
        for entry in sorted(os.listdir(path)):
            full = os.path.join(path, entry)
            mode = os.lstat(full).st_mode
            if stat.S_ISDIR(mode):
                self.sync_tree(full)
            elif stat.S_ISREG(mode):
                with self._change("sync", full):
                    fd = os.open(full, os.O_RDONLY | _PLAIN)
                    try:
                        os.fsync(fd)
                    finally:
                        os.close(fd)
        self.sync_folder(path)

    def lock(self, path: str, *, seconds: float = 0.0) -> int | None:
        """Take an exclusive lock: a descriptor to close when done, or None when another process holds it."""
        import fcntl
        import time

        with self._change("create", path):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | _PLAIN, 0o600)
        end = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return fd
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    os.close(fd)
                    raise disk_error(error, "lock", path) from error
            if time.monotonic() >= end:
                os.close(fd)
                return None
            time.sleep(0.05)


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def open_plain(path: str) -> int | None:
    """A descriptor of a regular file to read, None where there is nothing. Raises DiskError for links, FIFOs, …."""
    try:
        fd = os.open(path, os.O_RDONLY | _PLAIN)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise disk_error(error, "read", path) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise DiskError(f"read {path}: not a regular file")
    return fd


def chunks(path: str) -> Iterator[bytes]:
    """The bytes of a regular file in pieces; nothing when it is not there."""
    fd = open_plain(path)
    if fd is None:
        return
    try:
        while data := os.read(fd, CHUNK):
            yield data
    except OSError as error:
        raise disk_error(error, "read", path) from error
    finally:
        os.close(fd)


def read(path: str, limit: int = 1 << 20) -> bytes | None:
    """A regular file, None where there is nothing. Raises DiskError when it is longer than `limit` bytes."""
    fd = open_plain(path)
    if fd is None:
        return None
    os.close(fd)
    out = bytearray()
    for data in chunks(path):
        out += data
        if len(out) > limit:
            raise DiskError(f"read {path}: longer than {limit} bytes")
    return bytes(out)


def hash_file(path: str) -> tuple[str, int] | None:
    """(sha256 in hexadecimal, bytes) of a regular file, None where there is nothing."""
    import hashlib

    fd = open_plain(path)
    if fd is None:
        return None
    os.close(fd)
    digest, size = hashlib.sha256(), 0
    for data in chunks(path):
        digest.update(data)
        size += len(data)
    return digest.hexdigest(), size
