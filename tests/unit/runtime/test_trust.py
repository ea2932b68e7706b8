"""What a device believes. An attack is one line of state change; each has its intended refusal."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner

from edgeship.deploy import zipapp
from edgeship.runtime import trust
from edgeship.runtime.clock import load_state
from edgeship.runtime.disk import Disk
from edgeship.runtime.errors import AgentError, ProtocolError, TrustError
from edgeship.runtime.layout import Layout
from edgeship.runtime.manifest import FileRef, Golden, Manifest, RuntimeRef, TensorSpec, VariantRef
from tests.simulators.repository import SimulatedRelease, SimulatedRepository

PROFILE, ARCH = "raspberry-pi-5", "aarch64"
FILES = {"model": b"the model" * 100, "golden": b"the golden samples", "library": b"the library" * 1000}


def reference(content: bytes) -> FileRef:
    import hashlib

    return FileRef(hashlib.sha256(content).hexdigest(), len(content))


def variant() -> VariantRef:
    tensor = TensorSpec("x", "int8", (1, 4))
    return VariantRef(
        profiles=(PROFILE,), format="tflite", precision="int8", file=reference(FILES["model"]),
        runtimes=(RuntimeRef("litert-2.3.0", ARCH, reference(FILES["library"])),), recipe=reference(b"{}"),
        inputs=(tensor,), outputs=(tensor,), golden=Golden(reference(FILES["golden"]), 1, 0.1, 0.9),
    )  # fmt: skip


@dataclass
class Fleet:
    """A repository and one device of it."""

    repo: SimulatedRepository
    layout: Layout
    release: SimulatedRelease

    def add(self, counter: int, **changes: Any) -> SimulatedRelease:
        files = {reference(content).sha256: content for content in FILES.values()}
        self.release = self.repo.add(replace(variant(), **changes), files, counter=counter)
        return self.release

    def verify(
        self, *, wall: float | None = None, host: float | None = None, profile: str = PROFILE, arch: str = ARCH
    ) -> dict[str, Any]:
        self.repo.stage(Path(self.layout.root))
        return self.check(wall=wall, host=host, profile=profile, arch=arch)

    def check(
        self, *, wall: float | None = None, host: float | None = None, profile: str = PROFILE, arch: str = ARCH
    ) -> dict[str, Any]:
        """Verify what is staged as it is."""
        return trust.verify(
            self.layout, Disk(), self.release.target, self.release.sha256, profile=profile, arch=arch,
            wall=time.time() if wall is None else wall, host_clock=host,
        )  # fmt: skip

    def trusted(self) -> bytes:
        return (Path(self.layout.metadata) / "timestamp.json").read_bytes()


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """A device that trusts release 1."""
    layout = Layout.of(str(tmp_path / "device"))
    for folder in layout.folders:
        Disk().mkdir(folder)
    repo = SimulatedRepository(threshold=2, keys=2)
    Path(layout.trusted_root).write_bytes(repo.root_bytes)
    fleet = Fleet(repo, layout, None)  # type: ignore[arg-type]  # set by the next line
    fleet.add(1)
    repo.publish()
    fleet.verify()
    return fleet


def test_a_good_release_is_verified_and_trusted(fleet: Fleet) -> None:
    release = fleet.add(2)
    fleet.repo.publish()
    found = fleet.verify()
    assert found["counter"] == 2
    assert found["sha256"] == release.sha256
    assert found["library"] == reference(FILES["library"]).sha256
    assert VariantRef.parse(found["variant"]) == variant()
    assert found["clock_corrected"] is False
    assert fleet.trusted() == fleet.repo.metadata["timestamp.json"]
    state = load_state(fleet.layout)
    assert state.floor == datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    assert state.expires > time.time()


def test_the_same_release_verifies_again(fleet: Fleet) -> None:
    assert fleet.verify()["counter"] == fleet.verify()["counter"] == 1
    assert len([name for name in os.listdir(fleet.layout.path("trust")) if name.startswith("metadata-")]) <= 2


# ── attacks ──────────────────────────────────────────────────────────────────────────────────────────────────────────

Attack = Callable[[Fleet], object]
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def _flip(fleet: Fleet, name: str) -> None:
    raw = bytearray(fleet.repo.metadata[name])
    raw[len(raw) // 2] ^= 1
    fleet.repo.metadata[name] = bytes(raw)


def _expire(fleet: Fleet, role: str) -> None:
    getattr(fleet.repo, role).expires = LONG_AGO
    fleet.repo.publish()


def _resign(fleet: Fleet, role: str, keys: list[CryptoSigner]) -> None:
    fleet.repo.keys[role] = keys
    fleet.repo.publish()


def _new_keys(count: int) -> list[CryptoSigner]:
    return [CryptoSigner.generate_ed25519() for _ in range(count)]


def _lower(fleet: Fleet, role: str) -> None:
    fleet.repo.publish()
    fleet.verify()
    getattr(fleet.repo, role).version -= 2
    fleet.repo.publish(bump=role != "timestamp")


def _custom(fleet: Fleet, **custom: Any) -> None:
    fleet.repo.targets.targets[fleet.release.target].unrecognized_fields["custom"] = custom
    fleet.repo.publish()


def _lie_about(fleet: Fleet, what: str) -> None:
    info = fleet.repo.targets.targets[f"blobs/{reference(FILES['model']).sha256}"]
    if what == "length":
        info.length += 1
    else:
        info.hashes["sha256"] = "0" * 64
    fleet.repo.publish()


def _oversized(fleet: Fleet, name: str) -> None:
    fleet.repo.metadata[name] += b" " * 6_000_000


def _text(fleet: Fleet, name: str, text: bytes) -> None:
    fleet.repo.metadata[name] = text


def _next(fleet: Fleet) -> dict[str, str]:
    """Publish, and tell the names of the newest metadata."""
    fleet.add(2)
    fleet.repo.publish()
    return {
        "targets": f"{fleet.repo.targets.version}.targets.json",
        "snapshot": f"{fleet.repo.snapshot.version}.snapshot.json", "timestamp": "timestamp.json",
    }  # fmt: skip


def _mix(fleet: Fleet) -> None:
    """The snapshot of one publication under the timestamp of the next."""
    names = _next(fleet)
    old = fleet.repo.metadata[names["snapshot"]]
    fleet.repo.publish()
    fleet.repo.metadata[f"{fleet.repo.snapshot.version}.snapshot.json"] = old


def _skip_root(fleet: Fleet) -> None:
    fleet.repo.root.version = 3
    fleet.repo.publish_root()
    fleet.repo.metadata["2.root.json"] = fleet.repo.metadata.pop("3.root.json")


def _bad_rotation(fleet: Fleet) -> None:
    """A second root that only its own new keys sign."""
    fleet.repo.root.version = 2
    for signer in fleet.repo.keys["root"]:
        fleet.repo.root.revoke_key(signer.public_key.keyid, "root")
    fleet.repo.keys["root"] = _new_keys(2)
    for signer in fleet.repo.keys["root"]:
        fleet.repo.root.add_key(signer.public_key, "root")
    fleet.repo.publish_root()


def _unlist(fleet: Fleet, path: str) -> None:
    del fleet.repo.targets.targets[path]
    fleet.repo.publish()


def _rename(fleet: Fleet) -> None:
    """A manifest of model "other" is signed as that of "digits"."""
    manifest = Manifest("other", 2, "2026-01-01T00:00:00Z", (variant(),))
    other = fleet.repo.add_manifest(manifest, {})
    fleet.repo.targets.targets["digits/manifest.json"] = fleet.repo.targets.targets.pop(other.target)
    fleet.repo.publish()
    fleet.release = SimulatedRelease(replace(manifest, model="digits"), other.sha256)


ATTACKS: dict[str, tuple[Attack, str]] = {
    "flipped timestamp": (lambda f: _flip(f, _next(f)["timestamp"]), "untrusted"),
    "flipped snapshot": (lambda f: _flip(f, _next(f)["snapshot"]), "untrusted"),
    "flipped targets": (lambda f: _flip(f, _next(f)["targets"]), "untrusted"),
    "truncated targets": (lambda f: _text(f, (n := _next(f)["targets"]), f.repo.metadata[n][:-10]), "untrusted"),
    "extended timestamp": (lambda f: _text(f, (n := _next(f)["timestamp"]), f.repo.metadata[n] + b"x"), "untrusted"),
    "missing snapshot": (lambda f: f.repo.metadata.pop(_next(f)["snapshot"]), "untrusted"),
    "missing targets": (lambda f: f.repo.metadata.pop(_next(f)["targets"]), "untrusted"),
    "wrong key for targets": (lambda f: _resign(f, "targets", _new_keys(2)), "untrusted"),
    "wrong key for timestamp": (lambda f: _resign(f, "timestamp", _new_keys(2)), "untrusted"),
    "threshold minus one": (lambda f: _resign(f, "targets", f.repo.keys["targets"][:1]), "untrusted"),
    "same key twice": (lambda f: _resign(f, "targets", f.repo.keys["targets"][:1] * 2), "untrusted"),
    "unsigned": (lambda f: _resign(f, "snapshot", []), "untrusted"),
    "expired timestamp": (lambda f: _expire(f, "timestamp"), "expired"),
    "expired snapshot": (lambda f: _expire(f, "snapshot"), "expired"),
    "expired targets": (lambda f: _expire(f, "targets"), "expired"),
    "old timestamp": (lambda f: _lower(f, "timestamp"), "replayed"),
    "old snapshot": (lambda f: _lower(f, "snapshot"), "replayed"),
    "old targets": (lambda f: _lower(f, "targets"), "replayed"),
    "mix of two snapshots": (_mix, "untrusted"),
    "skipped root": (_skip_root, "untrusted"),
    "root of new keys alone": (_bad_rotation, "untrusted"),
    "oversized timestamp": (lambda f: _oversized(f, _next(f)["timestamp"]), "untrusted"),
    "duplicate keys": (lambda f: _text(f, _next(f)["timestamp"], b'{"signed":{},"signed":{}}'), "untrusted"),
    "not a number": (lambda f: _text(f, _next(f)["timestamp"], b'{"signed":NaN}'), "untrusted"),
    "deep nesting": (lambda f: _text(f, _next(f)["timestamp"], b'{"a":' * 5000 + b"1" + b"}" * 5000), "untrusted"),
    "huge integer": (lambda f: _text(f, _next(f)["timestamp"], b'{"signed":' + b"9" * 5000 + b"}"), "untrusted"),
    "another role's metadata": (
        lambda f: _text(f, (n := _next(f))["timestamp"], f.repo.metadata[n["snapshot"]]), "untrusted"),
    "counter in custom differs": (lambda f: _custom(f, counter=9, profiles=[PROFILE]), "untrusted"),
    "no custom": (lambda f: _custom(f), "untrusted"),
    "signed for other profiles": (lambda f: _custom(f, counter=1, profiles=["jetson"]), "unfit"),
    "blob of another length": (lambda f: _lie_about(f, "length"), "untrusted"),
    "blob of another hash": (lambda f: _lie_about(f, "hash"), "untrusted"),
    "blob that nobody signed": (lambda f: _unlist(f, f"blobs/{reference(FILES['golden']).sha256}"), "untrusted"),
    "manifest that nobody signed": (lambda f: _unlist(f, f.release.target), "untrusted"),
    "manifest of another model's name": (lambda f: _rename(f), "untrusted"),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_is_refused_and_trust_is_unchanged(fleet: Fleet, name: str) -> None:
    attack, code = ATTACKS[name]
    attack(fleet)
    before = fleet.trusted()
    with pytest.raises(AgentError) as refused:
        fleet.verify()
    assert refused.value.code == code, str(refused.value)
    assert fleet.trusted() == before


def test_after_a_refusal_a_good_release_is_taken(fleet: Fleet) -> None:
    _flip(fleet, _next(fleet)["timestamp"])
    with pytest.raises(TrustError):
        fleet.verify()
    fleet.repo.publish()
    assert fleet.verify()["counter"] == 2


def test_every_flipped_byte_of_a_blob_is_found_and_the_blob_removed(fleet: Fleet) -> None:
    for name, content in {**FILES, "manifest": fleet.release.manifest.canonical()}.items():
        fleet.repo.stage(Path(fleet.layout.root))
        path = Path(fleet.layout.blob(reference(content).sha256))
        for damaged in (content[:-1], content + b"x", bytes([content[0] ^ 1]) + content[1:]):
            path.write_bytes(damaged)
            with pytest.raises(TrustError, match="damaged"):
                fleet.check()
            assert not path.exists(), name
        with pytest.raises(AgentError) as missing:
            fleet.check()
        assert missing.value.code == "not-found"


def test_links_and_fifos_in_staging_are_not_followed(fleet: Fleet, tmp_path: Path) -> None:
    fleet.repo.stage(Path(fleet.layout.root))
    staged = Path(fleet.layout.path("incoming", "timestamp.json"))
    blob = Path(fleet.layout.blob(reference(FILES["model"]).sha256))
    for path in (staged, blob):
        content = path.read_bytes()
        outside = tmp_path / "outside"
        outside.write_bytes(content)
        path.unlink()
        path.symlink_to(outside)
        with pytest.raises(AgentError):
            fleet.check()
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(AgentError):
            fleet.check()
        path.unlink()
        path.write_bytes(content)
    fleet.check()


def test_what_does_not_fit_is_said(fleet: Fleet) -> None:
    with pytest.raises(AgentError, match="no variant for profile jetson") as profile:
        fleet.verify(profile="jetson")
    with pytest.raises(AgentError, match="no runtime library for riscv64") as arch:
        fleet.verify(arch="riscv64")
    assert profile.value.code == arch.value.code == "unfit"


def test_another_manifest_than_the_signed_one(fleet: Fleet) -> None:
    fleet.release = SimulatedRelease(fleet.release.manifest, "0" * 64)
    with pytest.raises(TrustError, match="another manifest is signed"):
        fleet.verify()


@pytest.mark.parametrize(
    "target", ["", "x", "/manifest.json", "../manifest.json", "a/b/manifest.json", "a/other", None]
)
def test_odd_target_paths(fleet: Fleet, target: Any) -> None:
    with pytest.raises(ProtocolError):
        trust.check_target(target)


@pytest.mark.parametrize(
    "name", ["../x.json", "a/b.json", ".json", "x", "1.2.json\n", "0.root.json", "x" * 99 + ".json"]
)
def test_odd_metadata_names(name: str) -> None:
    with pytest.raises(ProtocolError):
        trust.check_metadata_name(name)


def test_a_manifest_that_cannot_be_read_is_untrusted(fleet: Fleet) -> None:
    import hashlib

    body = b'{"schema": "edgeship.manifest/v9"}'
    sha256 = hashlib.sha256(body).hexdigest()
    signed = fleet.repo._target(fleet.release.target, sha256, len(body))
    signed.unrecognized_fields["custom"] = {"counter": 1, "profiles": [PROFILE]}
    fleet.repo.blobs[sha256] = body
    fleet.repo.publish()
    fleet.release = SimulatedRelease(fleet.release.manifest, sha256)
    with pytest.raises(TrustError, match="not a manifest"):
        fleet.verify()


def test_a_device_without_a_root_says_so(fleet: Fleet) -> None:
    Path(fleet.layout.trusted_root).unlink()
    with pytest.raises(AgentError) as refused:
        fleet.verify()
    assert refused.value.code == "not-enrolled"


# ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_clock_without_battery_goes_by_the_floor(fleet: Fleet) -> None:
    """The clock is handed to python-tuf through a private attribute: this fails when that attribute moves."""
    found = fleet.verify(wall=0.0)
    assert found["clock_corrected"] is True
    fleet.repo.timestamp.expires = datetime(2025, 12, 31, tzinfo=UTC)  # before the floor, after 1970
    fleet.repo.publish()
    with pytest.raises(TrustError) as refused:
        fleet.verify(wall=0.0)
    assert refused.value.code == "expired"


def test_a_clock_far_ahead_is_corrected_by_the_hosts(fleet: Fleet) -> None:
    ahead = time.time() + 10 * 365 * 86_400
    with pytest.raises(TrustError) as refused:
        fleet.verify(wall=ahead)
    assert refused.value.code == "expired"
    assert fleet.verify(wall=ahead, host=time.time())["clock_corrected"] is True
    assert load_state(fleet.layout).floor < time.time() + 1


def test_a_release_from_the_future_does_not_raise_the_floor_beyond_now(fleet: Fleet) -> None:
    fleet.release = fleet.repo.add_manifest(Manifest("digits", 2, "2099-01-01T00:00:00Z", (variant(),)), {})
    fleet.repo.publish()
    fleet.verify()
    assert load_state(fleet.layout).floor <= time.time()
    fleet.release = fleet.repo.add_manifest(Manifest("digits", 3, "yesterday", (variant(),)), {})
    fleet.repo.publish()
    before = load_state(fleet.layout).floor
    fleet.verify()
    assert load_state(fleet.layout).floor == before


# ── roots ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_roots_rotate_through_the_chain(fleet: Fleet) -> None:
    former = fleet.repo.keys["root"]
    fleet.repo.root.version = 2
    fleet.repo.keys["root"] = [former[0], *_new_keys(1)]
    fleet.repo.root.revoke_key(former[1].public_key.keyid, "root")
    fleet.repo.root.add_key(fleet.repo.keys["root"][1].public_key, "root")
    fleet.repo.publish_root(extra=former[1:])
    fleet.repo.publish()
    assert fleet.verify()["counter"] == 1
    assert trust.knows_root(fleet.layout, fleet.repo.metadata["2.root.json"])
    assert trust.knows_root(fleet.layout, fleet.repo.root_bytes)
    assert not trust.knows_root(fleet.layout, b"{}")
    fleet.repo.metadata.pop("2.root.json")  # the device has it by now
    Path(fleet.layout.path("incoming", "2.root.json")).unlink()
    assert fleet.verify()["counter"] == 1


def test_a_root_must_sign_itself(fleet: Fleet) -> None:
    trust.check_root(fleet.repo.root_bytes)
    data = json.loads(fleet.repo.root_bytes)
    for damaged in (
        b"", b"{}", fleet.repo.metadata["timestamp.json"], json.dumps({**data, "signatures": []}).encode(),
        json.dumps({**data, "signed": {**data["signed"], "version": 2}}).encode(),
    ):  # fmt: skip
        with pytest.raises(TrustError):
            trust.check_root(damaged)


# ── the child process ────────────────────────────────────────────────────────────────────────────────────────────────


def question(fleet: Fleet, **changes: Any) -> bytes:
    data = {
        "target": fleet.release.target, "sha256": fleet.release.sha256, "profile": PROFILE, "arch": ARCH,
        "host_clock": None, **changes,
    }  # fmt: skip
    return json.dumps(data).encode()


def test_answers_are_json(fleet: Fleet) -> None:
    fleet.repo.stage(Path(fleet.layout.root))
    assert json.loads(trust.main(fleet.layout, Disk(), question(fleet)))["ok"]["counter"] == 1
    for request in (b"", b"{}", question(fleet, arch="../x"), question(fleet, target=7)):
        assert json.loads(trust.main(fleet.layout, Disk(), request))["error"]["code"] == "protocol"


def test_a_full_disk_is_named(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.repo.stage(Path(fleet.layout.root))

    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copytree", full)
    assert json.loads(trust.main(fleet.layout, Disk(), question(fleet)))["error"]["code"] == "disk-full"


def test_the_zipapp_verifies_without_any_installed_package(fleet: Fleet, tmp_path: Path) -> None:
    """A board has no site-packages: signatures are checked by the pure Python that travels in the zipapp."""
    app = tmp_path / "agent.pyz"
    app.write_bytes(zipapp.build(tmp_path / "cache"))
    fleet.add(2)
    fleet.repo.publish()
    fleet.repo.stage(Path(fleet.layout.root))
    done = subprocess.run(
        [sys.executable, "-I", "-S", app, "verify", "--root", fleet.layout.root], input=question(fleet),
        capture_output=True, check=True, timeout=120,
    )  # fmt: skip
    assert json.loads(done.stdout)["ok"]["counter"] == 2
    fleet.repo.timestamp.expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=60)
    fleet.repo.publish()
    _flip(fleet, "timestamp.json")
    fleet.repo.stage(Path(fleet.layout.root))
    done = subprocess.run(
        [sys.executable, "-I", "-S", app, "verify", "--root", fleet.layout.root], input=question(fleet),
        capture_output=True, check=True, timeout=120,
    )  # fmt: skip
    assert json.loads(done.stdout)["error"]["code"] == "untrusted"
