"""From variants to a manifest, and back to an earlier release."""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edgeship.errors import ReleaseError
from edgeship.libraries import Library
from edgeship.release.build import Draft, DraftVariant, current, publish, rollback
from edgeship.release.verify import verify
from edgeship.runtime.manifest import FileRef, Golden
from edgeship.targets.base import Recipe, Variant
from tests.simulators import releases


@dataclass(frozen=True)
class FakeGolden:
    path: Path
    golden: Golden


@dataclass(frozen=True)
class FakeVerdict:
    metric: str = "top1"
    float_value: float = 0.984
    variant_value: float = 0.983
    interval: tuple[float, float] = (-0.4, 0.6)
    samples: int = 1000


def draft_variant(folder: Path, *, content: bytes = b"model", profiles: tuple[str, ...] = ("raspberry-pi-5",),
                  libraries: bool = True) -> DraftVariant:  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    recipe = Recipe("0" * 64, "keras", "tflite", "int8", ())
    (folder / "recipe.json").write_bytes(recipe.canonical())
    model, golden, library = (folder / name for name in ("model.tflite", "golden.bin", "lib.so"))
    model.write_bytes(content)
    golden.write_bytes(b"golden")
    library.write_bytes(b"library")
    (folder / "LICENSE").write_text("Apache-2.0")
    spec = releases.SPEC
    sha = hashlib.sha256(content).hexdigest()
    ref = FileRef(hashlib.sha256(b"golden").hexdigest(), 6)
    lib = Library("litert-2.3.0", "aarch64", library, folder / "LICENSE", hashlib.sha256(b"library").hexdigest(), 7)
    return DraftVariant(
        Variant(model, recipe, folder / "recipe.json", (spec,), (spec,), len(content), sha),
        FakeGolden(golden, Golden(ref, 4, 0.1, 0.9)), [lib] if libraries else [], profiles, threads=4,
        labels=("a", "b"), verdict=FakeVerdict(), latency_p95_ms=20.0,
    )  # fmt: skip


def test_the_manifest_says_what_the_draft_says(tmp_path: Path) -> None:
    repository = releases.repository(tmp_path)
    draft = Draft("digits", [draft_variant(tmp_path / "work")])

    release = publish(
        repository, draft, skipped=True, approved_by="ada", now=lambda: datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
    )

    data = json.loads(repository.blob(release.manifest_sha256).read_bytes())
    assert release.target_path == "digits/manifest.json"
    assert data["created"] == "2026-11-22T09:30:00Z"
    assert data["checks"] == {"skipped": True, "approved_by": "ada"}
    (variant,) = data["variants"]
    assert variant["measured"] == {
        "metric": "top1", "float": 0.984, "variant": 0.983, "samples": 1000, "drop_interval": [-0.4, 0.6],
    }  # fmt: skip
    assert variant["budget"] == {"latency_p95_ms": 20.0, "memory_mb": None}
    assert variant["threads"] == 4
    assert variant["labels"] == ["a", "b"]
    assert variant["runtimes"][0]["arch"] == "aarch64"
    assert current(repository, "digits") == release


def test_the_licence_of_a_library_is_signed_too(tmp_path: Path) -> None:
    repository = releases.repository(tmp_path)
    publish(repository, Draft("digits", [draft_variant(tmp_path / "work")]))

    assert repository.blob(hashlib.sha256(b"Apache-2.0").hexdigest()).read_bytes() == b"Apache-2.0"
    assert verify(repository.folder).targets == 6


def test_a_skipped_check_measured_nothing(tmp_path: Path) -> None:
    from dataclasses import replace

    repository = releases.repository(tmp_path)
    draft = Draft("digits", [replace(draft_variant(tmp_path / "work"), verdict=None)])

    assert publish(repository, draft, skipped=True).manifest.variants[0].measured == {}


def test_nothing_to_release(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="without variants"):
        publish(releases.repository(tmp_path), Draft("digits", []))


def test_a_profile_gets_one_variant(tmp_path: Path) -> None:
    variants = [draft_variant(tmp_path / "a"), draft_variant(tmp_path / "b", content=b"other")]
    with pytest.raises(ReleaseError, match="same profile: raspberry-pi-5"):
        publish(releases.repository(tmp_path), Draft("digits", variants))


def test_a_variant_needs_a_runtime_library(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="no runtime library"):
        publish(releases.repository(tmp_path), Draft("digits", [draft_variant(tmp_path / "work", libraries=False)]))


def test_a_rollback_is_a_new_release_with_the_old_files(tmp_path: Path) -> None:
    repository = releases.repository(tmp_path)
    first = releases.publish(repository, tmp_path / "work", version=1)
    releases.publish(repository, tmp_path / "work", version=2)

    back = rollback(repository, "digits", approved_by="ada")

    assert back.manifest.counter == 3
    assert back.manifest.variants == first.manifest.variants
    assert back.manifest.approved_by == "ada"
    assert verify(repository.folder).holds


def test_rolling_back_twice_goes_further_back(tmp_path: Path) -> None:
    repository = releases.repository(tmp_path)
    models = [releases.publish(repository, tmp_path / "work", version=n).manifest.variants for n in (1, 2, 3)]

    assert rollback(repository, "digits").manifest.variants == models[1]
    assert rollback(repository, "digits", to=1).manifest.variants == models[0]


def test_nowhere_to_roll_back_to(tmp_path: Path) -> None:
    repository = releases.repository(tmp_path)
    with pytest.raises(ReleaseError, match="nothing of model"):
        rollback(repository, "digits")
    releases.publish(repository, tmp_path / "work")
    with pytest.raises(ReleaseError, match="no earlier release"):
        rollback(repository, "digits")
    with pytest.raises(ReleaseError, match="has no release 9"):
        rollback(repository, "digits", to=9)
