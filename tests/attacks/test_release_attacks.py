"""Attacks on a release: whoever holds a device's SSH key, or sits on the way, stages something that was never signed.

Each case is one change of what lies staged on a device that serves release 1 and is offered release 2. It must be
refused with the code that is named, the trusted metadata must stay as it was, and the honest release 2 must be taken
afterwards. `install` is what the supervisor does: verify, then the rules of slots.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root
from tuf.api.serialization.json import JSONSerializer

from edgeship.runtime import slots, trust
from edgeship.runtime.disk import Disk
from edgeship.runtime.errors import AgentError, ProtocolError
from edgeship.runtime.layout import Layout
from edgeship.runtime.manifest import FileRef, Golden, Manifest, RuntimeRef, TensorSpec, VariantRef
from edgeship.runtime.slots import Journal
from tests.simulators.repository import SimulatedRelease, SimulatedRepository

PROFILE, ARCH = "raspberry-pi-5", "aarch64"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
SPEC = TensorSpec("x", "float32", (1, 4))


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Stage:
    """The device, the honest repository, and what is offered: release 2."""

    layout: Layout
    repo: SimulatedRepository
    files: dict[str, bytes]  # model, golden, library of release 2
    release: SimulatedRelease
    old: dict[str, bytes]  # the metadata of release 1
    journal: Journal = field(default_factory=Journal)
    target: str = "digits/manifest.json"
    sha256: str = ""
    profile: str = PROFILE
    arch: str = ARCH

    def incoming(self, name: str) -> Path:
        return Path(self.layout.path("incoming", name))

    def blob(self, what: str) -> Path:
        return Path(self.layout.blob(self.release.sha256 if what == "manifest" else sha(self.files[what])))

    def rewrite(self, path: Path, change: Callable[[bytes], bytes]) -> None:
        path.write_bytes(change(path.read_bytes()))

    def current(self, role: str) -> str:
        """File name of a role's newest metadata."""
        version = {"targets": self.repo.targets, "snapshot": self.repo.snapshot}.get(role)
        return f"{role}.json" if version is None else f"{version.version}.{role}.json"

    def restage(self) -> None:
        """Stage what the repository says now."""
        self.repo.stage(Path(self.layout.root))

    def install(self) -> Journal:
        """Verify the offer and take it, as the supervisor does; gives the journal afterwards."""
        found = trust.verify(
            self.layout, Disk(), self.target, self.sha256, profile=self.profile, arch=self.arch, wall=time.time(),
            host_clock=time.time(),
        )  # fmt: skip
        counter, digest = found["counter"], found["sha256"]
        if not slots.admit(self.journal, counter, digest, "boot"):
            return self.journal
        return slots.commit(slots.begin(self.journal, counter, digest, "boot"))


def variant(files: dict[str, bytes], profile: str = PROFILE) -> VariantRef:
    refs = {name: FileRef(sha(data), len(data)) for name, data in files.items()}
    return VariantRef(
        (profile,), "tflite", "int8", refs["model"], (RuntimeRef("litert-2.3.0", ARCH, refs["library"]),),
        FileRef("0" * 64, 2), (SPEC,), (SPEC,), Golden(refs["golden"], 1, 0.1, 0.9),
    )  # fmt: skip


def contents(number: int) -> dict[str, bytes]:
    return {"model": b"model %d" % number * 50, "golden": b"golden %d" % number, "library": b"library" * 300}


def by_hash(files: dict[str, bytes]) -> dict[str, bytes]:
    return {sha(data): data for data in files.values()}


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """Release 1 is good, release 2 is staged, honest as yet."""
    layout = Layout.of(str(tmp_path / "device"))
    for folder in layout.folders:
        Disk().mkdir(folder)
    repo = SimulatedRepository()
    Disk().write(layout.trusted_root, repo.root_bytes)
    found = Stage(layout, repo, contents(1), SimulatedRelease(Manifest("digits", 1, "", ()), ""), {})
    for number in (1, 2):
        found.files = contents(number)
        found.release = repo.add(variant(found.files), by_hash(found.files), counter=number)
        repo.publish()
        found.sha256 = found.release.sha256
        found.restage()
        if number == 1:
            found.journal = found.install()
            found.old = dict(repo.metadata)
    return found


# ── the attacks ──────────────────────────────────────────────────────────────────────────────────────────────────────

ATTACKS: dict[str, tuple[Callable[[Stage], None], str]] = {}


