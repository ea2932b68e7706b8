"""Enrolling a device on the host: look at its host key, pin it, log in once; and logging in with the system's ssh.

Rules this module keeps:

* A host key is pinned after somebody said that it is the device's, never by itself.
* The system's ssh is given exactly the pinned key, and the record's host, port, user and identity.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgeship.deploy import sshconfig
from edgeship.deploy.device import Device
from edgeship.deploy.endpoint import command_line
from edgeship.deploy.hostkey import HostKey
from edgeship.deploy.ssh import scan_host_key
from edgeship.deploy.transport import connect
from edgeship.errors import AuthError, DeviceError, UnfitError, UsageError
from edgeship.profile import Profile
from edgeship.reporter import Reporter
from edgeship.runtime.errors import ProtocolError
from edgeship.runtime.wire import check_name


def check_new(name: str, devices: Sequence[Device]) -> None:
    """Raise UsageError unless `name` can be that of a new device."""
    try:
        check_name(name, "a device's name")
    except ProtocolError as error:
        raise UsageError(str(error), hint="letters, digits, '.', '_' and '-' make a name") from error
    if any(device.name == name for device in devices):
        raise UsageError(
            f"there is a device {name!r} already", hint=f"edgeship device rm {name}, or choose another name"
        )


def look(device: Device, profile: Profile, *, reporter: Reporter) -> HostKey:
    """The host key that a device shows. Nothing is sent to it.

    Raises:
        UnfitError: its profile cannot carry the agent.
        UnreachableError, AuthError, ConfigError: as `ssh.scan_host_key`.
    """
    if profile.supported is not None:
        raise UnfitError(
            f"{device.name}: profile {profile.name} cannot carry the agent: {profile.supported}",
            device=device.name, stage="fit", hint="edgeship profile list",
        )  # fmt: skip
    return scan_host_key(device, profile, reporter=reporter)


def check_fingerprint(device: Device, seen: HostKey, expected: str | None) -> None:
    """Raise AuthError when a fingerprint was given and the device shows another one."""
    if expected is not None and seen.fingerprint != expected:
        raise AuthError(
            f"{device.name}: shows {seen.fingerprint}, expected was {expected}; nothing was saved",
            device=device.name, stage="connect", hint="ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub on the device",
        )  # fmt: skip


def pin(device: Device, profile: Profile, seen: HostKey, *, reporter: Reporter) -> Device:
    """The device with its host key, after one login.

    Raises:
        AuthError, UnreachableError, ConfigError: as `transport.connect`.
    """
    pinned = replace(device, host_key=seen.line)
    connect(pinned, profile, reporter=reporter).close()
    return pinned


def fingerprint(device: Device) -> str | None:
    """The fingerprint of the pinned host key, if there is one."""
    return HostKey.parse(device.host_key).fingerprint if device.host_key else None


def ssh_argv(device: Device, profile: Profile, known_hosts: Path, command: Sequence[str]) -> list[str]:
    """The command line of the system's ssh for a device.

    Raises:
        UsageError: the device is no SSH device.
        AuthError: it has no pinned host key.
    """
    if device.transport != "ssh":
        raise UsageError(
            f"{device.name} is a child process of this host; there is nothing to log in to", hint="it is used as it is"
        )
    if not device.host_key:
        raise AuthError(
            f"{device.name}: its host key is not known",
            device=device.name,
            stage="connect",
            hint="edgeship device add NAME USER@HOST, and compare the fingerprint that it shows",
        )
    options = {
        "UserKnownHostsFile": str(known_hosts), "GlobalKnownHostsFile": "/dev/null", "HostKeyAlias": device.name,
        "StrictHostKeyChecking": "yes", "CheckHostIP": "no", "ForwardAgent": "no", "UpdateHostKeys": "no",
    }  # fmt: skip
    # ssh itself follows the alias's ProxyJump; user and port are what every other connection of ours uses.
    hop = sshconfig.route(device, default_user=profile.transport.user, default_port=profile.transport.port).device
    argv = ["ssh", *(f"-o{key}={value}" for key, value in options.items()), "-p", str(hop.port), "-l", hop.user]
    if device.identity:
        argv += ["-i", str(Path(device.identity).expanduser()), "-oIdentitiesOnly=yes"]
    return [*argv, "--", hop.alias, *([command_line(command)] if command else [])]


def login(device: Device, profile: Profile, command: Sequence[str]) -> int:
    """Run the system's ssh; its streams are this process's own.

    Returns:
        its exit status: the command's, or 255 where the connection failed.

    Raises:
        DeviceError: there is no ssh on this host.
        UsageError, AuthError: as `ssh_argv`.
    """
    with tempfile.TemporaryDirectory(prefix="edgeship-ssh-") as folder:
        known_hosts = Path(folder) / "known_hosts"
        argv = ssh_argv(device, profile, known_hosts, command)
        known_hosts.write_text(f"{device.name} {device.host_key}\n", encoding="utf-8")
        try:
            return subprocess.run(argv, check=False).returncode
        except FileNotFoundError as error:
            raise DeviceError(
                "this host has no ssh command", device=device.name, hint="apt-get install openssh-client"
            ) from error  # fmt: skip
