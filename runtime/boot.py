"""The boot hook: a script that starts the supervisor when the device starts.

Termux:Boot runs what lies in `~/.termux/boot/`; virtual devices do the same. On Android the supervisor lives in a
Debian inside proot, whose processes end with the login that started them: so the script runs outside, in Termux's own
shell, and starts Python by the profile's `python` command.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence

from edgeship.runtime import disk as disks
from edgeship.runtime.layout import Layout

TERMUX_HOME = "/data/data/com.termux/files/home"  # seen from inside proot-distro too


def script(python: Sequence[str], layout: Layout) -> str:
    """The text of the hook. Every word is quoted; it returns at once and outlives the session."""
    words = (*python, "-I", layout.agent_current, "supervise", "--root", layout.root)
    command = " ".join(shlex.quote(word) for word in words)
    return (
        "#!/bin/sh\n"
        "# Starts the edgeship agent when the device starts. Written by edgeship; edits are lost.\n"
        "command -v termux-wake-lock >/dev/null 2>&1 && termux-wake-lock\n"
        f"nohup {command} </dev/null >/dev/null 2>&1 &\n"
    )


def hook_path(home: str | None = None) -> str:
    """Where the hook lies: in Termux's home where there is one, else in the user's."""
    base = home or (TERMUX_HOME if os.path.isdir(TERMUX_HOME) else os.path.expanduser("~"))
    return os.path.join(base, ".termux", "boot", "edgeship.sh")


def install(python: Sequence[str], layout: Layout, disk: disks.Disk, *, home: str | None = None) -> str:
    """Write the hook where it differs, durably and executable; returns its path."""
    path, text = hook_path(home), script(python, layout).encode()
    disk.mkdir(os.path.dirname(path))
    if disks.read(path) != text or not os.access(path, os.X_OK):
        disk.write(path, text, mode=0o700)
    return path


def remove(layout: Layout, disk: disks.Disk, *, home: str | None = None) -> None:
    """Take the hook away if it starts this agent; another agent's stays."""
    path = hook_path(home)
    if f" --root {shlex.quote(layout.root)} ".encode() in (disks.read(path) or b""):
        disk.remove(path)