def attack(name: str, code: str) -> Callable[[Callable[[Stage], None]], Callable[[Stage], None]]:
    """Put a function into the table: it changes the stage; the device must answer with `code`."""

    def put(change: Callable[[Stage], None]) -> Callable[[Stage], None]:
        assert name not in ATTACKS
        ATTACKS[name] = (change, code)
        return change

    return put


def flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def in_signature(data: bytes) -> bytes:
    at = data.index(b'"sig":"') + 20
    return data[:at] + (b"0" if data[at : at + 1] != b"0" else b"1") + data[at + 1 :]


BLOB_CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "flipped byte in": flip, "truncated": lambda d: d[:-1], "extended": lambda d: d + b"\0", "empty": lambda _: b"",
}  # fmt: skip

for _what in ("model", "golden", "library", "manifest"):
    for _how, _change in BLOB_CHANGES.items():

        @attack(f"{_how} {_what}", "untrusted")
        def _blob(stage: Stage, what: str = _what, change: Callable[[bytes], bytes] = _change) -> None:
            stage.rewrite(stage.blob(what), change)

    @attack(f"missing {_what}", "not-found")
    def _missing_blob(stage: Stage, what: str = _what) -> None:
        stage.blob(what).unlink()

    @attack(f"{_what} is a link to the right bytes elsewhere", "disk-error")
    def _link(stage: Stage, what: str = _what) -> None:
        path = stage.blob(what)
        elsewhere = path.with_name("elsewhere")
        path.rename(elsewhere)
        path.symlink_to(elsewhere)

    @attack(f"{_what} is a pipe", "disk-error")
    def _pipe(stage: Stage, what: str = _what) -> None:
        stage.blob(what).unlink()
        os.mkfifo(stage.blob(what))

    @attack(f"{_what} is a folder", "disk-error")
    def _folder(stage: Stage, what: str = _what) -> None:
        stage.blob(what).unlink()
        stage.blob(what).mkdir()


for _first, _second in (("model", "golden"), ("model", "library"), ("golden", "manifest")):

    @attack(f"{_first} and {_second} swapped", "untrusted")
    def _swap(stage: Stage, first: str = _first, second: str = _second) -> None:
        a, b = stage.blob(first).read_bytes(), stage.blob(second).read_bytes()
        stage.blob(first).write_bytes(b)
        stage.blob(second).write_bytes(a)


@attack("model of the old release under the name of the new", "untrusted")
def _old_model(stage: Stage) -> None:
    stage.blob("model").write_bytes(contents(1)["model"])


METADATA_CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "flipped signature of": in_signature,
    "changed bytes of": lambda d: d.replace(b'"version":', b'"version": ', 1).replace(b"2026", b"2036").replace(
        b'"spec_version":"1.0', b'"spec_version":"1.9', 1
    ),
    "truncated": lambda d: d[:-2],
    "empty": lambda _: b"",
    "not JSON in": lambda _: b"<html>captive portal</html>",
    "a list for": lambda _: b"[]",
    "duplicate keys in": lambda d: b'{"signed": {}, ' + d[1:],
    "NaN in": lambda d: d.replace(b'"version":', b'"x":NaN,"version":', 1),
    "a huge integer in": lambda d: d.replace(b'"version":', b'"x":' + b"9" * 5000 + b',"version":', 1),
    "deep nesting in": lambda d: d.replace(b'"version":', b'"x":' + b"[" * 50_000 + b"]" * 50_000 + b',"version":', 1),
    "bytes that are no UTF-8 in": lambda d: d.replace(b'"version":', b'"\xff":1,"version":', 1),
    "unsigned": lambda d: json.dumps({**json.loads(d), "signatures": []}).encode(),
    "oversized": lambda d: d[:-1] + b" " * 5_100_000 + b"}",
}  # fmt: skip

