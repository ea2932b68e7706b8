"""Verify a repository as a stranger would: with python-tuf's own client, from the first root on.

What passes here is what a device can verify; blobs are hashed again, and files that nothing signed refers to are named.
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
    total = 0
    for path, target in sorted(targets.targets.items()):
        sha = target.hashes.get("sha256", "")
        total += target.length
        if path.endswith("/manifest.json"):
            releases[path.removesuffix("/manifest.json")] = int((target.custom or {}).get("counter", 0))
        blob = folder / "blobs" / sha
        if not blob.is_file():
            problems.append(f"{path} is missing")
        elif sha256_of(blob) != (sha, target.length):
            problems.append(f"{path} is damaged: its bytes are not the signed ones")
    return Report(len(targets.targets), total, releases, tuple(problems))
