"""Builds the agent's zipapp: one file that any Python 3.10 or later can run, equal bytes for equal inputs.

It holds an empty `edgeship/__init__.py`, `edgeship/runtime/`, a `__main__.py` of three lines, and tuf, securesystemslib
and urllib3 without their test data. So module names are the same on host and device. Nothing of a fleet is in it: trust
arrives at enrolment.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import io
import os
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from edgeship.errors import MissingExtra, ReleaseError

THIRD_PARTY = ("tuf", "securesystemslib", "urllib3")
#: Left out: tests and their data, editors' files, and what only a repository or a browser uses.
_SKIPPED_FOLDERS = {"__pycache__", "test_data", "tests", "repository", "emscripten"}
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can say

#: The link `agent/current` may move while an old process still imports from it: the file itself is what stays.
MAIN = """\
import os, sys
sys.path[0] = os.path.realpath(sys.path[0])
from edgeship.runtime.__main__ import main; sys.exit(main())
"""


def build(cache: Path | None = None) -> bytes:
    """The zipapp of this installation as bytes, made when there is none for these inputs yet.

    Args:
        cache: folder for the result; the user's cache folder when None.

    Raises:
        MissingExtra: tuf, securesystemslib or urllib3 is not installed.
        ReleaseError: the cache cannot be written.
    """
    members = sorted(_members())
    digest = hashlib.sha256()
    for name, content in members:
        digest.update(f"{len(name)} {len(content)} {name}\n".encode() + content)
    folder = cache or Path(platformdirs.user_cache_dir("edgeship")) / "agent"
    path = folder / f"{digest.hexdigest()[:32]}.pyz"
    if path.is_file():
        return path.read_bytes()
    data = _zip(members)
    _store(path, data)
    return data


def _members() -> Iterator[tuple[str, bytes]]:
    yield "__main__.py", MAIN.encode()
    yield "edgeship/__init__.py", b""
    for package in ("edgeship.runtime", *THIRD_PARTY):
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise MissingExtra(package, "all")
        yield from _sources(Path(next(iter(spec.submodule_search_locations))), package.replace(".", "/"))
    for package in THIRD_PARTY:
        for file in importlib.metadata.files(package) or ():
            if file.name.upper().startswith(("LICENSE", "COPYING", "NOTICE")) and ".dist-info/" in file.as_posix():
                yield f"licenses/{package}/{file.name}", file.read_binary()


def _sources(base: Path, prefix: str) -> Iterator[tuple[str, bytes]]:
    """The Python files of a package. A folder without `__init__.py` gets an empty one: zip files know no other way."""
    files = {
        file.relative_to(base): file.read_bytes()
        for file in base.rglob("*.py")
        if not _SKIPPED_FOLDERS.intersection(file.relative_to(base).parts) and not file.name.startswith("test_")
    }
    for folder in {file.parent for file in files}:
        files.setdefault(folder / "__init__.py", b"")
    for file, content in files.items():
        yield f"{prefix}/{file.as_posix()}", content


def _zip(members: list[tuple[str, bytes]]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type, info.create_system, info.external_attr = zipfile.ZIP_DEFLATED, 3, 0o644 << 16
            archive.writestr(info, content, compresslevel=9)
    return out.getvalue()


def _store(path: Path, data: bytes) -> None:
    """Write whole or not at all; two builds at once give the same file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd, temporary = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(fd)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ReleaseError(
            f"cannot write the agent to {path}: {error.strerror}", hint="is the cache folder writable?"
        ) from error