for _role in ("timestamp", "snapshot", "targets"):
    for _how, _change in METADATA_CHANGES.items():

        @attack(f"{_how} {_role}", "untrusted")
        def _metadata(stage: Stage, role: str = _role, change: Callable[[bytes], bytes] = _change) -> None:
            stage.rewrite(stage.incoming(stage.current(role)), change)

    @attack(f"missing {_role}", "untrusted")
    def _missing(stage: Stage, role: str = _role) -> None:
        stage.incoming(stage.current(role)).unlink()

    @attack(f"{_role} signed by a key that root does not know", "untrusted")
    def _wrong_key(stage: Stage, role: str = _role) -> None:
        repo = copy.deepcopy(stage.repo)
        repo.keys[role] = [CryptoSigner.generate_ed25519()]
        repo.publish(bump=False)
        repo.stage(Path(stage.layout.root))

    @attack(f"{_role} signed with the key of another role", "untrusted")
    def _other_role(stage: Stage, role: str = _role) -> None:
        repo = copy.deepcopy(stage.repo)
        repo.keys[role] = repo.keys["root"]
        repo.publish(bump=False)
        repo.stage(Path(stage.layout.root))

    @attack(f"expired {_role}", "expired")
    def _expired(stage: Stage, role: str = _role) -> None:
        repo = copy.deepcopy(stage.repo)
        getattr(repo, role).expires = LONG_AGO
        repo.publish(bump=False)
        repo.stage(Path(stage.layout.root))


@attack("timestamp and snapshot swapped", "untrusted")
def _swapped_roles(stage: Stage) -> None:
    first, second = stage.incoming("timestamp.json"), stage.incoming(stage.current("snapshot"))
    a, b = first.read_bytes(), second.read_bytes()
    first.write_bytes(b)
    second.write_bytes(a)


@attack("timestamp of the old release replayed", "replayed")
def _old_timestamp(stage: Stage) -> None:
    older = copy.deepcopy(stage.repo)
    older.timestamp.version = 1
    older.publish(bump=False)
    stage.incoming("timestamp.json").write_bytes(older.metadata["timestamp.json"])


@attack("all metadata of the old release replayed for the new one", "untrusted")
def _old_everything(stage: Stage) -> None:
    for path in Path(stage.layout.path("incoming")).iterdir():
        path.unlink()
    for name, content in stage.old.items():
        stage.incoming(name).write_bytes(content)


@attack("an older snapshot under a new timestamp", "replayed")
def _old_snapshot(stage: Stage) -> None:
    repo = copy.deepcopy(stage.repo)
    repo.snapshot.version -= 2
    repo.timestamp.version += 1
    repo.timestamp.snapshot_meta = MetaFile(repo.snapshot.version)
    repo.publish(bump=False)
    repo.stage(Path(stage.layout.root))


@attack("older targets under a new snapshot", "replayed")
def _old_targets(stage: Stage) -> None:
    repo = copy.deepcopy(stage.repo)
    repo.targets.version -= 2
    repo.snapshot.version += 1
    repo.snapshot.meta["targets.json"] = MetaFile(repo.targets.version)
    repo.timestamp.version += 1
    repo.timestamp.snapshot_meta = MetaFile(repo.snapshot.version)
    repo.publish(bump=False)
    repo.stage(Path(stage.layout.root))


@attack("a mix of two valid snapshots", "untrusted")
def _mixed_snapshots(stage: Stage) -> None:
    """The timestamp of a later state with the snapshot of this one under its name."""
    later = copy.deepcopy(stage.repo)
    later.publish()
    stage.incoming("timestamp.json").write_bytes(later.metadata["timestamp.json"])
    snapshot = stage.incoming(stage.current("snapshot")).read_bytes()
    stage.incoming(f"{later.snapshot.version}.snapshot.json").write_bytes(snapshot)


@attack("a mix of two valid sets of targets", "untrusted")
def _mixed_targets(stage: Stage) -> None:
    later = copy.deepcopy(stage.repo)
    later.publish()
    for name in ("timestamp.json", f"{later.snapshot.version}.snapshot.json"):
        stage.incoming(name).write_bytes(later.metadata[name])
    targets = stage.incoming(stage.current("targets")).read_bytes()
    stage.incoming(f"{later.targets.version}.targets.json").write_bytes(targets)


@attack("a timestamp that is another fleet's", "untrusted")
def _other_fleet(stage: Stage) -> None:
    other = SimulatedRepository()
    other.add(variant(stage.files), by_hash(stage.files), counter=9)
    other.publish()
    other.stage(Path(stage.layout.root))


# ── root ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def new_root(stage: Stage, version: int, *signers: CryptoSigner, **changes: Any) -> None:
    """Stage a root of the honest repository's keys with changes, signed by `signers`."""
    root: Root = copy.deepcopy(stage.repo.root)
    root.version = version
    for name, value in changes.items():
        setattr(root, name, value)
    metadata = Metadata(root)
    for signer in signers:
        metadata.sign(signer, append=True)
    stage.incoming(f"{changes.get('named', version)}.root.json").write_bytes(
        metadata.to_bytes(JSONSerializer(compact=True))
    )


