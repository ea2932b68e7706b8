"""A TUF repository in memory: an attack is one line of state change, then `publish`.

repo = SimulatedRepository()
release = repo.add(variant, {sha256: bytes, …})     # a manifest of one variant, and its files
repo.publish()
repo.metadata                                       # {"1.root.json": b"…", "timestamp.json": b"…", …}: what to stage
repo.blobs                                          # {sha256: bytes}
repo.root_bytes                                     # what enrolment pins

repo.timestamp.expires = long_ago                   # an attack; then repo.publish(bump=False)
repo.keys["snapshot"] = [CryptoSigner.generate_ed25519()]   # signs with a key that root does not know
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from edgeship.runtime.manifest import Manifest, VariantRef

ROLES = ("root", "timestamp", "snapshot", "targets")


@dataclass(frozen=True)
class SimulatedRelease:
    """A release as a push names it."""

    manifest: Manifest
    sha256: str

    @property
    def target(self) -> str:
        """TUF target path of the manifest."""
        return f"{self.manifest.model}/manifest.json"


class SimulatedRepository:
    """State of four roles and their keys. Change anything, then `publish`."""

    def __init__(self, threshold: int = 1, keys: int = 1) -> None:
        expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
        self.root = Root(expires=expires, consistent_snapshot=True)
        self.timestamp, self.snapshot = Timestamp(expires=expires), Snapshot(expires=expires)
        self.targets = Targets(expires=expires)
        self.keys: dict[str, list[CryptoSigner]] = {}
        self.metadata: dict[str, bytes] = {}
        self.blobs: dict[str, bytes] = {}
        for role in ROLES:
            self.keys[role] = [CryptoSigner.generate_ed25519() for _ in range(keys)]
            for signer in self.keys[role]:
                self.root.add_key(signer.public_key, role)
            self.root.roles[role].threshold = threshold
        for signed in (self.timestamp, self.snapshot, self.targets):
            signed.version = 0
        self.publish_root()
        self.publish()

    @property
    def root_bytes(self) -> bytes:
        """The first root metadata."""
        return self.metadata["1.root.json"]

    def sign(self, signed: Root | Timestamp | Snapshot | Targets, role: str) -> bytes:
        """Metadata of one role as bytes, signed with `keys[role]`."""
        metadata: Metadata[Any] = Metadata(copy.deepcopy(signed))
        for signer in self.keys[role]:
            metadata.sign(signer, append=True)
        return metadata.to_bytes(JSONSerializer(compact=True))

    def publish_root(self, *, extra: Sequence[CryptoSigner] = ()) -> None:
        """Sign the root as it is, with the keys of its role and those given (the former ones, in a rotation)."""
        metadata = Metadata(copy.deepcopy(self.root))
        for signer in [*self.keys["root"], *extra]:
            metadata.sign(signer, append=True)
        self.metadata[f"{self.root.version}.root.json"] = metadata.to_bytes(JSONSerializer(compact=True))

    def publish(self, *, bump: bool = True) -> None:
        """Sign targets, snapshot and timestamp anew; with `bump` each gets its next version, with its meta set."""
        if bump:
            for signed in (self.targets, self.snapshot, self.timestamp):
                signed.version += 1
            self.snapshot.meta["targets.json"] = MetaFile(self.targets.version)
            self.timestamp.snapshot_meta = MetaFile(self.snapshot.version)
        self.metadata[f"{self.targets.version}.targets.json"] = self.sign(self.targets, "targets")
        self.metadata[f"{self.snapshot.version}.snapshot.json"] = self.sign(self.snapshot, "snapshot")
        self.metadata["timestamp.json"] = self.sign(self.timestamp, "timestamp")

    def add(
        self, variant: VariantRef, files: Mapping[str, bytes], *, counter: int = 1, model: str = "digits",
        created: str = "2026-01-01T00:00:00Z",
    ) -> SimulatedRelease:  # fmt: skip
        """Put a release of one variant and its files (sha256 -> bytes) into the targets; `publish` signs it."""
        return self.add_manifest(Manifest(model, counter, created, (variant,)), files)

    def add_manifest(self, manifest: Manifest, files: Mapping[str, bytes]) -> SimulatedRelease:
        """The same for any manifest."""
        body = manifest.canonical()
        sha256 = hashlib.sha256(body).hexdigest()
        release = SimulatedRelease(manifest, sha256)
        for digest, content in {**files, sha256: body}.items():
            self.blobs[digest] = content
            self._target(f"blobs/{digest}", digest, len(content))
        signed = self._target(release.target, sha256, len(body))
        profiles = sorted({profile for variant in manifest.variants for profile in variant.profiles})
        signed.unrecognized_fields["custom"] = {"counter": manifest.counter, "profiles": profiles}
        return release

    def _target(self, path: str, sha256: str, size: int) -> TargetFile:
        self.targets.targets[path] = TargetFile(size, {"sha256": sha256}, path)
        return self.targets.targets[path]

    def stage(self, root: Path) -> None:
        """Put everything where a device's `rpc` would have staged it."""
        for name, content in self.metadata.items():
            (root / "incoming" / name).write_bytes(content)
        for digest, content in self.blobs.items():
            path = root / "blobs" / digest
            path.unlink(missing_ok=True)
            path.write_bytes(content)
