"""What a device believes: verifies a release with TUF, in a short-lived child of the supervisor.

Rules this module keeps:

* python-tuf's Updater works on a copy of the trusted metadata. The copy becomes the trusted one, durably and in one
  step, only after every check passed. Any refusal leaves the old one as it was.
* Nothing is downloaded: metadata comes from `incoming/`, where `rpc` staged it, read strictly and bounded.
* Every file a device needs must be named by the signed metadata, with the length and hash that the blob on disk has.
  A blob that differs is removed, so that it can be sent again.
* The time comes from `clock`, never from python-tuf's own reading of it.
* The only third-party import of the agent is here, and inside functions: nothing else of it costs memory.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from edgeship.runtime import disk as disks
from edgeship.runtime.clock import TrustState, choose_clock, load_state
from edgeship.runtime.errors import AgentError, ProtocolError, TrustError
from edgeship.runtime.layout import Layout
from edgeship.runtime.manifest import FileRef, Manifest
from edgeship.runtime.wire import MAX_JSON, MAX_METADATA, check_name, check_sha256, parse_object

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile
    from tuf.ngclient import Updater

_METADATA_NAME = re.compile(r"(?:[1-9][0-9]{0,8}\.)?[A-Za-z0-9][A-Za-z0-9_-]{0,63}\.json")


def check_metadata_name(name: Any) -> str:
    """A plain metadata file name as the TUF specification makes them. Raises ProtocolError."""
    if not isinstance(name, str) or not _METADATA_NAME.fullmatch(name):
        raise ProtocolError(f"not the name of a metadata file: {name!r:.80}")
    return name


def check_target(path: Any) -> str:
    """The model's name in a manifest's target path `<model>/manifest.json`. Raises ProtocolError."""
    model, slash, rest = path.partition("/") if isinstance(path, str) else ("", "", "")
    if not slash or rest != "manifest.json":
        raise ProtocolError(f"not the target path of a manifest: {path!r:.80}")
    return check_name(model, "model")


# ── enrolment ────────────────────────────────────────────────────────────────────────────────────────────────────────


def check_root(raw: bytes) -> None:
    """Whether bytes are root metadata that signs itself. Raises TrustError."""
    from tuf.api.metadata import Metadata, Root

    with _mapped():
        parse_object(raw, limit=MAX_METADATA)
        root = Metadata[Root].from_bytes(raw)
        if not isinstance(root.signed, Root):
            raise TrustError("the root metadata is of another role")
        root.signed.verify_delegate("root", root.signed_bytes, root.signatures)


def knows_root(layout: Layout, raw: bytes) -> bool:
    """Whether bytes are the pinned root or a later one of the same chain that was verified here."""
    history = os.path.join(layout.metadata, "root_history")
    known = [layout.trusted_root]
    if os.path.isdir(history):
        known += [os.path.join(history, name) for name in sorted(os.listdir(history))]
    return any(disks.read(path, MAX_METADATA) == raw for path in known)


# ── verification ─────────────────────────────────────────────────────────────────────────────────────────────────────


def verify(
    layout: Layout, disk: disks.Disk, target: str, sha256: str, *,
    profile: str, arch: str, wall: float, host_clock: float | None,
) -> dict[str, Any]:  # fmt: skip
    """Verify the staged release and make its metadata the trusted one.

    Args:
        layout: the agent's folder.
        disk: the one writer.
        target: TUF target path of the manifest, `<model>/manifest.json`.
        sha256: of the manifest, as the host says; must be what is signed.
        profile: of this device; chooses the variant.
        arch: of this device; chooses the runtime library.
        wall: this device's clock, seconds since 1970.
        host_clock: the host's, if it told.

    Returns:
        {"model", "counter", "sha256", "variant", "library", "clock_corrected"}.

    Raises:
        TrustError: code "untrusted", "replayed" or "expired".
        AgentError: "not-enrolled", "not-found" (a file was not sent), "unfit" (no variant, no library).
    """
    model = check_target(target)
    check_sha256(sha256)
    root = disks.read(layout.trusted_root, MAX_METADATA)
    if root is None:
        raise AgentError("this device has no trusted root yet: enrol it first", "not-enrolled")
    state = load_state(layout)
    clock = choose_clock(wall, state.floor, host_clock)
    work = _copy(layout, disk)
    updater, fetched = _updater(layout, work, root, clock.now)
    with _mapped(fetched):
        updater.refresh()
        signed = updater.get_targetinfo(target)
    custom = signed.custom if signed is not None and isinstance(signed.custom, dict) else {}
    manifest = _manifest(layout, disk, signed, target, sha256)
    if manifest.model != model or custom.get("counter") != manifest.counter:
        raise TrustError(f"{target}: name or counter is not what is signed for it")
    variant = manifest.variant_for(profile)
    if variant is None or profile not in custom.get("profiles", ()):
        raise AgentError(f"release {manifest.counter} of {model} has no variant for profile {profile}", "unfit")
    library = variant.runtime_for(arch)
    if library is None:
        raise AgentError(f"release {manifest.counter} of {model} carries no runtime library for {arch}", "unfit")
    for file in variant.files_for(arch):
        with _mapped(fetched):
            info = updater.get_targetinfo(f"blobs/{file.sha256}")
        _check_blob(layout, disk, info, file)
    expires = _first_expiry(updater)
    _commit(layout, disk, work, TrustState(max(state.floor, min(clock.now, _seconds(manifest.created))), expires))
    return {
        "model": model, "counter": manifest.counter, "sha256": sha256, "variant": variant.encode(),
        "library": library.file.sha256, "clock_corrected": clock.corrected,
    }  # fmt: skip


def _copy(layout: Layout, disk: disks.Disk) -> str:
    """A fresh directory with the trusted metadata in it; whatever an earlier check left is removed."""
    folder = layout.path("trust")
    trusted = os.path.realpath(layout.metadata)
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if name.startswith("metadata-") and path != trusted:
            disk.remove(path)
    number = int(trusted.rpartition("-")[2]) + 1 if re.fullmatch(r"metadata-\d+", os.path.basename(trusted)) else 1
    work = os.path.join(folder, f"metadata-{number}")
    disk.mkdir(work)
    if os.path.isdir(trusted):
        shutil.copytree(trusted, work, symlinks=True, dirs_exist_ok=True)
    return work


def _updater(layout: Layout, work: str, root: bytes, now: float) -> tuple[Updater, list[str]]:
    """An Updater over the staged metadata, and the list of names it asked for, last one last."""
    from tuf.api.exceptions import DownloadHTTPError
    from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

    asked: list[str] = []

    class Staged(FetcherInterface):
        """Reads `incoming/`: what is not there is an HTTP 404 to python-tuf."""

        def _fetch(self, url: str) -> Iterator[bytes]:
            name = check_metadata_name(url.rpartition("/")[2])
            asked.append(name)
            raw = disks.read(layout.path("incoming", name), MAX_METADATA)
            if raw is None:
                raise DownloadHTTPError(f"{name} was not sent", 404)
            parse_object(raw, limit=MAX_METADATA)
            return iter((raw,))

    with _mapped():
        updater = Updater(
            work, "staged:/", fetcher=Staged(), config=UpdaterConfig(prefix_targets_with_hash=False), bootstrap=root
        )
    # python-tuf takes no clock; a test fails when this attribute moves.
    updater._trusted_set.reference_time = datetime.fromtimestamp(now, timezone.utc)  # noqa: SLF001
    return updater, asked


def _first_expiry(updater: Updater) -> float:
    trusted = updater._trusted_set  # noqa: SLF001  the Updater shows none of its roles
    roles = (trusted.root, trusted.timestamp, trusted.snapshot, trusted.targets)
    return min(float(role.expires.timestamp()) for role in roles)


def _manifest(layout: Layout, disk: disks.Disk, signed: TargetFile | None, target: str, sha256: str) -> Manifest:
    if signed is None:
        raise TrustError(f"{target} is not in the signed metadata")
    if signed.hashes.get("sha256") != sha256:
        raise TrustError(f"{target}: another manifest is signed than the one asked for")
    _check_blob(layout, disk, signed, FileRef(sha256, signed.length))
    raw = disks.read(layout.blob(sha256), MAX_JSON)
    try:
        return Manifest.parse(parse_object(raw or b""))
    except ProtocolError as error:
        raise TrustError(f"{target}: {error}") from error


def _check_blob(layout: Layout, disk: disks.Disk, info: TargetFile | None, file: FileRef) -> None:
    """A blob must be signed for, and be on the disk as it is signed."""
    if info is None or info.hashes.get("sha256") != file.sha256 or info.length != file.bytes:
        raise TrustError(f"blob {file.sha256[:12]} is not in the signed metadata as the manifest names it")
    path = layout.blob(file.sha256)
    found = disks.hash_file(path)
    if found is None:
        raise AgentError(f"blob {file.sha256[:12]} was not sent", "not-found")
    if found != (file.sha256, file.bytes):
        disk.remove(path)
        raise TrustError(f"blob {file.sha256[:12]} on the device is damaged; it was removed, push again")


def _commit(layout: Layout, disk: disks.Disk, work: str, state: TrustState) -> None:
    disk.sync_tree(work)
    disk.link(os.path.basename(work), layout.metadata)
    disk.write(layout.trust_state, json.dumps({"floor": state.floor, "expires": state.expires}).encode())


def _seconds(created: str) -> float:
    """Seconds since 1970 of an RFC 3339 time in UTC; 0 for what is none, which raises no floor."""
    try:
        return datetime.strptime(created, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc).timestamp()
    except ValueError:
        return 0.0


@contextmanager
def _mapped(asked: list[str] | None = None) -> Iterator[None]:
    """python-tuf's errors as ours: expired, replayed (a version of timestamp or snapshot goes back), untrusted."""
    from securesystemslib.exceptions import Error as SignatureError
    from tuf.api.exceptions import BadVersionNumberError, DownloadError, ExpiredMetadataError, RepositoryError

    last = asked[-1] if asked else ""
    try:
        yield
    except ExpiredMetadataError as error:
        raise TrustError(f"the release's metadata has expired: {error}", "expired") from error
    except BadVersionNumberError as error:
        last = asked[-1] if asked else last
        mixed = str(error).startswith("Expected snapshot version")  # not what the timestamp names: no going back
        back = last == "timestamp.json" or (last.endswith(".snapshot.json") and not mixed)
        raise TrustError(f"{last or 'metadata'}: {error}", "replayed" if back else "untrusted") from error
    except (RepositoryError, DownloadError, SignatureError, ProtocolError, ValueError, RecursionError) as error:
        cause = error.__cause__ if isinstance(error, DownloadError) and error.__cause__ else error
        last = asked[-1] if asked else last
        raise TrustError(f"{last or 'root.json'}: {cause}") from error


# ── the child process ────────────────────────────────────────────────────────────────────────────────────────────────


def main(layout: Layout, disk: disks.Disk, request: bytes) -> bytes:
    """Answer one request of the supervisor: {"target", "sha256", "profile", "arch", "host_clock"} as JSON.

    Returns:
        {"ok": result} or {"error": {"code", "message"}} as JSON.
    """
    try:
        data = parse_object(request)
        result = verify(
            layout, disk, data.get("target", ""), data.get("sha256", ""),
            profile=check_name(data.get("profile"), "profile"),
            arch=check_name(data.get("arch"), "arch"), wall=time.time(), host_clock=data.get("host_clock"),
        )  # fmt: skip
        return json.dumps({"ok": result}).encode()
    except AgentError as error:
        return json.dumps({"error": {"code": error.code, "message": str(error)}}).encode()
    except OSError as error:  # python-tuf's own writes into the copy
        mapped = disks.disk_error(error, "write", layout.path("trust"))
        return json.dumps({"error": {"code": mapped.code, "message": str(mapped)}}).encode()
