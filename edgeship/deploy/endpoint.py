"""What holds for one device: its own record first, then its profile. And the command lines that start its agent.

Every remote argument is one element of an argv list. `command_line` is the only place where a list becomes text.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from edgeship.deploy.device import Device
from edgeship.errors import ConfigError
from edgeship.profile import Profile

#: Exit status of the starter where no agent is installed (EX_NOINPUT of sysexits.h).
NO_AGENT = 66

#: Starts the installed agent; "~" is expanded on the device. No apostrophe and no line break: `proot-distro login`
#: wraps each argument in apostrophes as it is (termux/proot-distro, command_login), and csh knows no quoted line break.
STARTER = (
    "import os,sys;"
    "r=os.path.expanduser(sys.argv[1]);"
    "p=os.path.join(r,\"agent\",\"current\");"
    f"os.path.isfile(p) or sys.exit({NO_AGENT});"
    "os.execv(sys.executable,[sys.executable,\"-I\",p,\"rpc\",\"--root\",r])"
)  # fmt: skip


@dataclass(frozen=True)
class Endpoint:
    """A device's settings after the fallbacks."""

    python: tuple[str, ...]
    root: str
    init: str
    serve_port: int | None
    arch: str | None  # only where the record overrides what the device says of itself

    @property
    def boot_hook(self) -> str:
        """What the agent installs to be started after a reboot: "termux" or "none"."""
        return "termux" if self.init == "termux" else "none"


def resolve(device: Device, profile: Profile) -> Endpoint:
    """Fold a device's record and its profile.

    Raises:
        ConfigError: the record makes no sense.
    """
    if device.transport == "local":
        # The profile's "python3" is found on a board's PATH; here it is this very interpreter.
        python: tuple[str, ...] = device.python or (sys.executable,)
    else:
        python = device.python or profile.system.python
    root = device.root or profile.transport.root
    if not python or not root:
        raise ConfigError(f"{device.name}: neither the device nor profile {profile.name} says how Python is started "
                          "or where the agent lives",
                          hint="edgeship device add again, with a profile that can carry the agent")  # fmt: skip
    port = device.serve_port if device.serve_port is not None else profile.transport.serve_port
    return Endpoint(tuple(python), root, device.init or profile.system.init, port or None, device.arch)


def start_argv(endpoint: Endpoint) -> tuple[str, ...]:
    """Start the agent that is installed; exits with `NO_AGENT` where there is none."""
    return _checked((*endpoint.python, "-c", STARTER, endpoint.root))


def install_argv(endpoint: Endpoint, loader: str) -> tuple[str, ...]:
    """Install the agent that comes on standard input, then become it."""
    return _checked((*endpoint.python, "-c", loader, endpoint.root))


def command_line(argv: Sequence[str]) -> str:
    """One shell command that passes exactly these arguments.

    Raises:
        ConfigError: an argument that no shell can pass.
    """
    if not argv or any("\0" in part for part in argv):
        raise ConfigError(
            f"not a command that can be passed to a device: {list(argv)!r:.200}",
            hint="the profile's python is a list of plain texts; edgeship profile validate FILE",
        )
    return shlex.join(argv)


def _checked(argv: tuple[str, ...]) -> tuple[str, ...]:
    if "proot-distro" in argv[0] and any("'" in part for part in argv):
        raise ConfigError(
            "proot-distro cannot pass an argument with an apostrophe: " + next(p for p in argv if "'" in p)[:80],
            hint="choose another root for this device",
        )
    return argv
