"""The TUF repository of a project: signed metadata and content-addressed blobs in a folder of the host.

Rules it keeps:

* `timestamp.json` is the commit: it is replaced last, so a crash at any point leaves the state before or after. What an
  interrupted publish left behind is never referred to and is overwritten by the next one.
* Nothing is signed again that does not verify: a changed file in the folder stops a publish.
* The release counter rises over the whole repository and is never used twice.
* Snapshot and timestamp are signed anew by every publish and every `refresh`; root and targets once half their life
  has passed.

    metadata/{N.root,N.targets,N.snapshot,timestamp}.json     blobs/<sha256>     packed/<sha256>.xz     lock
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.exceptions import StorageError
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Role, Root, Signed, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization import DeserializationError

from edgeship.errors import ReleaseError
from edgeship.release import durable
from edgeship.release.keys import ROLES, KeySet
from edgeship.runtime.errors import ProtocolError
from edgeship.runtime.manifest import FileRef, Manifest
from edgeship.runtime.wire import MAX_NAME, check_name, check_sha256, parse_object

#: How long a signature of each role holds. Root and targets are renewed at half of it, the others at every push: a
#: device that was offline for weeks takes part again as soon as somebody pushes to it.
LIFETIME = {
    "root": timedelta(days=730), "targets": timedelta(days=365),
    "snapshot": timedelta(days=30), "timestamp": timedelta(days=7),
}  # fmt: skip
HISTORY = 20  # releases of a model that stay within reach of a rollback
TRIAL = "__trial__"  # end of a trial's name, and of no project's (`config.NAME`); see `trial_of`
_ROOT_NAME = re.compile(r"([1-9][0-9]{0,5})\.root\.json")


def trial_of(project: str) -> str:
    """The name under which candidates are signed to be timed on a device; only the last one stays."""
    return project[: MAX_NAME - len(TRIAL)] + TRIAL


@dataclass(frozen=True)
class File:
    """One file to publish: where it is now, and what it must be."""

    path: Path
    ref: FileRef


@dataclass(frozen=True)
class Entry:
    """The current release of a model, as the signed metadata says."""

    model: str
    counter: int
    manifest_sha256: str
    profiles: tuple[str, ...]
    history: tuple[tuple[int, str], ...]  # (counter, sha256 of the manifest), newest first, the current one included


@dataclass(frozen=True)
class State:
    """One verified state of the metadata; never changed in place."""

    root: Metadata[Root]
    targets: Metadata[Targets]
    snapshot: Metadata[Snapshot]
    timestamp: Metadata[Timestamp]


def target_path(model: str) -> str:
    """TUF target path of a model's manifest."""
    return f"{check_name(model, 'model')}/manifest.json"


def utc_now() -> datetime:
    """The time that signatures are dated with."""
    return datetime.now(UTC).replace(microsecond=0)


