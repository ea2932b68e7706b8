"""Contact with a device: start its agent, install or upgrade it where needed, enrol, configure, read its facts.

Every step can be repeated: a contact that was cut anywhere is simply made again.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from edgeship.deploy import loader, zipapp
from edgeship.deploy.client import NOT_INSTALLED, AgentClient
from edgeship.deploy.device import Device
from edgeship.deploy.endpoint import Endpoint, install_argv, resolve, start_argv
from edgeship.deploy.facts import Facts
from edgeship.deploy.transport import Transport, clean, connect
from edgeship.errors import DeviceError, UnfitError
from edgeship.profile import Profile, version_tuple
from edgeship.reporter import Reporter
from edgeship.runtime.errors import ProtocolError
from edgeship.runtime.wire import PROTOCOL, need

CLOCK_SKEW = 300.0  # seconds of difference that a person should know of


@dataclass(frozen=True)
class Settings:
    """What a push tells an agent beside the release."""

    window_seconds: float = 60.0


@dataclass(frozen=True)
class Agent:
    """The agent as this host ships it."""

    zipapp: bytes
    sha256: str
    loader: str = loader.LOADER

    @classmethod
    def own(cls) -> Agent:
        """Build it; the same sources give the same bytes."""
        raw = zipapp.build()
        return cls(raw, hashlib.sha256(raw).hexdigest())


@dataclass(frozen=True)
class Hello:
    """Who answers."""

    protocol: int
    agent: str  # version
    agent_sha256: str
    enrolled: bool
    root_sha256: str | None
    name: str
    clock_skew_seconds: float

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Hello:
        """From an agent's answer. Raises ProtocolError."""
        root = data.get("root_sha256")
        return cls(
            protocol=need(data, "protocol", int),
            agent=clean(need(data, "agent", str))[:64],
            agent_sha256=clean(need(data, "agent_sha256", str))[:64],
            enrolled=need(data, "enrolled", bool),
            root_sha256=root if isinstance(root, str) else None,
            name=clean(str(data.get("name") or ""))[:64],
            clock_skew_seconds=float(need(data, "clock_skew_seconds", (int, float))),
        )


@dataclass
class Link:
    """An open connection to a device's agent."""

    transport: Transport
    client: AgentClient
    hello: Hello
    installed_bytes: int = 0  # of the agent, sent by this contact

    def close(self) -> None:
        """End it."""
        self.client.close()
        self.transport.close()


@dataclass
class Session:
    """A device that is enrolled and configured, ready for a release."""

    device: Device
    profile: Profile
    link: Link
    facts: Facts
    agent_bytes: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def client(self) -> AgentClient:
        """For requests."""
        return self.link.client

    @property
    def hello(self) -> Hello:
        """Who answers."""
        return self.link.hello

    def close(self) -> None:
        """End it."""
        self.link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_agent(device: Device, profile: Profile, *, reporter: Reporter, install: Agent | None = None) -> Link:
    """Connect and start the agent that is on the device; with `install`, put one there where there is none.

    Raises:
        AuthError, UnreachableError, ConfigError: as `transport.connect`.
        DeviceError: no agent (code "no-agent"), no Python (code "no-python"), or another protocol.
    """
    endpoint = resolve(device, profile)
    transport = connect(device, profile, reporter=reporter)
    try:
        try:
            return _start(transport, start_argv(endpoint), device, b"")
        except DeviceError as error:
            if install is None or error.code != NOT_INSTALLED:
                raise
        parcel = loader.header(install.zipapp) + install.zipapp
        link = _start(transport, install_argv(endpoint, install.loader), device, parcel)
        link.installed_bytes = len(install.zipapp)
        return link
    except BaseException:
        transport.close()
        raise


def _start(transport: Transport, argv: tuple[str, ...], device: Device, parcel: bytes) -> Link:
    client = AgentClient(transport.open(argv), device.name)
    try:
        if parcel:
            client.preface(parcel)
        return Link(transport, client, _greet(client, device))
    except BaseException:
        client.close()
        raise


def _greet(client: AgentClient, device: Device) -> Hello:
    """Say hello. Raises DeviceError when the two sides speak different protocols."""
    reply = client.request("hello", protocol=PROTOCOL, clock=time.time())
    try:
        hello = Hello.parse(reply.result)
    except ProtocolError as error:
        raise DeviceError(f"{device.name}: the agent's greeting cannot be read: {error}", device=device.name,
                          stage="connect", code="protocol") from error  # fmt: skip
    if hello.protocol != PROTOCOL:
        raise DeviceError(
            f"{device.name}: its agent {hello.agent} speaks protocol {hello.protocol}, this edgeship speaks {PROTOCOL}",
            device=device.name, stage="connect", hint="pip install --upgrade edgeship, on the host that is older",
        )  # fmt: skip
    return hello


