"""Virtual devices: real SSH servers on this host that a push cannot tell from boards.

    lab = Lab(project.state / "lab", label=project.name)
    devices = lab.up()          # records for the inventory; a device that has power already is left alone
    lab.power_off("pi")         # as `faults.fault(lab, "pi", "power-cut")` does
    lab.down()

Each takes every decision of its profile's `[build]`; architecture, Python, user, port and root are overridden in its
record, so that it is what it is. Where Debian's sshd and bubblewrap are missing, an asyncssh server takes their place.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from edgeship.deploy.device import Device
from edgeship.errors import UsageError
from edgeship.lab import fallback, sshd, virtual
from edgeship.lab.virtual import Virtual
from edgeship.profile import load as load_profile
from edgeship.release import durable
from edgeship.runtime.errors import ProtocolError
from edgeship.runtime.wire import check_name

IDENTITY = "id_ed25519"


@dataclass(frozen=True)
class Spec:
    """A virtual device to make."""

    name: str
    profile: str
    disk_bytes: int | None = None  # None: this host's disk


DEFAULTS = (
    Spec("pi", "raspberry-pi-5"), Spec("jetson", "jetson-orin-nano"), Spec("phone", "android-termux"),
)  # fmt: skip


class Lab:
    """The virtual devices of one project, in one folder."""

    def __init__(self, folder: Path, label: str) -> None:
        self.folder, self._label = folder.resolve(), label

    def up(
        self,
        specs: Sequence[Spec] = DEFAULTS,
        *,
        server: str | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> list[Device]:
        """Make these devices where they are not, give them power where they have none.

        Args:
            specs: which.
            server: "sshd" or "asyncssh"; None: sshd where it can be had.
            say: told which server new devices use, and why.

        Raises:
            UsageError: a name is no plain name, an unknown profile, or neither kind of server can be had.
            DeviceError: one does not start.
        """
        with durable.exclusive(self.folder / "lock"):
            made = [self._make(spec, server, say) for spec in specs]
            return [self._power_on(v).device(self.identity) for v in made]

    def down(self, names: Sequence[str] = ()) -> list[str]:
        """End these devices (all, when none is named) and remove their files; gives their names."""
        with durable.exclusive(self.folder / "lock"):
            found = [self._get(name) for name in names] if names else self.list()
            for device in found:
                device.off()
                shutil.rmtree(self.folder / device.name)
            return [device.name for device in found]

    def list(self) -> list[Virtual]:
        """Every virtual device, by name, with or without power."""
        if not self.folder.is_dir():
            return []
        return [virtual.load(path.parent) for path in sorted(self.folder.glob("*/device.json"))]

    def power_off(self, name: str) -> Virtual:
        """Cut a device's power; its files stay as they are at this moment."""
        with durable.exclusive(self.folder / "lock"):
            device = self._get(name).off()
            virtual.save(self.folder / name, device)
            return device

    def power_on(self, name: str) -> Virtual:
        """Give a device power again; its boot hooks run."""
        with durable.exclusive(self.folder / "lock"):
            return self._power_on(self._get(name))

    @property
    def identity(self) -> Path:
        """The private key that logs in to all of them."""
        return self.folder / IDENTITY

    def _get(self, name: str) -> Virtual:
        names = [device.name for device in self.list()]
        if name not in names:
            known = ", ".join(names) or "there is none"
            raise UsageError(f"no virtual device {name!r:.80} ({known})", hint="edgeship lab up")
        return virtual.load(self.folder / name)

    def _make(self, spec: Spec, server: str | None, say: Callable[[str], None]) -> Virtual:
        try:
            folder = self.folder / check_name(spec.name, "device")
        except ProtocolError as error:
            raise UsageError(str(error), hint="letters, digits, '.', '_' and '-' make a name") from error
        if (folder / "device.json").is_file():
            found = virtual.load(folder)
            if found.profile != spec.profile:
                raise UsageError(f"virtual device {spec.name} is a {found.profile}, not a {spec.profile}",
                                 hint=f"edgeship lab down {spec.name}")  # fmt: skip
            return found
        profile = load_profile(spec.profile)
        kind = server or _server(say)
        host_key, public = _key_pair()
        port, serve_port = virtual.free_ports(2)
        # asyncssh runs commands as the user that started it; sshd's device has accounts of its own.
        user = (profile.transport.user or "edge") if kind == "sshd" else "edge"
        device = Virtual(
            name=spec.name, profile=spec.profile, label=self._label, user=user, port=port, serve_port=serve_port,
            server=kind, host_key=public, arch=platform.machine(), disk_bytes=spec.disk_bytes,
            python=sshd.python_command()[0] if kind == "sshd" else fallback.python_command(),
        )  # fmt: skip
        prepare = sshd.prepare if kind == "sshd" else fallback.prepare
        prepare(folder, device, host_key, self._authorized())
        virtual.save(folder, device)
        return device

    def _power_on(self, device: Virtual) -> Virtual:
        if device.running:
            return device
        folder = self.folder / device.name
        started = sshd.start(folder, device) if device.server == "sshd" else fallback.start(folder, device)
        virtual.save(folder, started)
        virtual.wait_for_ssh(started, folder / "log")
        return started

    def _authorized(self) -> str:
        """The line that lets the lab's own key in; makes the key where there is none."""
        public = self.identity.with_suffix(".pub")
        if not self.identity.is_file() or not public.is_file():
            private, line = _key_pair()
            durable.write(public, f"{line} edgeship-lab\n".encode())
            durable.write(self.identity, private, mode=0o600)
        return public.read_text(encoding="utf-8")


def _server(say: Callable[[str], None]) -> str:
    """Which SSH server new devices use. Raises UsageError when none can be had."""
    why = sshd.missing()
    if why is None:
        return "sshd"
    absent = fallback.missing()
    if absent is not None:
        raise UsageError(f"no SSH server for virtual devices: {why}; {absent}",
                         hint="apt install openssh-server bubblewrap, or pip install 'edgeship[lab]'")  # fmt: skip
    say(f"virtual devices use asyncssh instead of OpenSSH: {why}")
    return "asyncssh"


def _key_pair() -> tuple[bytes, str]:
    """A new ed25519 key: the private file as OpenSSH keeps it, and the public line."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    return private, key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
