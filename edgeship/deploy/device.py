"""The record of an enrolled device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Device:
    """A board as the fleet knows it. Empty or None fields fall back to the profile's `[transport]` and `[system]`."""

    name: str
    profile: str
    transport: str = "ssh"  # ssh | local (a child process of this host)
    host: str = ""  # name, address or alias of ~/.ssh/config
    port: int | None = None
    user: str | None = None
    identity: str | None = None  # path of a private key
    host_key: str | None = None  # "ssh-ed25519 AAAA…", pinned at enrolment
    root: str | None = None  # the agent's folder on the device
    serve_port: int | None = None  # on the device's loopback; 0: Unix socket only
    python: tuple[str, ...] = ()  # argv that starts Python there
    arch: str | None = None  # overrides: a virtual device is not what its profile says
    init: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
