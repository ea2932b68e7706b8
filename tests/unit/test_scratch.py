"""Temporary folders: whoever makes one removes what a killed process left, and nothing that somebody still holds."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeship import scratch

PREFIX = "edgeship-test-"

HOLD = """
import sys
from pathlib import Path
from edgeship import scratch
with scratch.folder(sys.argv[1], Path(sys.argv[2])) as folder:
    (folder / "large").write_bytes(b"0" * 1000)
    print(folder.name, flush=True)
    sys.stdin.read()
"""


def hold(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that has a folder, and the folder, which looks an hour old."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, PREFIX, str(parent)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    folder = parent / process.stdout.readline().strip()
    age(folder)
    return process, folder


def age(folder: Path, seconds: float = 3600.0) -> None:
    then = time.time() - seconds
    os.utime(folder, (then, then))


def finish(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_it_goes_with_the_block_and_with_an_error(tmp_path: Path) -> None:
    with scratch.folder(PREFIX, tmp_path) as folder:
        (folder / "sub").mkdir()
    with pytest.raises(KeyboardInterrupt), scratch.folder(PREFIX, tmp_path):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_one_that_was_renamed_stays(tmp_path: Path) -> None:
    with scratch.folder(PREFIX, tmp_path) as folder:
        folder.rename(tmp_path / "kept")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    process, folder = hold(tmp_path)
    finish(process)
    assert folder.is_dir()
    with scratch.folder(PREFIX, tmp_path):
        assert not folder.exists()


def test_what_a_living_process_holds_stays_however_old(tmp_path: Path) -> None:
    process, folder = hold(tmp_path)
    try:
        with scratch.folder(PREFIX, tmp_path):
            assert (folder / "large").is_file()
    finally:
        finish(process)


def test_young_others_and_links_stay(tmp_path: Path) -> None:
    young, other, victim = tmp_path / f"{PREFIX}1", tmp_path / "mine", tmp_path / "victim"
    for folder in (young, other, victim):
        folder.mkdir()
    age(other)
    age(victim)
    link = tmp_path / f"{PREFIX}2"
    link.symlink_to(victim)
    (tmp_path / f"{PREFIX}3").write_text("a file")
    age(tmp_path / f"{PREFIX}3")
    scratch.sweep(PREFIX, tmp_path)
    assert young.is_dir()
    assert other.is_dir()
    assert victim.is_dir()
    assert link.is_symlink()
    scratch.sweep(PREFIX, tmp_path, young=-60.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{PREFIX}2", f"{PREFIX}3", "mine", "victim"]


def test_a_folder_that_cannot_be_listed_is_no_error(tmp_path: Path) -> None:
    scratch.sweep(PREFIX, tmp_path / "nowhere")
    assert not list(tmp_path.iterdir())
