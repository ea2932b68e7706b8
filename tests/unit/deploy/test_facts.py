"""Facts: what a device says of itself is bounded before it is believed."""

from typing import Any

import pytest

from edgeship.deploy.facts import Facts
from edgeship.runtime.errors import ProtocolError
from tests.simulators.board import FACTS


def test_facts_are_read() -> None:
    facts = Facts.parse(FACTS)
    assert (facts.arch, facts.python, facts.libc) == ("aarch64", "3.11.2", ("glibc", "2.36"))
    assert facts.inodes_free == 100_000


@pytest.mark.parametrize(
    "change",
    [
        {"arch": 3}, {"libc": ["glibc"]}, {"libc": ["glibc", 2]}, {"ctypes": "yes"}, {"disk_free_bytes": -1},
        {"disk_free_bytes": 1 << 70}, {"disk_free_bytes": True}, {"python": None}, {"inodes_free": "x"},
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        Facts.parse(FACTS | change)


def test_text_is_cleaned_and_cut() -> None:
    facts = Facts.parse(FACTS | {"board": "\x1b[31mPi\n" + "x" * 999, "hostname": None, "inodes_free": None})
    assert facts.board.startswith(" [31mPi x")
    assert len(facts.board) == 200
    assert facts.hostname == ""
    assert facts.inodes_free is None
