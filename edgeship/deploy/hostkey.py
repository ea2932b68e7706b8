"""Host keys: pinned one by one at enrolment, never accepted blindly."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from pathlib import Path

from paramiko import HostKeys, PKey, SSHException

from edgeship.deploy.sshconfig import Hop
from edgeship.errors import AuthError, ConfigError

#: Type of a key -> the signature algorithms it can be asked with. A type that is not here is its own algorithm.
_ALGORITHMS = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}


@dataclass(frozen=True)
class HostKey:
    """A host's public key."""

    type: str
    blob: bytes

    @property
    def line(self) -> str:
        """As `Device.host_key` keeps it: `ssh-ed25519 AAAA…`."""
        return f"{self.type} {base64.b64encode(self.blob).decode()}"

    @property
    def fingerprint(self) -> str:
        """As OpenSSH shows it: `SHA256:…`."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")

    @property
    def algorithms(self) -> tuple[str, ...]:
        """Host key algorithms to ask a server for, so that it shows this key."""
        return _ALGORITHMS.get(self.type, (self.type,))

    @classmethod
    def of(cls, key: PKey) -> HostKey:
        """From paramiko's object."""
        return cls(key.get_name(), key.asbytes())

    @classmethod
    def parse(cls, line: str) -> HostKey:
        """From `ssh-ed25519 AAAA…` (a comment behind it is ignored). Raises ConfigError."""
        parts = line.split()
        try:
            blob = base64.b64decode(parts[1], validate=True)
            length = int.from_bytes(blob[:4], "big")
            if blob[4 : 4 + length].decode("ascii") != parts[0]:
                raise ValueError("the type inside is another one")
        except (IndexError, ValueError, binascii.Error) as error:
            raise ConfigError(
                f"not a host key: {line!r:.100} ({error})", hint="edgeship device add NAME reads it from the device"
            ) from error
        return cls(parts[0], blob)


def compare(device: str, pinned: HostKey, seen: HostKey) -> None:
    """Raise AuthError with both fingerprints unless the device showed its pinned key."""
    if seen == pinned:
        return
    raise AuthError(
        f"{device}: the host key has changed. Pinned at enrolment: {pinned.type} {pinned.fingerprint}; "
        f"shown now: {seen.type} {seen.fingerprint}. Nothing was sent",
        device=device, stage="connect",
        hint="somebody may stand between you and the device. If you reinstalled it yourself: "
        f"edgeship device rm {device}, then edgeship device add it again",
    )  # fmt: skip


def known(hop: Hop) -> list[HostKey]:
    """Keys that the user's `known_hosts` files hold for a jump host."""
    name = hop.host if hop.port == 22 else f"[{hop.host}]:{hop.port}"
    files = [keys for path in hop.known_hosts if (keys := _load(path))]
    return [HostKey.of(key) for keys in files for key in (keys.lookup(name) or {}).values()]


def _load(path: Path) -> HostKeys | None:
    try:
        return HostKeys(str(path))
    except FileNotFoundError:
        return None
    except (OSError, SSHException, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read {path}: {error}", hint="ssh-keygen -R HOST takes a damaged line out of it"
        ) from error


def check_jump(device: str, hop: Hop, keys: list[HostKey], seen: HostKey) -> None:
    """Raise AuthError unless a jump host showed a key of `known_hosts`."""
    if seen in keys:
        return
    what = f"shows {seen.type} {seen.fingerprint}"
    if not keys:
        raise AuthError(
            f"{device}: the jump host {hop} is unknown and {what}", device=device, stage="connect",
            hint=f"check the fingerprint and log in there once: ssh {hop.alias}",
        )  # fmt: skip
    old = ", ".join(f"{key.type} {key.fingerprint}" for key in keys)
    raise AuthError(
        f"{device}: the host key of the jump host {hop} has changed: it {what}; known_hosts has {old}",
        device=device, stage="connect", hint=f"find out why before you go on; then ssh-keygen -R {hop.host}",
    )  # fmt: skip
