"""SSH through paramiko: exec channels only, nothing else of SSH is used.

* The host key is compared before anything is sent; a device without a pinned key is not talked to.
* Every stage has a timeout; a dead network is noticed through keepalives and TCP_USER_TIMEOUT.
* Sends are sliced below the peer's packet size: `Channel.sendall` of a large buffer is quadratic. AES-GCM comes first:
  paramiko has it last in its order. Writes do not wait for Nagle (TCP_NODELAY).
* `MaxStartups` and `MaxSessions` of sshd are the defaults on real boards: a connection dropped before its banner and a
  refused channel are tried again with a growing, jittered pause.
"""

from __future__ import annotations

import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

import paramiko
from paramiko.ssh_exception import ChannelException, IncompatiblePeer, SSHException

from edgeship.deploy import hostkey, sshconfig
from edgeship.deploy.device import Device
from edgeship.deploy.endpoint import command_line
from edgeship.deploy.hostkey import HostKey
from edgeship.deploy.sshauth import log_in
from edgeship.deploy.sshconfig import Hop, Route
from edgeship.deploy.transport import BROKEN, STDERR_BYTES, STILL_ON, Ended, clean, last_lines
from edgeship.errors import AuthError, UnreachableError
from edgeship.profile import Profile
from edgeship.reporter import Reporter

# paramiko logs what it also raises; without a handler Python would print that to the user's terminal.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")
MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512")
UNSENT = 1 << 17  # bytes that may wait in the kernel
TRIES = 6  # connections dropped before their banner, channels refused


@dataclass(frozen=True)
class Timeouts:
    """Seconds for each stage."""

    connect: float = 10.0
    banner: float = 15.0
    handshake: float = 20.0
    auth: float = 30.0
    channel: float = 20.0
    read: float = 300.0  # without a byte from the agent; a probe on a slow board takes its time
    dead: float = 30.0  # unacknowledged data until the network counts as gone
    pause: float = 0.25  # before the second try; doubles


class SshStream:
    """Standard input and output of a process on the device."""

    def __init__(self, channel: paramiko.Channel, transport: paramiko.Transport, timeouts: Timeouts) -> None:
        self._channel, self._transport = channel, transport
        self._slice = max(1, channel.out_max_packet_size - 64)
        self._end_timeout = timeouts.channel
        self._stderr = b""

    def read(self, n: int) -> bytes:
        """Up to n bytes; b"" at the end."""
        with _as_os_error():
            data = self._channel.recv(n)
            self._drain()
        if not data and not self._transport.is_active():
            raise ConnectionResetError("the connection was lost")
        return data

    def write(self, data: bytes) -> None:
        """All of `data`."""
        view = memoryview(data)
        while view:
            with _as_os_error():
                sent = 0 if self._channel.closed else self._channel.send(bytes(view[: self._slice]))
            if not sent and not self._transport.is_active():
                raise ConnectionResetError("the connection was lost")
            if not sent:
                raise BrokenPipeError("the process on the device takes no more data")
            view = view[sent:]

    def ended(self) -> Ended:
        """Exit status and last words; status None when the connection broke before the process ended."""
        self._channel.status_event.wait(self._end_timeout if self._transport.is_active() else 0)
        self._drain()
        status = self._channel.exit_status if self._channel.exit_status_ready() else -1
        return Ended(status if status >= 0 else None, last_lines(self._stderr))

    def close(self) -> None:
        """Close the channel; the process sees the end of its input."""
        self._channel.close()

    def _drain(self) -> None:
        # Unread standard error would fill the channel's window and stall it.
        while self._channel.recv_stderr_ready():
            self._stderr = (self._stderr + self._channel.recv_stderr(STDERR_BYTES))[-STDERR_BYTES:]


