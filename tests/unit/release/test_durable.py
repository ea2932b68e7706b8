"""Durable writes: the old file or the new one, never a part."""

import hashlib
import os
import stat
import threading
from pathlib import Path

import pytest

from edgeship.errors import ReleaseError
from edgeship.release import durable


def test_a_file_is_written_with_its_mode(tmp_path: Path) -> None:
    durable.write(tmp_path / "new" / "file", b"data", mode=0o600)

    assert (tmp_path / "new" / "file").read_bytes() == b"data"
    assert stat.S_IMODE((tmp_path / "new" / "file").stat().st_mode) == 0o600


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    durable.write(tmp_path / "file", b"old")

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        durable.write(tmp_path / "file", b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_copy_is_hashed_on_the_way_and_read_only(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * 3_000_000)

    durable.copy(source, tmp_path / "blobs" / "b", hashlib.sha256(source.read_bytes()).hexdigest())

    assert (tmp_path / "blobs" / "b").read_bytes() == source.read_bytes()
    assert stat.S_IMODE((tmp_path / "blobs" / "b").stat().st_mode) == 0o444


def test_a_copy_of_other_bytes_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"changed")

    with pytest.raises(ReleaseError, match="changed while"):
        durable.copy(source, tmp_path / "blobs" / "b", "0" * 64)
    assert list((tmp_path / "blobs").iterdir()) == []


def test_a_lock_lets_one_in_at_a_time(tmp_path: Path) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        with durable.exclusive(tmp_path / "lock"):
            inside.append(number)
            most.append(len(inside))
            inside.remove(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}
