"""Verify a repository as a stranger would: with python-tuf's own client, from the first root on.

What passes here is what a device can verify; every file of the current releases and of those within reach of a rollback
is hashed again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tuf.api.exceptions import DownloadError, DownloadHTTPError, RepositoryError
from tuf.api.metadata import Metadata, Targets
from tuf.ngclient import FetcherInterface, Updater

from edgeship.release.durable import sha256_of
from edgeship.release.repository import references
from edgeship.runtime.errors import ProtocolError
from edgeship.runtime.manifest import Manifest
from edgeship.runtime.wire import parse_object


@dataclass(frozen=True)
class Report:
    """What a verification found. It holds when there are no problems."""

    targets: int  # signed files
    bytes: int  # of them
    releases: dict[str, int]  # model -> counter
    problems: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether everything verifies."""
        return not self.problems


class _FolderFetcher(FetcherInterface):
    """Reads `metadata/` where a client would download."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = self._folder / Path(unquote(urlsplit(url).path)).name
        if not path.is_file():
            raise DownloadHTTPError(f"{path.name} is missing", 404)
        yield path.read_bytes()


def verify(folder: Path) -> Report:
    """Verify the repository in `folder`; never raises for what it finds, reports it."""
    metadata = folder / "metadata"
    try:
        root = (metadata / "1.root.json").read_bytes()
        with tempfile.TemporaryDirectory(prefix="edgeship-verify-") as scratch:
            updater = Updater(scratch, "https://repository.invalid/", fetcher=_FolderFetcher(metadata), bootstrap=root)
            updater.refresh()
            targets = Metadata[Targets].from_file(str(Path(scratch) / "targets.json")).signed
    except (RepositoryError, DownloadError, OSError) as error:
        return Report(0, 0, {}, (f"the signed metadata does not verify: {error}",))
    problems = []
    releases = {}
    earlier: dict[str, str] = {}  # sha256 -> what it is
    total = 0
    for path, target in sorted(targets.targets.items()):
        sha = target.hashes.get("sha256", "")
        total += target.length
        if path.endswith("/manifest.json"):
            model, custom = path.removesuffix("/manifest.json"), target.custom or {}
            releases[model] = int(custom.get("counter", 0))
            earlier |= {digest: f"{model} release {counter}" for counter, digest in custom.get("history", ())}
        if wrong := _wrong(folder / "blobs" / sha, sha, target.length):
            problems.append(f"{path} {wrong}")
    signed = {target.hashes.get("sha256", "") for target in targets.targets.values()}
    for sha, release in earlier.items():
        problems += _earlier(folder / "blobs", sha, release, signed)
    return Report(len(targets.targets), total, releases, tuple(problems))


def _wrong(blob: Path, sha: str, length: int | None) -> str | None:
    """What is wrong with a file; length None: any."""
    if not blob.is_file():
        return "is missing"
    found, size = sha256_of(blob)
    if found != sha or length not in (None, size):
        return "is damaged: its bytes are not the signed ones"
    return None


def _earlier(blobs: Path, sha: str, release: str, seen: set[str]) -> Iterator[str]:
    """What is wrong with a release that a rollback may bring back; `seen` files were or will be named elsewhere."""
    if sha in seen:
        return
    seen.add(sha)
    if wrong := _wrong(blobs / sha, sha, None):
        yield f"the manifest of {release} {wrong}"
        return
    try:
        files = references(Manifest.parse(parse_object((blobs / sha).read_bytes())))
    except ProtocolError as error:
        yield f"the manifest of {release} cannot be read: {error}"
        return
    for ref in files:
        if ref.sha256 not in seen and (wrong := _wrong(blobs / ref.sha256, ref.sha256, ref.bytes)):
            yield f"blobs/{ref.sha256} of {release} {wrong}"
        seen.add(ref.sha256)
