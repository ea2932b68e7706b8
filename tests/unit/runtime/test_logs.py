"""The log: bounded, one line a line, safe to print, and no reason to stop."""

from __future__ import annotations

from pathlib import Path

from edgeship.runtime.disk import Disk
from edgeship.runtime.logs import MAX_BYTES, Log, printable, tail


def test_lines_come_back_in_order(tmp_path: Path) -> None:
    log = Log(str(tmp_path), Disk())
    for index in range(5):
        log.write(f"line {index}")
    assert [line.split(" ", 1)[1] for line in log.tail(3)] == ["line 2", "line 3", "line 4"]
    assert log.tail(0) == []
    assert tail(str(tmp_path / "nothing"), 5) == []


def test_control_characters_do_not_get_through(tmp_path: Path) -> None:
    log = Log(str(tmp_path), Disk())
    log.write("evil\n2026-01-01T00:00:00Z forged \x1b[31mred\x07\x00")
    (line,) = log.tail(10)
    assert "evil 2026" in line
    assert printable("a\x1b[0m\nb") == "a [0m b"
    assert len(printable("x" * 100_000)) == 1000


def test_size_is_bounded_and_the_last_lines_are_kept(tmp_path: Path) -> None:
    log = Log(str(tmp_path), Disk())
    for index in range(600):
        log.write(f"{index} " + "x" * 900)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2 * MAX_BYTES
    assert len(list(tmp_path.iterdir())) == 2
    assert log.tail(1)[0].split()[1] == "599"
    assert len(log.tail(10_000)) > 100


def test_zeros_that_a_power_cut_left_hide_no_line(tmp_path: Path) -> None:
    """ext4 keeps the length of what was appended and not synced, without the bytes; seen on a real one."""
    log = Log(str(tmp_path), Disk())
    log.write("before")
    with (tmp_path / "agent.log").open("ab") as file:
        file.write(b"2026-11-22T09:30:00Z ha" + bytes(3000))
    log.write("after")
    assert [line.split(" ", 1)[1] for line in log.tail(10)] == ["before", "ha", "after"]


def test_a_disk_that_refuses_does_not_stop_the_agent(tmp_path: Path) -> None:
    class Full(Disk):
        def step(self, action: str, path: str) -> None:
            raise OSError(28, "No space left on device")

    log = Log(str(tmp_path), Full())
    log.write("lost")
    assert log.lost == 1
    (tmp_path / "agent.log").symlink_to("/etc/passwd")
    assert tail(str(tmp_path), 10) == []
