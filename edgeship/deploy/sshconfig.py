"""Where a device is, by its record, `~/.ssh/config` and its profile, in that order.

Read of the configuration: Host, Match (as far as paramiko goes), HostName, User, Port, IdentityFile, IdentitiesOnly,
ProxyJump, UserKnownHostsFile. `Include` and `ProxyCommand` are not read yet, and said so instead of being skipped.
"""

from __future__ import annotations

import getpass
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paramiko import SSHConfig
from paramiko.ssh_exception import ConfigParseError, CouldNotCanonicalize

from edgeship.deploy.device import Device
from edgeship.errors import ConfigError

DEFAULT_IDENTITIES = ("id_ed25519", "id_ecdsa", "id_rsa")
MAX_HOPS = 8
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:%-]*")
_USER = re.compile(r"[^\s\x00-\x1f@:-][^\s\x00-\x1f@:]*")
_HOP = re.compile(r"(?:ssh://)?(?:(?P<user>[^@]+)@)?(?P<host>\[[^\]]+\]|[^:\[\]]+)(?::(?P<port>\d+))?/?")


@dataclass(frozen=True)
class Hop:
    """One SSH server on the way, and how to log in there."""

    alias: str  # as it was written
    host: str
    port: int
    user: str
    identities: tuple[Path, ...]  # explicit ones, in the order to try
    identities_only: bool
    known_hosts: tuple[Path, ...]

    def __str__(self) -> str:
        """For messages: `pi@10.0.0.7:22`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}:{self.port}"


@dataclass(frozen=True)
class Route:
    """The way to a device: jump hosts in order, then the device itself."""

    jumps: tuple[Hop, ...]
    device: Hop


def config_path() -> Path:
    """The user's SSH configuration."""
    return Path.home() / ".ssh" / "config"


def route(
    device: Device, *, default_user: str, default_port: int, path: Path | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> Route:  # fmt: skip
    """Resolve the way to a device.

    Args:
        device: its record; `host` is a name, an address or an alias of the configuration.
        default_user: the profile's.
        default_port: the profile's.
        path: the SSH configuration; None: the user's own.
        note: told about directives that are not read.

    Raises:
        ConfigError: the configuration cannot be read, or what it says makes no sense.
    """
    config = _load(path or config_path(), note)
    last = _hop(config, device.host or device.name, device.user, device.port, default_user, default_port)
    if device.identity:
        last = Hop(last.alias, last.host, last.port, last.user, (Path(device.identity).expanduser(),), True,
                   last.known_hosts)  # fmt: skip
    return Route(tuple(_jumps(config, last.alias, ())), last)


def _load(path: Path, note: Callable[[str], None]) -> SSHConfig:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return SSHConfig()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read {path}: {error}", hint="may you read it? ssh -G HOST shows whether ssh can"
        ) from error
    if re.search(r"^\s*Include\s", text, re.IGNORECASE | re.MULTILINE):
        note(f"{path} has Include lines, which edgeship does not follow yet: put the Host sections in it")
    try:
        return SSHConfig.from_text(text)
    except ConfigParseError as error:
        raise ConfigError(f"{path}: {error}", hint="mend the line; ssh -G HOST shows whether ssh takes it") from error


def _hop(
    config: SSHConfig, alias: str, user: str | None, port: int | None, default_user: str, default_port: int
) -> Hop:  # fmt: skip
    if not _HOST.fullmatch(alias):
        raise ConfigError(
            f"not the name or address of a host: {alias!r:.80}", hint="a name, an address, or an alias of ~/.ssh/config"
        )
    options = _lookup(config, alias)
    if options.get("proxycommand") and "proxyjump" not in options:
        raise ConfigError(f"{alias}: ProxyCommand of ~/.ssh/config is not supported yet", hint="use ProxyJump")
    host = str(options["hostname"])
    name = user or str(options.get("user") or default_user or getpass.getuser())
    try:
        number = port or int(options.get("port") or default_port)
    except ValueError:
        raise ConfigError(
            f"{alias}: Port {options.get('port')!r:.20} of ~/.ssh/config is no number",
            hint="mend Port in ~/.ssh/config; ssh -G HOST shows what it says",
        ) from None
    if not _HOST.fullmatch(host) or not _USER.fullmatch(name) or not 0 < number < 65536:
        raise ConfigError(
            f"{alias}: not an address to log in to: {name!r:.80} at {host!r:.80}, port {number}",
            hint="USER@HOST, or a name of ~/.ssh/config",
        )
    files: Sequence[str] = options.get("identityfile", [])
    known = str(options.get("userknownhostsfile") or "~/.ssh/known_hosts").split()
    return Hop(
        alias, host, number, name,
        tuple(Path(f).expanduser() for f in files if f.lower() != "none"),
        str(options.get("identitiesonly", "no")).lower() == "yes",
        (*(Path(k).expanduser() for k in known if k.lower() != "none"), Path("/etc/ssh/ssh_known_hosts")),
    )  # fmt: skip


def _jumps(config: SSHConfig, alias: str, seen: tuple[str, ...]) -> list[Hop]:
    """The hops before `alias`. The first of a list may have a ProxyJump of its own, as in OpenSSH."""
    value = str(_lookup(config, alias).get("proxyjump", "none"))
    if value.lower() == "none":
        return []
    if alias in seen or len(seen) >= MAX_HOPS:
        raise ConfigError(
            f"ProxyJump of ~/.ssh/config goes in a circle: {' -> '.join((*seen, alias))}",
            hint="mend ProxyJump in ~/.ssh/config; ssh -G HOST shows what it says",
        )
    hops: list[Hop] = []
    for part in value.split(","):
        found = _HOP.fullmatch(part.strip())
        if not found:
            raise ConfigError(
                f"{alias}: ProxyJump {part.strip()!r:.80} is not [user@]host[:port]",
                hint="mend ProxyJump in ~/.ssh/config; ssh -G HOST shows what it says",
            )
        host = found["host"].strip("[]")
        port = int(found["port"]) if found["port"] else None
        hops.append(_hop(config, host, found["user"], port, getpass.getuser(), 22))
    return [*_jumps(config, hops[0].alias, (*seen, alias)), *hops]


def _lookup(config: SSHConfig, alias: str) -> dict[str, Any]:
    try:
        return dict(config.lookup(alias))
    except (ConfigParseError, CouldNotCanonicalize, ImportError, KeyError, ValueError) as error:
        raise ConfigError(
            f"{alias}: ~/.ssh/config says something that edgeship cannot follow: {error}",
            hint="name host, user, port and identity in `edgeship device add` instead",
        ) from error