class Repository:
    """Releases of one project. Safe to use from several processes: writers hold `lock`."""

    def __init__(self, folder: Path, keys: KeySet, now: Callable[[], datetime] = utc_now) -> None:
        """Use `init` or `open`."""
        self.folder, self.keys, self._now = folder, keys, now

    @classmethod
    def init(cls, folder: Path, keys: KeySet, *, now: Callable[[], datetime] = utc_now) -> Repository:
        """Make an empty repository whose root trusts `keys`.

        Raises:
            ReleaseError: there is one already.
        """
        self = cls(folder, keys, now)
        with durable.exclusive(folder / "lock"):
            if exists(folder):
                raise ReleaseError(f"{folder} holds releases already", hint="keep it, or choose another folder")
            for name in ("metadata", "blobs", "packed"):
                (folder / name).mkdir(parents=True, exist_ok=True)
            root = Root(expires=self._expiry("root"), consistent_snapshot=True)
            root.roles = {role: Role([], 1) for role in ROLES}
            for role in ROLES:
                root.add_key(keys.signers[role].public_key, role)
            state = State(Metadata(root), Metadata(Targets(expires=self._expiry("targets"))),
                          Metadata(Snapshot()), Metadata(Timestamp()))  # fmt: skip
            self._write("1.targets.json", self._sign(state.targets))
            self._commit(state, snapshot_version=1, timestamp_version=1)
            self._write("1.root.json", self._sign(state.root))  # last: with it the repository exists
        return self

    @classmethod
    def open(cls, folder: Path, keys: KeySet, *, now: Callable[[], datetime] = utc_now) -> Repository:
        """Open a repository and verify its metadata against `keys`.

        Raises:
            ReleaseError: there is none, it was changed or damaged, or it belongs to other keys.
        """
        if not exists(folder):
            raise ReleaseError(f"no releases in {folder}", hint="edgeship init")
        self = cls(folder, keys, now)
        self._state()
        return self

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def root_bytes(self) -> bytes:
        """The first root: what a device trusts from its first contact on (later roots come through TUF's chain)."""
        return self._read("1.root.json")

    def metadata(self) -> list[tuple[str, bytes]]:
        """The current metadata as (file name, bytes), in the order a device may take it: roots first."""
        state = self._state()
        roots = [(f"{n}.root.json", self._read(f"{n}.root.json")) for n in range(2, state.root.signed.version + 1)]
        names = (f"{state.targets.signed.version}.targets.json", f"{state.snapshot.signed.version}.snapshot.json",
                 "timestamp.json")  # fmt: skip
        return roots + [(name, self._read(name)) for name in names]

    def blob(self, sha256: str) -> Path:
        """Path of a published file.

        Raises:
            ReleaseError: it is not there.
        """
        path = self.folder / "blobs" / check_sha256(sha256)
        if not path.is_file():
            raise ReleaseError(f"the release folder lacks blob {sha256[:12]}", hint="edgeship release verify")
        return path

    def packed(self) -> Path:
        """Folder of the compressed copies that transfers cache."""
        return self.folder / "packed"

    def models(self) -> dict[str, Entry]:
        """Current release of each model; trials are none."""
        out = {}
        for path, target in self._state().targets.signed.targets.items():
            if path.endswith("/manifest.json") and not path.endswith(f"{TRIAL}/manifest.json"):
                entry = _entry(path, target)
                out[entry.model] = entry
        return out

    def manifest(self, model: str, counter: int | None = None) -> tuple[Manifest, str]:
        """A model's manifest and its hash: the current one, or an earlier one by its counter.

        Raises:
            ReleaseError: no such model or release, or its file is damaged.
        """
        entry = self.models().get(model)
        if entry is None:
            raise ReleaseError(f"nothing of model {model!r} was released here", hint="edgeship push MODEL")
        wanted = entry.counter if counter is None else counter
        sha = dict(entry.history).get(wanted)
        if sha is None:
            known = ", ".join(str(n) for n, _ in entry.history)
            raise ReleaseError(f"model {model!r} has no release {wanted}", hint=f"releases within reach: {known}")
        raw = self.blob(sha).read_bytes()
        if durable.sha256_of(self.blob(sha))[0] != sha:
            raise ReleaseError(f"the manifest of release {wanted} is damaged", hint="edgeship release verify")
        try:
            return Manifest.parse(parse_object(raw)), sha
        except ProtocolError as error:
            raise ReleaseError(f"the manifest of release {wanted} cannot be read: {error}") from error

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def publish(
        self, model: str, build: Callable[[int], Manifest], files: Iterable[File]
    ) -> tuple[Manifest, str]:  # fmt: skip
        """Publish the next release of `model` and sign it.

        Args:
            model: name of the model.
            build: makes the manifest for the counter it is given.
            files: everything the manifest refers to, and what else travels with the release.

        Returns:
            The manifest and the sha256 of its bytes.

        Raises:
            ReleaseError: a file is not what it should be, or the repository was changed by somebody else.
        """
        with durable.exclusive(self.folder / "lock"):
            state = self._state()
            old = state.targets.signed.targets
            counter = 1 + max((_entry(p, t).counter for p, t in old.items() if p.endswith("/manifest.json")), default=0)
            manifest = build(counter)
            if manifest.counter != counter or manifest.model != model:
                raise ReleaseError("the manifest is not for the counter and the model that it was asked for")
            raw = manifest.canonical()
            sha = self._add_bytes(raw)
            published = {}
            for file in files:
                self._add(file)
                published[f"blobs/{file.ref.sha256}"] = file.ref
            missing = {f"blobs/{ref.sha256}" for ref in references(manifest)} - published.keys()
            if missing:
                raise ReleaseError(f"the manifest refers to files that are not published: {', '.join(sorted(missing))}")

            targets = self._next_targets(state.targets.signed, manifest, sha, len(raw), published)
            self._write(f"{targets.signed.version}.targets.json", self._sign(targets))
            self._commit(State(self._renewed_root(state.root), targets, state.snapshot, state.timestamp))
            return manifest, sha

    def refresh(self) -> None:
        """Sign snapshot and timestamp anew (and root and targets once half their life has passed).

        Raises:
            ReleaseError: the metadata was changed by somebody else.
        """
        with durable.exclusive(self.folder / "lock"):
            state = self._state()
            targets = state.targets
            if self._is_old(targets.signed):
                copied = Targets.from_dict(targets.signed.to_dict())
                copied.version += 1
                copied.expires = self._expiry("targets")
                targets = Metadata(copied)
                self._write(f"{copied.version}.targets.json", self._sign(targets))
            self._commit(State(self._renewed_root(state.root), targets, state.snapshot, state.timestamp))

    def _next_targets(
        self, old: Targets, manifest: Manifest, sha: str, length: int, published: Mapping[str, FileRef]
    ) -> Metadata[Targets]:  # fmt: skip
        """Targets with this release in the place of the model's last one; files of other models stay signed."""
        path = target_path(manifest.model)
        previous = old.targets.get(path)
        earlier = _entry(path, previous).history if previous else ()
        history = [[manifest.counter, sha], *(list(pair) for pair in earlier)]
        custom = {
            "counter": manifest.counter,
            "profiles": sorted({p for v in manifest.variants for p in v.profiles}),
            "history": history[: 1 if manifest.model.endswith(TRIAL) else HISTORY],
        }
        entries = {path: _target(path, sha, length, custom)}
        for other, target in old.targets.items():
            if other.endswith("/manifest.json") and other != path:
                entries[other] = target
                kept, _ = self._parse_blob(target.hashes["sha256"])
                for ref in references(kept):
                    entries[f"blobs/{ref.sha256}"] = _target(f"blobs/{ref.sha256}", ref.sha256, ref.bytes)
        for name, ref in published.items():
            entries[name] = _target(name, ref.sha256, ref.bytes)
        return Metadata(Targets(version=old.version + 1, expires=self._expiry("targets"), targets=entries))

    def _parse_blob(self, sha: str) -> tuple[Manifest, bytes]:
        raw = self.blob(sha).read_bytes()
        return Manifest.parse(parse_object(raw)), raw

    def _add(self, file: File) -> None:
        path = self.folder / "blobs" / check_sha256(file.ref.sha256)
        if path.is_file() and durable.sha256_of(path) == (file.ref.sha256, file.ref.bytes):
            return
        try:
            durable.copy(file.path, path, file.ref.sha256)
        except OSError as error:
            raise ReleaseError(f"cannot publish {file.path}: {error.strerror or error}") from error
        if path.stat().st_size != file.ref.bytes:
            path.unlink()
            raise ReleaseError(f"{file.path} is not of the length that the manifest says")

    def _add_bytes(self, raw: bytes) -> str:
        sha = hashlib.sha256(raw).hexdigest()
        durable.write(self.folder / "blobs" / sha, raw, mode=0o444)
        return sha

    def _renewed_root(self, root: Metadata[Root]) -> Metadata[Root]:
        if not self._is_old(root.signed):
            return root
        copied = Root.from_dict(root.signed.to_dict())
        copied.version += 1
        copied.expires = self._expiry("root")
        renewed = Metadata(copied)
        self._write(f"{copied.version}.root.json", self._sign(renewed))
        return renewed

    def _commit(
        self, state: State, *, snapshot_version: int | None = None, timestamp_version: int | None = None
    ) -> None:  # fmt: skip
        """Write snapshot and timestamp for these targets. The last rename makes it the state of the repository."""
        version = snapshot_version or state.snapshot.signed.version + 1
        snapshot = Metadata(
            Snapshot(version=version, expires=self._expiry("snapshot"),
                     meta={"targets.json": MetaFile(state.targets.signed.version)})
        )  # fmt: skip
        raw = self._sign(snapshot)
        self._write(f"{version}.snapshot.json", raw)
        meta = MetaFile.from_data(version, raw, ["sha256"])
        number = timestamp_version or state.timestamp.signed.version + 1
        timestamp = Metadata(Timestamp(version=number, expires=self._expiry("timestamp"), snapshot_meta=meta))
        self._write("timestamp.json", self._sign(timestamp))

    # ── state ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _state(self) -> State:
        """Read and verify (signatures, versions; not expiry: refreshing expired metadata is what the host is for)."""
        try:
            names = [path.name for path in (self.folder / "metadata").iterdir()]
            roots = sorted(int(found[1]) for found in map(_ROOT_NAME.fullmatch, names) if found)
            if not roots:
                raise ReleaseError(f"{self.folder} has no root metadata", hint="restore it from your backup")
            root = Metadata[Root].from_bytes(self._read(f"{roots[-1]}.root.json"))
            self._check_keys(root.signed)
            root.signed.verify_delegate("root", root.signed_bytes, root.signatures)
            timestamp = Metadata[Timestamp].from_bytes(self._read("timestamp.json"))
            root.signed.verify_delegate("timestamp", timestamp.signed_bytes, timestamp.signatures)
            raw = self._read(f"{timestamp.signed.snapshot_meta.version}.snapshot.json")
            timestamp.signed.snapshot_meta.verify_length_and_hashes(raw)
            snapshot = Metadata[Snapshot].from_bytes(raw)
            root.signed.verify_delegate("snapshot", snapshot.signed_bytes, snapshot.signatures)
            version = snapshot.signed.meta["targets.json"].version
            targets = Metadata[Targets].from_bytes(self._read(f"{version}.targets.json"))
            root.signed.verify_delegate("targets", targets.signed_bytes, targets.signatures)
            if targets.signed.version != version:
                raise ReleaseError(f"{version}.targets.json says it is version {targets.signed.version}")
            return State(root, targets, snapshot, timestamp)
        except (RepositoryError, DeserializationError, StorageError, OSError, KeyError) as error:
            raise ReleaseError(
                f"the release metadata in {self.folder} does not verify: {error}",
                hint="somebody changed it, or the disk did: restore the folder from your backup",
            ) from error

    def _check_keys(self, root: Root) -> None:
        for role in ROLES:
            if self.keys.signers[role].public_key.keyid not in root.roles[role].keyids:
                raise ReleaseError(
                    f"the releases in {self.folder} belong to other keys than {self.keys.folder}",
                    hint="point [fleet] keys of edgeship.toml at the keys that made them",
                )

    def _is_old(self, signed: Signed) -> bool:
        return signed.expires - self._now() < LIFETIME[signed.type] / 2

    def _expiry(self, role: str) -> datetime:
        return self._now() + LIFETIME[role]

    def _sign(self, metadata: Metadata[Any]) -> bytes:
        metadata.signatures.clear()
        metadata.sign(self.keys.signers[metadata.signed.type])
        return metadata.to_bytes()

    def _write(self, name: str, raw: bytes) -> None:
        durable.write(self.folder / "metadata" / name, raw)

    def _read(self, name: str) -> bytes:
        return (self.folder / "metadata" / name).read_bytes()


def exists(folder: Path) -> bool:
    """Whether `folder` holds a repository."""
    return (folder / "metadata" / "1.root.json").is_file()


def references(manifest: Manifest) -> list[FileRef]:
    """Every file that a manifest refers to, once."""
    refs: dict[str, FileRef] = {}
    for variant in manifest.variants:
        for ref in (variant.file, variant.golden.file, variant.recipe, *(r.file for r in variant.runtimes)):
            refs[ref.sha256] = ref
    return list(refs.values())


def _target(path: str, sha256: str, length: int, custom: Mapping[str, Any] | None = None) -> TargetFile:
    fields = {"custom": dict(custom)} if custom is not None else None
    return TargetFile(length, {"sha256": sha256}, path, fields)


def _entry(path: str, target: TargetFile) -> Entry:
    custom = target.custom or {}
    try:
        history = tuple((int(counter), check_sha256(sha)) for counter, sha in custom["history"])
        return Entry(path.removesuffix("/manifest.json"), int(custom["counter"]), target.hashes["sha256"],
                     tuple(custom["profiles"]), history)  # fmt: skip
    except (KeyError, TypeError, ValueError, ProtocolError) as error:
        raise ReleaseError(f"the signed entry {path} cannot be read: {error!r}") from error
