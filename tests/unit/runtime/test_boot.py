"""The boot hook: its text, quoting included, and where it lies."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeship.runtime import boot
from edgeship.runtime.disk import Disk
from edgeship.runtime.layout import Layout

PROOT = ("proot-distro", "login", "debian", "--", "python3")


def command(text: str) -> list[str]:
    """The words of the command that the hook starts."""
    line = text[text.index("nohup ") :].removesuffix(" </dev/null >/dev/null 2>&1 &\n")
    return shlex.split(line)


def test_the_termux_command_line() -> None:
    text = boot.script(PROOT, Layout("/srv/edgeship"))
    assert text.startswith("#!/bin/sh\n")
    assert command(text) == [
        "nohup", *PROOT, "-I", "/srv/edgeship/agent/current", "supervise", "--root",
        "/srv/edgeship",
    ]  # fmt: skip


@pytest.mark.parametrize("nasty", ["a b", "a'b", 'a"b', "a;rm -rf b", "$(x)", "a\nb", "-x", "ü"])
def test_every_word_is_quoted(nasty: str) -> None:
    layout = Layout(f"/home/{nasty}/agent")
    assert command(boot.script(("python3", nasty), layout))[1:] == [
        "python3", nasty, "-I", layout.agent_current, "supervise", "--root", layout.root,
    ]  # fmt: skip


def test_the_hook_runs_and_returns_at_once(tmp_path: Path) -> None:
    told = tmp_path / "told"
    python = tmp_path / "my python"
    python.write_text(f'#!/bin/sh\nsleep 0.2\nfor word in "$@"; do printf "%s\\n" "$word"; done > {told}\n')
    python.chmod(0o755)
    layout = Layout(str(tmp_path / "it's a\nroot"))
    path = boot.install((str(python),), layout, Disk(), home=str(tmp_path))
    subprocess.run([path], check=True, timeout=30, env={"PATH": os.environ["PATH"]})
    end = time.monotonic() + 20
    while not (told.exists() and told.read_text().endswith("root\n")) and time.monotonic() < end:
        time.sleep(0.02)
    assert told.read_text() == f"-I\n{layout.agent_current}\nsupervise\n--root\n{layout.root}\n"


def test_installing_is_idempotent_and_repairs(tmp_path: Path) -> None:
    class Counting(Disk):
        writes = 0

        def step(self, action: str, path: str) -> None:
            self.writes += action == "create"

    disk, layout = Counting(), Layout("/r")
    path = Path(boot.install((sys.executable,), layout, disk, home=str(tmp_path)))
    assert path == tmp_path / ".termux" / "boot" / "edgeship.sh"
    assert os.access(path, os.X_OK)
    boot.install((sys.executable,), layout, disk, home=str(tmp_path))
    assert disk.writes == 1
    path.write_text("something else")
    boot.install((sys.executable,), layout, disk, home=str(tmp_path))
    assert path.read_text() == boot.script((sys.executable,), layout)


def test_removing_takes_only_our_own(tmp_path: Path) -> None:
    path = Path(boot.install(("python3",), Layout("/one"), Disk(), home=str(tmp_path)))
    boot.remove(Layout("/two"), Disk(), home=str(tmp_path))
    assert path.exists()
    boot.remove(Layout("/one"), Disk(), home=str(tmp_path))
    assert not path.exists()
    boot.remove(Layout("/one"), Disk(), home=str(tmp_path))


def test_the_home_is_termuxs_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/pi")
    assert boot.hook_path() == "/home/pi/.termux/boot/edgeship.sh"
    monkeypatch.setattr(boot, "TERMUX_HOME", str(tmp_path))
    assert boot.hook_path() == f"{tmp_path}/.termux/boot/edgeship.sh"