@attack("a new root signed by nobody", "untrusted")
def _root_unsigned(stage: Stage) -> None:
    new_root(stage, 2)


@attack("a new root signed by its own new key alone", "untrusted")
def _root_usurped(stage: Stage) -> None:
    own = CryptoSigner.generate_ed25519()
    repo = copy.deepcopy(stage.repo)
    repo.root.version = 2
    repo.root.revoke_key(repo.keys["root"][0].public_key.keyid, "root")
    repo.root.add_key(own.public_key, "root")
    repo.keys["root"] = [own]
    repo.publish_root()
    repo.stage(Path(stage.layout.root))


@attack("a new root that says another version than its name", "untrusted")
def _root_version(stage: Stage) -> None:
    stage.incoming("2.root.json").write_bytes(stage.repo.root_bytes)


@attack("a root skipped: version 3 without 2, and what its keys signed", "untrusted")
def _root_skipped(stage: Stage) -> None:
    repo = copy.deepcopy(stage.repo)
    new = CryptoSigner.generate_ed25519()
    repo.root.version = 3
    repo.root.revoke_key(repo.keys["timestamp"][0].public_key.keyid, "timestamp")
    repo.root.add_key(new.public_key, "timestamp")
    repo.keys["timestamp"] = [new]
    repo.publish_root()
    repo.publish()
    repo.stage(Path(stage.layout.root))


@attack("an expired new root", "expired")
def _root_expired(stage: Stage) -> None:
    new_root(stage, 2, *stage.repo.keys["root"], expires=LONG_AGO)


@attack("an oversized root", "untrusted")
def _root_oversized(stage: Stage) -> None:
    new_root(stage, 2, *stage.repo.keys["root"])
    stage.rewrite(stage.incoming("2.root.json"), lambda d: d[:-1] + b" " * 600_000 + b"}")


# ── what is signed and does not fit ──────────────────────────────────────────────────────────────────────────────────


def resign(stage: Stage, manifest: Manifest, files: dict[str, bytes] | None = None) -> SimulatedRelease:
    """A release that is validly signed, of a manifest that an honest host would not make; it is offered."""
    repo = copy.deepcopy(stage.repo)
    release = repo.add_manifest(manifest, files or {})
    repo.publish()
    repo.stage(Path(stage.layout.root))
    stage.sha256 = release.sha256
    return release


@attack("a release for other hardware", "unfit")
def _other_hardware(stage: Stage) -> None:
    resign(stage, replace(stage.release.manifest, counter=3, variants=(variant(stage.files, "jetson-orin-nano"),)))


@attack("a release without a library for this architecture", "unfit")
def _other_arch(stage: Stage) -> None:
    stage.arch = "x86_64"


@attack("a profile that is in the manifest and not in what is signed for it", "unfit")
def _profile_not_signed(stage: Stage) -> None:
    repo = copy.deepcopy(stage.repo)
    repo.targets.targets["digits/manifest.json"].unrecognized_fields["custom"]["profiles"] = ["jetson-orin-nano"]
    repo.publish()
    repo.stage(Path(stage.layout.root))


@attack("another counter signed than the manifest says", "untrusted")
def _counter_not_signed(stage: Stage) -> None:
    repo = copy.deepcopy(stage.repo)
    repo.targets.targets["digits/manifest.json"].unrecognized_fields["custom"]["counter"] = 3
    repo.publish()
    repo.stage(Path(stage.layout.root))


@attack("nothing signed about counter and profiles", "untrusted")
def _nothing_signed(stage: Stage) -> None:
    repo = copy.deepcopy(stage.repo)
    repo.targets.targets["digits/manifest.json"].unrecognized_fields.clear()
    repo.publish()
    repo.stage(Path(stage.layout.root))


@attack("a counter used again for another content", "replayed")
def _counter_reused(stage: Stage) -> None:
    resign(stage, replace(stage.release.manifest, counter=1), by_hash(stage.files))


@attack("a lower counter under new signatures", "replayed")
def _counter_lower(stage: Stage) -> None:
    stage.journal = replace(stage.journal, floor=7, floor_sha256="f" * 64)