def contact(
    device: Device, profile: Profile, *, root_json: bytes, settings: Settings, reporter: Reporter,
    agent: Agent | None = None,
) -> Session:  # fmt: skip
    """Bring a device to the point where it can take a release.

    Args:
        device: its record.
        profile: its profile; an unsupported one is refused before anything is sent.
        root_json: the first root of the fleet's releases.
        settings: what the agent is told.
        reporter: told about an upgrade and a wrong clock.
        agent: the agent to install; None: this host's own.

    Raises:
        UnfitError: the profile cannot carry the agent.
        AuthError, UnreachableError, DeviceError: see the message.
    """
    if profile.supported is not None:
        raise UnfitError(
            f"{device.name}: profile {profile.name} cannot carry the agent: {profile.supported}", device=device.name,
            stage="fit", hint="edgeship profile list shows the boards that can",
        )  # fmt: skip
    own = agent or Agent.own()
    link = open_agent(device, profile, reporter=reporter, install=own)
    try:
        sent = link.installed_bytes
        if _is_upgrade(link.hello, own):
            sent += _upgrade(device, link, own, reporter)
        session = Session(device, profile, link, _enrol(device, profile, link, root_json, settings), sent)
    except BaseException:
        link.close()
        raise
    skew = link.hello.clock_skew_seconds
    if abs(skew) > CLOCK_SKEW:
        session.notes.append(f"its clock is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}")
        reporter.note(f"{device.name}: {session.notes[-1]}; signatures are judged with that corrected")
    return session


def _is_upgrade(hello: Hello, own: Agent) -> bool:
    """Another build of our version or an older one; a newer agent that speaks our protocol stays."""
    from edgeship import __version__

    return hello.agent_sha256 != own.sha256 and version_tuple(hello.agent) <= version_tuple(__version__)


def _upgrade(device: Device, link: Link, own: Agent, reporter: Reporter) -> int:
    """Put our agent in the place of the one that answers; gives the bytes sent. It goes on on the same channel."""
    reporter.note(f"{device.name}: agent {link.hello.agent} is replaced by this host's")
    link.client.request(
        "put", _chunks(own.zipapp), kind="agent", name="agent", sha256=own.sha256, bytes=len(own.zipapp),
        encoding="raw", offset=0, encoded_bytes=len(own.zipapp),
    )  # fmt: skip
    link.hello = _greet(link.client, device)
    if link.hello.agent_sha256 != own.sha256:
        raise DeviceError(f"{device.name}: the new agent did not take over", device=device.name, stage="connect",
                          hint=f"edgeship logs {device.name}")  # fmt: skip
    return len(own.zipapp)


def _enrol(device: Device, profile: Profile, link: Link, root_json: bytes, settings: Settings) -> Facts:
    """Enrol where needed, configure, read the facts: sent ahead, one wait."""
    endpoint = resolve(device, profile)
    client = link.client
    if not link.hello.enrolled or link.hello.root_sha256 != hashlib.sha256(root_json).hexdigest():
        root = base64.b64encode(root_json).decode()
        client.request("enroll", name=device.name, profile=profile.name, root=root)
    configured = client.submit("configure", **_configuration(endpoint, profile, settings))
    asked = client.submit("facts")
    client.wait(configured)
    return read_facts(client, asked)


def read_facts(client: AgentClient, asked: int | None = None) -> Facts:
    """The device's facts; `asked` is the number of a request that is under way. Raises DeviceError."""
    name = client.device_name
    try:
        return Facts.parse(client.wait(client.submit("facts") if asked is None else asked).result)
    except ProtocolError as error:
        raise DeviceError(f"{name}: its facts cannot be read: {error}", device=name, stage="fit", code="protocol",
                          hint="update edgeship on the host that is older") from error  # fmt: skip


def _configuration(endpoint: Endpoint, profile: Profile, settings: Settings) -> dict[str, Any]:
    return {
        "serve_port": endpoint.serve_port, "window_seconds": settings.window_seconds,
        "temperature": profile.temperature, "arch": endpoint.arch, "boot_hook": endpoint.boot_hook,
        "python": list(endpoint.python),
    }  # fmt: skip


def _chunks(data: bytes, size: int = 1 << 16) -> Iterable[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))
