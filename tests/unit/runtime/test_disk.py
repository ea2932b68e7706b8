"""The one writer: whole or not at all, never through a link, every error with a name."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from edgeship.runtime import disk as disks
from edgeship.runtime.disk import Disk
from edgeship.runtime.errors import DiskError


class FailingDisk(Disk):
    """Fails at one kind of change."""

    def __init__(self, action: str, code: int = errno.EIO) -> None:
        self.action, self.code = action, code
        self.seen: list[str] = []

    def step(self, action: str, path: str) -> None:
        self.seen.append(action)
        if action == self.action:
            raise OSError(self.code, os.strerror(self.code))


def test_a_file_is_synced_before_it_gets_its_name_and_the_directory_after(tmp_path: Path) -> None:
    disk = FailingDisk("never")
    disk.write(str(tmp_path / "f"), b"one")
    disk.write(str(tmp_path / "f"), b"two", mode=0o640)
    assert (tmp_path / "f").read_bytes() == b"two"
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o640
    assert disk.seen == ["create", "write", "sync", "rename", "sync"] * 2


@pytest.mark.parametrize("action", ["create", "write", "sync", "rename"])
@pytest.mark.parametrize(
    ("code", "name"), [(errno.ENOSPC, "disk-full"), (errno.EDQUOT, "disk-full"), (errno.EROFS, "disk-error")]
)
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, action: str, code: int, name: str
) -> None:
    (tmp_path / "f").write_bytes(b"old")
    with pytest.raises(DiskError, match=str(tmp_path)) as failed:
        FailingDisk(action, code).write(str(tmp_path / "f"), b"new")
    assert failed.value.code == name
    assert (tmp_path / "f").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


def test_leftovers_and_impostors_are_removed_never_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    root = tmp_path / "root"
    root.mkdir()
    (root / ".new-f").symlink_to(outside)
    (root / "f").symlink_to(outside)
    Disk().write(str(root / "f"), b"mine")
    assert not (root / "f").is_symlink()

    for impostor in ("link", "hardlink", "fifo", "folder"):
        path = root / impostor
        {"link": path.symlink_to, "hardlink": path.hardlink_to}.get(impostor, lambda _: None)(outside)
        if impostor == "fifo":
            os.mkfifo(path)
        if impostor == "folder":
            path.mkdir()
        Disk().append(str(path), b"mine")
        assert path.read_bytes() == b"mine"
        assert path.is_file()
        assert not path.is_symlink()
    assert outside.read_bytes() == b"precious"


def test_an_append_that_fails_is_taken_back(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    Disk().append(path, b"one\n")
    with pytest.raises(DiskError):
        FailingDisk("sync").append(path, b"two\n")
    assert disks.read(path) == b"one\n"
    FailingDisk("sync").append(path, b"three\n", sync=False)
    assert disks.read(path) == b"one\nthree\n"


def test_growing_goes_on_at_an_offset(tmp_path: Path) -> None:
    path = str(tmp_path / "part")
    with Disk().growing(path, 0) as write:
        write(b"0123456789")
    with Disk().growing(path, 4) as write:
        write(b"abc")
    assert disks.read(path) == b"0123abc"
    with pytest.raises(DiskError, match="cannot go on at 9"), Disk().growing(path, 9):
        pass


def test_adopt_link_and_truncate(tmp_path: Path) -> None:
    disk = Disk()
    (tmp_path / "in").write_bytes(b"content")
    disk.adopt(str(tmp_path / "in"), str(tmp_path / "blob"), mode=0o400)
    assert (tmp_path / "blob").stat().st_mode & 0o777 == 0o400
    disk.link("blob", str(tmp_path / "current"))
    disk.link("other", str(tmp_path / "current"))
    assert os.readlink(tmp_path / "current") == "other"
    os.chmod(tmp_path / "blob", 0o600)
    disk.truncate(str(tmp_path / "blob"), 3)
    assert (tmp_path / "blob").read_bytes() == b"con"
    with pytest.raises(DiskError):
        disk.adopt(str(tmp_path / "absent"), str(tmp_path / "x"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(DiskError, match="a directory is in the way"):
        disk.rename(str(tmp_path / "blob"), str(tmp_path / "folder"))


def test_remove_takes_trees_and_leaves_what_links_point_to(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "f").write_bytes(b"x")
    tree = tmp_path / "tree" / "deep"
    tree.mkdir(parents=True)
    (tree / "link").symlink_to(kept)
    (tree / "file").write_bytes(b"x")
    Disk().remove(str(tmp_path / "tree"))
    Disk().remove(str(tmp_path / "tree"))
    assert sorted(os.listdir(tmp_path)) == ["kept"]
    assert (kept / "f").exists()
    with pytest.raises(DiskError):
        Disk().remove(str(kept / "f" / "below-a-file"))


def test_mkdir_wants_a_directory_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk()
    disk.mkdir(str(tmp_path / "a" / "b"))
    disk.mkdir(str(tmp_path / "a" / "b"))
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with pytest.raises(DiskError, match="not a directory of ours"):
        disk.mkdir(str(tmp_path / "link"))
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(DiskError, match="not a directory of ours"):
        disk.mkdir(str(tmp_path / "a"))


def test_sync_tree_reaches_every_file(tmp_path: Path) -> None:
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "f").write_bytes(b"x")
    (tmp_path / "d" / "e" / "g").write_bytes(b"x")
    (tmp_path / "d" / "link").symlink_to("f")
    disk = FailingDisk("never")
    disk.sync_tree(str(tmp_path / "d"))
    assert disk.seen == ["sync"] * 4


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    first = Disk().lock(path)
    assert first is not None
    assert Disk().lock(path, seconds=0.1) is None
    os.close(first)
    second = Disk().lock(path)
    assert second is not None
    os.close(second)
    with pytest.raises(DiskError):
        FailingDisk("create").lock(path)


def test_reading_takes_regular_files_only_and_bounded(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "f")
    assert disks.read(str(tmp_path / "absent")) is None
    assert disks.hash_file(str(tmp_path / "absent")) is None
    assert list(disks.chunks(str(tmp_path / "absent"))) == []
    assert disks.read(str(tmp_path / "f"), 5) == b"12345"
    found = disks.hash_file(str(tmp_path / "f"))
    assert found is not None
    assert found[1] == 5
    with pytest.raises(DiskError, match="longer than 4 bytes"):
        disks.read(str(tmp_path / "f"), 4)
    for name in ("fifo", "link", "."):
        with pytest.raises(DiskError):
            disks.read(str(tmp_path / name))