@attack("the manifest of another model under this model's name", "untrusted")
def _other_model(stage: Stage) -> None:
    repo = copy.deepcopy(stage.repo)
    other = repo.add_manifest(replace(stage.release.manifest, model="faces", counter=3), {})
    repo.targets.targets["digits/manifest.json"] = copy.deepcopy(repo.targets.targets[other.target])
    repo.publish()
    repo.stage(Path(stage.layout.root))
    stage.sha256 = other.sha256


@attack("a manifest that is not the signed one", "untrusted")
def _not_the_signed(stage: Stage) -> None:
    body = replace(stage.release.manifest, counter=3).canonical()
    Path(stage.layout.blob(sha(body))).write_bytes(body)
    stage.sha256 = sha(body)


@attack("a file in the manifest that is not signed", "untrusted")
def _file_not_signed(stage: Stage) -> None:
    evil = contents(2) | {"library": b"evil" * 500}
    resign(stage, replace(stage.release.manifest, counter=3, variants=(variant(evil),)))
    for content in evil.values():
        path = Path(stage.layout.blob(sha(content)))
        path.unlink(missing_ok=True)
        path.write_bytes(content)


@attack("another length in the manifest than signed", "untrusted")
def _other_length(stage: Stage) -> None:
    honest = variant(stage.files)
    longer = replace(honest, file=FileRef(honest.file.sha256, honest.file.bytes + 1))
    resign(stage, replace(stage.release.manifest, counter=3, variants=(longer,)))


@attack("another length signed than the file has", "untrusted")
def _length_signed(stage: Stage) -> None:
    repo = copy.deepcopy(stage.repo)
    repo.targets.targets[f"blobs/{sha(stage.files['model'])}"].length += 1
    repo.publish()
    repo.stage(Path(stage.layout.root))


@attack("another hash signed than the name says", "untrusted")
def _hash_signed(stage: Stage) -> None:
    repo = copy.deepcopy(stage.repo)
    repo.targets.targets[f"blobs/{sha(stage.files['model'])}"].hashes["sha256"] = sha(stage.files["library"])
    repo.publish()
    repo.stage(Path(stage.layout.root))


MANIFEST_CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "a manifest that is no JSON": lambda _: b"model = digits",
    "a manifest with duplicate keys": lambda d: b'{"model":"digits",' + d[1:],
    "a manifest with NaN": lambda d: d.replace(b'"max_abs":0.1', b'"max_abs":NaN'),
    "a manifest of another schema": lambda d: d.replace(b"edgeship.manifest/v1", b"edgeship.manifest/v2"),
    "a manifest with a path for a file": lambda d: d.replace(b"sha256:", b"file:../../", 1),
    "a manifest with a negative length": lambda d: d.replace(b'"bytes":', b'"bytes":-', 1),
    "a manifest with a giant tensor": lambda d: d.replace(b'"shape":[1,4]', b'"shape":[2147483647,2147483647]'),
    "a manifest with a dynamic tensor": lambda d: d.replace(b'"shape":[1,4]', b'"shape":[-1,4]'),
    "a manifest without variants": lambda d: json.dumps({**json.loads(d), "variants": []}).encode(),
    "a manifest with deep nesting": lambda d: d[:-1] + b',"x":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "a manifest with an escape in its name": lambda d: d.replace(b'"model":"digits"', b'"model":"../digits"'),
}

for _name, _change in MANIFEST_CHANGES.items():

    @attack(_name, "untrusted")
    def _manifest(stage: Stage, change: Callable[[bytes], bytes] = _change) -> None:
        """Validly signed, and still not to be believed: the signer's host may be old or broken."""
        repo = copy.deepcopy(stage.repo)
        body = change(stage.release.manifest.canonical())
        entry = repo.targets.targets["digits/manifest.json"]
        entry.length, entry.hashes["sha256"] = len(body), sha(body)
        repo.blobs[sha(body)] = body
        repo.publish()
        repo.stage(Path(stage.layout.root))
        stage.sha256 = sha(body)


for _path in (
    "../digits/manifest.json", "/digits/manifest.json", "digits/../digits/manifest.json", "digits//manifest.json",
    "digits/manifest.json/", "digits\0/manifest.json", "digits\n/manifest.json", "./manifest.json",
    "digits/manifest.JSON",
    "digits\\manifest.json", "dígits/manifest.json", "ｄigits/manifest.json", "", "manifest.json",
    "blobs/" + "a" * 64, "x" * 65 + "/manifest.json", "%2e%2e/manifest.json",
):  # fmt: skip

    @attack(f"target path {_path!r:.40}", "protocol")
    def _target(stage: Stage, path: str = _path) -> None:
        stage.target = path