class SshTransport:
    """A connection to one device, through its jump hosts."""

    def __init__(self, name: str, hops: Sequence[paramiko.Transport], timeouts: Timeouts) -> None:
        """Use `connect`. `hops` are authenticated, the device's own last."""
        self._name, self._hops, self._timeouts = name, hops, timeouts

    @classmethod
    def connect(
        cls, device: Device, profile: Profile, *, reporter: Reporter, timeouts: Timeouts | None = None
    ) -> SshTransport:
        """Connect, compare the host key, log in.

        Raises:
            AuthError: the device has no pinned key, shows another one, or accepts no key of ours.
            UnreachableError: nothing answers, or not in time.
            ConfigError: the record or `~/.ssh/config` makes no sense.
        """
        if not device.host_key:
            raise AuthError(
                f"{device.name}: its host key is not known", device=device.name, stage="connect",
                hint=f"edgeship device add {device.name} shows its fingerprint and pins it",
            )  # fmt: skip
        pinned = HostKey.parse(device.host_key)
        route = _route(device, profile, reporter)
        limits = timeouts or Timeouts()
        hops = _jump(device.name, route, limits)
        try:
            via = hops[-1] if hops else None
            try:
                last = _handshake(device.name, route.device, via, pinned.algorithms, limits)
            except _OtherHostKeyType:
                with suppress(UnreachableError):  # the next line says it better where this works
                    _show_change(device.name, route.device, via, pinned, limits)
                raise AuthError(f"{device.name}: {route.device} no longer has the pinned host key {pinned.fingerprint}",
                                device=device.name, stage="connect",
                                hint="somebody may stand between you and the device. If you reinstalled it yourself: "
                                f"edgeship device rm {device.name}, then edgeship device add it again",
                                ) from None  # fmt: skip
            hops.append(last)
            hostkey.compare(device.name, pinned, HostKey.of(last.get_remote_server_key()))
            log_in(last, route.device, device.name)
            last.set_keepalive(15)
        except BaseException:
            _close(hops)
            raise
        return cls(device.name, hops, limits)

    def open(self, argv: Sequence[str]) -> SshStream:
        """Start `argv` on the device.

        Raises:
            UnreachableError: the connection is gone, or the device opens no more sessions.
        """
        text = command_line(argv)
        last = self._hops[-1]

        def once() -> SshStream:
            channel = last.open_session(timeout=self._timeouts.channel)
            channel.settimeout(self._timeouts.read)
            channel.exec_command(text)
            return SshStream(channel, last, self._timeouts)

        try:
            return _again(once, ChannelException, self._timeouts)
        except ChannelException as error:
            raise UnreachableError(
                f"{self._name}: opens no session: {clean(error.text)}", device=self._name, stage="connect",
                hint="MaxSessions of its sshd_config is reached: close other sessions",
            ) from error  # fmt: skip
        except (SSHException, EOFError, OSError) as error:
            raise UnreachableError(
                f"{self._name}: the connection broke: {clean(str(error)) or 'closed'}", device=self._name,
                stage="connect", code=BROKEN, hint=STILL_ON,
            ) from error  # fmt: skip

    @property
    def cipher(self) -> str:
        """The cipher towards the device."""
        return str(self._hops[-1].local_cipher)

    def close(self) -> None:
        """Close the connection and those to the jump hosts."""
        _close(self._hops)


def scan_host_key(
    device: Device, profile: Profile, *, reporter: Reporter, timeouts: Timeouts | None = None
) -> HostKey:  # fmt: skip
    """Read the key that a device shows, for a person to compare and `device add` to pin. Nothing is sent to it.

    Raises:
        AuthError: a jump host on the way is unknown or refuses us.
        UnreachableError: nothing answers.
        ConfigError: the record or `~/.ssh/config` makes no sense.
    """
    limits = timeouts or Timeouts()
    route = _route(device, profile, reporter)
    hops = _jump(device.name, route, limits)
    try:
        hops.append(_handshake(device.name, route.device, hops[-1] if hops else None, (), limits))
        return HostKey.of(hops[-1].get_remote_server_key())
    finally:
        _close(hops)


# ── connecting ───────────────────────────────────────────────────────────────────────────────────────────────────────


T = TypeVar("T")


class _Dropped(Exception):
    """The server closed the connection before its banner: MaxStartups."""


class _OtherHostKeyType(Exception):
    """The server has no host key of the types it was asked for."""


def _route(device: Device, profile: Profile, reporter: Reporter) -> Route:
    defaults = profile.transport
    return sshconfig.route(device, default_user=defaults.user, default_port=defaults.port, note=reporter.note)


def _jump(name: str, route: Route, limits: Timeouts) -> list[paramiko.Transport]:
    """Log in at every jump host, each through the one before."""
    hops: list[paramiko.Transport] = []
    try:
        for hop in route.jumps:
            keys = hostkey.known(hop)
            algorithms = tuple(a for key in keys for a in key.algorithms)
            try:
                transport = _handshake(name, hop, hops[-1] if hops else None, algorithms, limits)
            except _OtherHostKeyType:
                raise AuthError(
                    f"{name}: the jump host {hop} shows none of the keys of known_hosts", device=name, stage="connect",
                    hint=f"find out why; then ssh-keygen -R {hop.host}",
                ) from None  # fmt: skip
            hops.append(transport)
            hostkey.check_jump(name, hop, keys, HostKey.of(transport.get_remote_server_key()))
            log_in(transport, hop, name)
            transport.set_keepalive(15)
    except BaseException:
        _close(hops)
        raise
    return hops


def _show_change(
    name: str, hop: Hop, via: paramiko.Transport | None, pinned: HostKey, limits: Timeouts
) -> None:  # fmt: skip
    """Raise AuthError with the key that the device shows now."""
    transport = _handshake(name, hop, via, (), limits)
    try:
        hostkey.compare(name, pinned, HostKey.of(transport.get_remote_server_key()))
    finally:
        transport.close()


