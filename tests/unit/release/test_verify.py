"""Verifying a repository: every kind of damage is found and named."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from edgeship.release.verify import verify
from tests.simulators import releases


def test_a_flipped_byte_in_any_blob_is_found(tmp_path: Path) -> None:
    repository = releases.repository(tmp_path)
    releases.publish(repository, tmp_path / "work")

    for path in sorted((repository.folder / "blobs").iterdir()):
        good = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        assert "damaged" in " ".join(verify(repository.folder).problems)
        path.write_bytes(good)
    assert verify(repository.folder).holds


def test_a_missing_blob_is_found(tmp_path: Path) -> None:
    repository = releases.repository(tmp_path)
    release = releases.publish(repository, tmp_path / "work")
    repository.blob(release.manifest_sha256).unlink()

    assert verify(repository.folder).problems == ("digits/manifest.json is missing",)


def test_a_flipped_byte_in_any_metadata_is_found(tmp_path: Path) -> None:
    repository = releases.repository(tmp_path)
    releases.publish(repository, tmp_path / "work")

    for name in ["1.root.json", *(name for name, _ in repository.metadata())]:
        path = repository.folder / "metadata" / name
        good = path.read_bytes()
        middle = good.index(b'"sig"') + 12
        path.write_bytes(good[:middle] + (b"0" if good[middle : middle + 1] != b"0" else b"1") + good[middle + 1 :])
        report = verify(repository.folder)
        assert not report.holds, name
        assert "does not verify" in report.problems[0]
        path.write_bytes(good)


def test_expired_metadata_is_found(tmp_path: Path) -> None:
    old = datetime.now(UTC).replace(microsecond=0) - timedelta(days=60)
    repository = releases.repository(tmp_path, now=lambda: old)

    assert "expired" in verify(repository.folder).problems[0]


def test_no_repository_is_a_problem_and_no_crash(tmp_path: Path) -> None:
    assert not verify(tmp_path).holds


def test_a_flipped_byte_in_a_release_that_a_rollback_may_bring_back_is_found(tmp_path: Path) -> None:
    repository = releases.repository(tmp_path)
    first = releases.publish(repository, tmp_path / "1", version=1)
    releases.publish(repository, tmp_path / "2", version=2)
    network = first.manifest.variants[0].file.sha256

    for sha, words in (
        (first.manifest_sha256, "the manifest of digits release 1 is damaged"),
        (network, f"blobs/{network} of digits release 1 is damaged"),
    ):
        path = repository.blob(sha)
        good = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        assert verify(repository.folder).problems == (f"{words}: its bytes are not the signed ones",)
        path.write_bytes(good)
    assert verify(repository.folder).holds