@attack("a name that differs in case alone", "untrusted")
def _case(stage: Stage) -> None:
    stage.target = "Digits/manifest.json"


@attack("a hash that is none", "protocol")
def _no_hash(stage: Stage) -> None:
    stage.sha256 = "../" * 20


@attack("a device that was never enrolled", "not-enrolled")
def _not_enrolled(stage: Stage) -> None:
    Path(stage.layout.trusted_root).unlink()


# ── the tests ────────────────────────────────────────────────────────────────────────────────────────────────────────


def trusted(layout: Layout) -> tuple[str, dict[str, bytes]]:
    """Where the trusted metadata is and what it holds."""
    folder = Path(layout.metadata).resolve()
    return str(folder), {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", ATTACKS)
def test_it_is_refused_and_the_honest_release_is_taken_afterwards(stage: Stage, name: str) -> None:
    before, honest = trusted(stage.layout), replace(stage, journal=stage.journal)
    change, code = ATTACKS[name]
    change(stage)
    verified_alone = code == "replayed" and "counter" in name  # caught by the rules of slots, after the verification

    with pytest.raises(AgentError) as error:
        stage.install()

    assert error.value.code == code, error.value
    assert "\x1b" not in str(error.value)
    if not verified_alone:
        assert trusted(stage.layout) == before
    _recover(honest)
    assert honest.install().floor == 3


def _recover(stage: Stage) -> None:
    """The next honest push: everything is sent again, signed anew, as release 3."""
    layout = stage.layout
    if not Path(layout.trusted_root).exists():
        Disk().write(layout.trusted_root, stage.repo.root_bytes)
    for folder in ("incoming", "blobs"):
        for path in Path(layout.path(folder)).iterdir():
            Disk().remove(str(path))
    stage.release = stage.repo.add(variant(stage.files), by_hash(stage.files), counter=3)
    for _ in range(3):  # whatever versions an attack burned
        stage.repo.publish()
    stage.sha256 = stage.release.sha256
    stage.restage()


def test_the_honest_release_is_taken(stage: Stage) -> None:
    assert stage.install().floor == 2


def test_the_same_release_again_changes_nothing(stage: Stage) -> None:
    stage.journal = stage.install()
    assert stage.install() is stage.journal


def test_there_are_enough_attacks() -> None:
    assert len(ATTACKS) >= 100


def test_a_threshold_of_two_is_not_met_by_one_key_twice(tmp_path: Path) -> None:
    """Neither by one of two keys nor by one key's signature twice."""
    repo = SimulatedRepository(threshold=2, keys=2)
    layout = Layout.of(str(tmp_path / "device"))
    for folder in layout.folders:
        Disk().mkdir(folder)
    Disk().write(layout.trusted_root, repo.root_bytes)
    files = contents(1)
    release = repo.add(variant(files), by_hash(files))
    honest = repo.keys["targets"]
    offer = Stage(layout, repo, files, release, {}, sha256=release.sha256)
    for keys in ([honest[0]], [honest[0], honest[0]], [honest[0], CryptoSigner.generate_ed25519()]):
        repo.keys["targets"] = keys
        repo.publish()
        offer.restage()
        with pytest.raises(AgentError) as error:
            offer.install()
        assert error.value.code == "untrusted"
    repo.keys["targets"] = honest
    repo.publish()
    offer.restage()
    assert offer.install().floor == 1


@pytest.mark.parametrize("days", [-3650, 3650])
def test_a_wrong_clock_of_the_device_refuses_nothing_honest(stage: Stage, days: int) -> None:
    """The Pi boots in the past, or far in the future; the host tells the time."""
    wrong = time.time() + timedelta(days=days).total_seconds()
    found = trust.verify(stage.layout, Disk(), stage.target, stage.sha256, profile=PROFILE, arch=ARCH, wall=wrong,
                         host_clock=time.time())  # fmt: skip
    assert found["counter"] == 2


@pytest.mark.parametrize(
    "name",
    ["../root.json", "/etc/passwd", "root.json/..", "a\0.json", "a\n.json", "timestamp.json.sh", ".json", "0.root.json",
     "-1.root.json", "1.root.JSON", "1e3.root.json", "x" * 80 + ".json", "é.json", "", None, 3],
)  # fmt: skip
def test_names_of_metadata_are_plain(name: object) -> None:
    with pytest.raises(ProtocolError):
        trust.check_metadata_name(name)