def _handshake(
    name: str, hop: Hop, via: paramiko.Transport | None, algorithms: Sequence[str], limits: Timeouts
) -> paramiko.Transport:
    """Connect to one server and agree on keys; nobody is authenticated yet on either side.

    Raises:
        UnreachableError: nothing answers, or no SSH server.
        _OtherHostKeyType: the server has no key for `algorithms`.
    """

    def once() -> paramiko.Transport:
        sock = _socket(name, hop, limits) if via is None else _tunnel(name, hop, via, limits)
        try:
            return _negotiate(sock, algorithms, limits)
        except BaseException:
            sock.close()
            raise

    try:
        return _again(once, _Dropped, limits)
    except _Dropped as error:
        raise UnreachableError(
            f"{name}: {hop.host} port {hop.port} closes the connection before it says that it is an SSH server",
            device=name, stage="connect", hint="MaxStartups of its sshd_config, or no SSH server on that port",
        ) from error  # fmt: skip
    except IncompatiblePeer as error:
        if algorithms and "host key" in str(error):
            raise _OtherHostKeyType from error
        raise UnreachableError(f"{name}: {hop} speaks an SSH that this host does not: {error}", device=name,
                               stage="connect", hint="update its SSH server") from error  # fmt: skip
    except (SSHException, EOFError, OSError) as error:
        lost = isinstance(error, EOFError | ConnectionError)
        why = "the connection was lost during the key exchange" if lost else clean(str(error))
        raise UnreachableError(
            f"{name}: no SSH server answers on {hop.host} port {hop.port}: {why}",
            device=name, stage="connect", hint=f"ssh -v -p {hop.port} {hop.user}@{hop.host}",
        ) from error  # fmt: skip


def _socket(name: str, hop: Hop, limits: Timeouts) -> socket.socket:
    try:
        sock = socket.create_connection((hop.host, hop.port), timeout=limits.connect)
    except (OSError, UnicodeError) as error:
        raise _no_connection(name, hop, error) from error
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(limits.dead * 1000))
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # what waits here is sent twice when the connection breaks
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
    return sock


def _no_connection(name: str, hop: Hop, error: OSError | UnicodeError) -> UnreachableError:
    where = f"{hop.host} port {hop.port}"
    if isinstance(error, socket.gaierror | UnicodeError):  # UnicodeError: a label that is empty or too long
        what, hint = f"the name {hop.host!r} has no address", f"is it spelt right? getent hosts {hop.host} asks too"
    elif isinstance(error, ConnectionRefusedError):
        what, hint = f"{where} refuses connections: nothing listens there", "start its SSH server (Termux: sshd)"
    elif isinstance(error, TimeoutError):
        what, hint = f"{where} does not answer", "is it switched on, and on this network?"
    else:
        what, hint = f"{where}: {error.strerror or error}", "is it switched on, and on this network?"
    return UnreachableError(f"{name}: {what}", device=name, stage="connect", hint=hint)


def _tunnel(name: str, hop: Hop, via: paramiko.Transport, limits: Timeouts) -> paramiko.Channel:
    try:
        return via.open_channel("direct-tcpip", (hop.host, hop.port), ("127.0.0.1", 0), timeout=limits.connect)
    except (SSHException, EOFError, OSError) as error:
        raise UnreachableError(
            f"{name}: the jump host gets no connection to {hop.host} port {hop.port}: {clean(str(error))}",
            device=name, stage="connect", hint="is the device switched on, and reachable from the jump host?",
        ) from error  # fmt: skip


def _negotiate(
    sock: socket.socket | paramiko.Channel, algorithms: Sequence[str], limits: Timeouts
) -> paramiko.Transport:  # fmt: skip
    transport = paramiko.Transport(sock)
    try:
        options = transport.get_security_options()
        options.ciphers = [c for c in CIPHERS if c in options.ciphers]
        options.digests = [m for m in MACS if m in options.digests]
        if algorithms:
            options.key_types = list(dict.fromkeys(algorithms))
        transport.banner_timeout = limits.banner
        transport.handshake_timeout = limits.handshake
        transport.auth_timeout = limits.auth
        done = threading.Event()
        started = time.monotonic()
        transport.start_client(event=done)
        done.wait(limits.banner + limits.handshake)
        if not done.is_set():
            raise TimeoutError("the key exchange does not finish")
        if not transport.is_active():
            error = transport.get_exception() or SSHException("negotiation failed")
            greeted = bool(transport.remote_version)
            if not greeted and _is_drop(error) and time.monotonic() - started < limits.banner * 0.9:
                raise _Dropped from error
            raise error
        return transport
    except BaseException:
        transport.close()
        raise


def _is_drop(error: BaseException) -> bool:
    return isinstance(error, EOFError | ConnectionError) or "protocol banner" in str(error)


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Streams raise OSError when they break, paramiko raises what it likes."""
    try:
        yield
    except (EOFError, SSHException) as error:
        raise ConnectionResetError(str(error) or "the connection was lost") from error


def _again(once: Callable[[], T], retried: type[Exception], limits: Timeouts) -> T:
    """Call `once` until it does not raise `retried`, with a growing pause, at most `TRIES` times."""
    pause = limits.pause
    for _ in range(TRIES - 1):
        try:
            return once()
        except retried:
            time.sleep(pause * (0.5 + random.random()))  # noqa: S311  # spreads a fleet's tries, guards nothing
            pause *= 2
    return once()


def _close(hops: Sequence[paramiko.Transport]) -> None:
    for transport in reversed(hops):
        with suppress(Exception):  # a close that fails has nothing left to say
            transport.close()
