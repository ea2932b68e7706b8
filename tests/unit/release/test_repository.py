"""The repository: signed anew at every push, monotone, atomic, and never signing what somebody else changed."""

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edgeship import config
from edgeship.errors import ReleaseError
from edgeship.release import durable
from edgeship.release.keys import KeySet
from edgeship.release.repository import HISTORY, TRIAL, File, Repository, trial_of
from edgeship.release.verify import verify
from edgeship.runtime.manifest import FileRef
from edgeship.runtime.wire import check_name
from tests.simulators import releases

DAY = timedelta(days=1)


def versions(repository: Repository) -> dict[str, int]:
    """Role -> version of the current metadata."""
    out = {}
    for name, _ in repository.metadata():
        number, _, role = name.removesuffix(".json").rpartition(".")
        out[role] = int(number or 0)
    return out


def test_a_new_repository_verifies_and_holds_nothing(tmp_path: Path) -> None:
    repository = releases.repository(tmp_path)

    assert repository.models() == {}
    assert verify(repository.folder).holds
    assert b'"root"' in repository.root_bytes()


def test_it_is_made_once(tmp_path: Path) -> None:
    repository = releases.repository(tmp_path)
    with pytest.raises(ReleaseError, match="already"):
        Repository.init(repository.folder, repository.keys)


def test_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="no releases"):
        Repository.open(tmp_path, KeySet.create(tmp_path / "keys"))


def test_the_counter_rises_over_all_models(tmp_path: Path) -> None:
    repository = releases.repository(tmp_path)

    counters = [
        releases.publish(repository, tmp_path / "work", model=model, version=n).manifest.counter
        for n, model in enumerate(["digits", "faces", "digits"])
    ]

    assert counters == [1, 2, 3]
    assert {name: entry.counter for name, entry in repository.models().items()} == {"digits": 3, "faces": 2}
    assert verify(repository.folder).releases == {"digits": 3, "faces": 2}


def test_every_file_is_signed_and_there(tmp_path: Path) -> None:
    repository = releases.repository(tmp_path)
    release = releases.publish(repository, tmp_path / "work")

    report = verify(repository.folder)
    assert report.holds
    assert report.targets == 6  # manifest, model, golden samples, recipe, two libraries
    variant = release.manifest.variants[0]
    assert durable.sha256_of(repository.blob(variant.file.sha256)) == (variant.file.sha256, variant.file.bytes)


def test_files_of_other_models_stay_signed_and_those_of_replaced_releases_do_not(tmp_path: Path) -> None:
    repository = releases.repository(tmp_path)
    releases.publish(repository, tmp_path / "work", model="faces", version=7, library_bytes=64)
    before = verify(repository.folder).targets
    releases.publish(repository, tmp_path / "work", model="digits", version=1)
    first = verify(repository.folder).targets
    releases.publish(repository, tmp_path / "work", model="digits", version=2)

    assert verify(repository.folder).holds
    assert first == 2 * before
    assert verify(repository.folder).targets == first


def test_refresh_signs_snapshot_and_timestamp_and_leaves_releases_alone(tmp_path: Path) -> None:
    repository = releases.repository(tmp_path)
    releases.publish(repository, tmp_path / "work")
    before = versions(repository)
    timestamp = repository.metadata()[-1][1]

    repository.refresh()

    assert versions(repository) == before | {"snapshot": before["snapshot"] + 1}
    assert repository.metadata()[-1][1] != timestamp


@pytest.mark.parametrize(("days", "renewed"), [(10, set()), (200, {"targets"}), (400, {"targets", "root"})])
def test_root_and_targets_are_renewed_at_half_their_life(tmp_path: Path, days: int, renewed: set[str]) -> None:
    clock = [datetime(2026, 11, 1, tzinfo=UTC)]
    repository = releases.repository(tmp_path, now=lambda: clock[0])
    releases.publish(repository, tmp_path / "work")
    before = versions(repository)

    clock[0] += days * DAY
    repository.refresh()

    after = versions(repository)
    assert after.get("targets", 0) - before["targets"] == (1 if "targets" in renewed else 0)
    assert after.get("root", 1) == (2 if "root" in renewed else 1)
    again = Repository.open(repository.folder, repository.keys, now=lambda: clock[0])
    assert again.models().keys() == {"digits"}


def test_a_renewed_root_is_in_the_chain_that_a_stranger_follows(tmp_path: Path) -> None:
    clock = [datetime.now(UTC).replace(microsecond=0) - 400 * DAY]
    repository = releases.repository(tmp_path, now=lambda: clock[0])
    releases.publish(repository, tmp_path / "work")
    assert not verify(repository.folder).holds  # expired long ago

    clock[0] = datetime.now(UTC).replace(microsecond=0)
    releases.publish(repository, tmp_path / "work", version=2)

    assert verify(repository.folder).holds
    assert repository.metadata()[0][0] == "2.root.json"


