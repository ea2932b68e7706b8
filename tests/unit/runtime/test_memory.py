"""Reading and giving back memory."""

from __future__ import annotations

import ctypes
import mmap
import os

import pytest

from edgeship.runtime import memory
from edgeship.runtime.memory import give_back, pss_bytes, rss_bytes


def test_the_proportional_part_is_at_most_the_resident_one() -> None:
    assert 1 << 20 < pss_bytes() <= rss_bytes()
    assert pss_bytes(os.getpid()) > 1 << 20


def test_nothing_is_known_of_a_process_that_is_not_there() -> None:
    assert pss_bytes(1 << 22) == 0


def test_giving_back_keeps_everything_that_was_written() -> None:
    pages = mmap.mmap(-1, 1 << 20)
    pages[:] = b"x" * (1 << 20)
    give_back()
    assert pages[:] == b"x" * (1 << 20)
    assert ctypes.CDLL(None).getpid() == os.getpid()  # code still runs


def test_only_code_of_files_is_given_back() -> None:
    ranges = list(memory._clean_code())
    assert ranges
    with open("/proc/self/maps", encoding="utf-8") as file:
        kinds = {line.split()[0]: line.split() for line in file}
    for start, end in ranges:
        words = kinds[f"{start:x}-{end:x}"] if f"{start:x}-{end:x}" in kinds else kinds[f"{start:08x}-{end:08x}"]
        assert words[1] == "r-xp"
        assert words[5].startswith("/")


def test_without_proc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_more: object) -> None:
        raise OSError("no /proc here")

    monkeypatch.setattr("builtins.open", refuse)
    assert rss_bytes() == 0
    assert list(memory._clean_code()) == []