def test_an_interrupted_publish_leaves_the_state_before_and_the_next_one_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut at every rename: the repository verifies, and the next publish goes through."""
    repository = releases.repository(tmp_path)
    releases.publish(repository, tmp_path / "work", version=1)
    real, cut_at = os.replace, 1
    while True:
        left = [cut_at]

        def rename(source: str, target: str, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
            real(source, target)

        monkeypatch.setattr(os, "replace", rename)
        try:
            releases.publish(repository, tmp_path / "work", version=100 + cut_at)
        except KeyboardInterrupt:
            monkeypatch.setattr(os, "replace", real)
            assert verify(repository.folder).holds, cut_at
            assert repository.manifest("digits")[0].counter == cut_at
            assert releases.publish(repository, tmp_path / "work", version=cut_at).manifest.counter == cut_at + 1
            cut_at += 1
            continue
        monkeypatch.setattr(os, "replace", real)
        break
    assert cut_at > 5  # manifest, two blobs and three metadata files were cut


def test_history_reaches_back_a_bounded_way(tmp_path: Path) -> None:
    repository = releases.repository(tmp_path)
    for version in range(HISTORY + 3):
        releases.publish(repository, tmp_path / "work", version=version, model_bytes=10, library_bytes=20)

    history = repository.models()["digits"].history
    assert len(history) == HISTORY
    assert repository.manifest("digits", history[-1][0])[0].counter == 4
    with pytest.raises(ReleaseError, match="has no release 3"):
        repository.manifest("digits", 3)


def test_trials_are_no_releases_and_a_project_may_be_called_so(tmp_path: Path) -> None:
    """A project named drug-trial has releases, and can go back to them."""
    repository = releases.repository(tmp_path)
    for version in (1, 2):
        releases.publish(repository, tmp_path / "work", model="drug-trial", version=version)
        releases.publish(repository, tmp_path / "work", model=trial_of("drug-trial"), version=version)
    assert list(repository.models()) == ["drug-trial"]
    assert [counter for counter, _ in repository.models()["drug-trial"].history] == [3, 1]
    with pytest.raises(ReleaseError):
        repository.manifest(trial_of("drug-trial"))
    with pytest.raises(ValueError, match="not ending in __trial__"):
        config.NAME.read(f"drug{TRIAL}")
    longest = "x" * 64
    assert check_name(trial_of(config.NAME.read(longest))).endswith(TRIAL)
    releases.publish(repository, tmp_path / "work", model=trial_of(longest))


def test_an_unknown_model_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="nothing of model 'cats'") as error:
        releases.repository(tmp_path).manifest("cats")
    assert error.value.hint == "edgeship push MODEL"


def test_a_file_that_changed_is_not_published(tmp_path: Path) -> None:
    repository = releases.repository(tmp_path)
    file = releases.file(tmp_path, b"weights")
    file.path.write_bytes(b"other")
    release = releases.publish(repository, tmp_path / "work")

    with pytest.raises(ReleaseError, match="changed while"):
        repository.publish("digits", lambda n: replace(release.manifest, counter=n), [file])
    assert repository.models()["digits"].counter == 1


@pytest.mark.parametrize(
    ("what", "match"),
    [
        ("counter", "not for the counter"),
        ("files", "refers to files"),
        ("gone", "cannot publish"),
        ("length", "length"),
    ],
)
def test_a_manifest_must_match_its_files_and_its_counter(tmp_path: Path, what: str, match: str) -> None:
    repository = releases.repository(tmp_path)
    release = releases.publish(repository, tmp_path / "work")
    file = releases.file(tmp_path, b"weights")
    files = {
        "counter": [file],
        "files": [file],
        "gone": [File(tmp_path / "gone", FileRef("0" * 64, 1))],
        "length": [File(file.path, FileRef(file.ref.sha256, 3))],
    }[what]

    with pytest.raises(ReleaseError, match=match):
        repository.publish(
            "digits", lambda n: replace(release.manifest, counter=n + 1 if what == "counter" else n), files
        )


@pytest.mark.parametrize("name", ["timestamp.json", "2.snapshot.json", "2.targets.json", "1.root.json"])
@pytest.mark.parametrize("damage", ["flipped", "missing", "empty"])
def test_what_somebody_changed_is_not_signed_again(tmp_path: Path, name: str, damage: str) -> None:
    repository = releases.repository(tmp_path)
    releases.publish(repository, tmp_path / "work")
    path = repository.folder / "metadata" / name
    if damage == "missing":
        path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        path.write_bytes(path.read_bytes().replace(b'"version":', b'"VERSION":', 1).replace(b"2026", b"2029", 1))
    stamp = sorted(p.name for p in (repository.folder / "metadata").iterdir())

    with pytest.raises(ReleaseError, match=r"does not verify|no root metadata"):
        repository.refresh()
    with pytest.raises(ReleaseError, match=r"does not verify|no releases"):
        Repository.open(repository.folder, repository.keys)
    assert sorted(p.name for p in (repository.folder / "metadata").iterdir()) == stamp


def test_other_keys_do_not_open_it(tmp_path: Path) -> None:
    repository = releases.repository(tmp_path)
    with pytest.raises(ReleaseError, match="belong to other keys"):
        Repository.open(repository.folder, KeySet.create(tmp_path / "other"))


def test_a_lost_blob_is_named(tmp_path: Path) -> None:
    repository = releases.repository(tmp_path)
    release = releases.publish(repository, tmp_path / "work")
    sha = release.manifest.variants[0].file.sha256
    repository.blob(sha).unlink()

    with pytest.raises(ReleaseError, match="lacks blob"):
        repository.blob(sha)


def test_a_damaged_blob_is_replaced_by_the_next_publish(tmp_path: Path) -> None:
    repository = releases.repository(tmp_path)
    release = releases.publish(repository, tmp_path / "work")
    path = repository.blob(release.manifest.variants[0].file.sha256)
    path.chmod(0o644)
    path.write_bytes(b"flipped")

    releases.publish(repository, tmp_path / "work")

    assert verify(repository.folder).holds


def test_a_damaged_manifest_is_not_read(tmp_path: Path) -> None:
    repository = releases.repository(tmp_path)
    release = releases.publish(repository, tmp_path / "work")
    path = repository.blob(release.manifest_sha256)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"tflite", b"tflitf"))

    with pytest.raises(ReleaseError, match="damaged"):
        repository.manifest("digits")
