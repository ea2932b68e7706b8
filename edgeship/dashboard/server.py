"""Running the dashboard: the socket, the address to open, the server."""

from __future__ import annotations

import secrets
import socket
import webbrowser
from dataclasses import dataclass

import uvicorn

from edgeship.dashboard.app import create
from edgeship.dashboard.fleet_view import Settings
from edgeship.dashboard.security import allowed_hosts, is_loopback
from edgeship.errors import UsageError
from edgeship.fleet.store import FleetStore


@dataclass(frozen=True)
class Listening:
    """A bound socket, and how to reach it."""

    socket: socket.socket
    host: str
    token: str | None

    @property
    def port(self) -> int:
        """The port."""
        return int(self.socket.getsockname()[1])

    @property
    def url(self) -> str:
        """The address to open, with the token where there is one."""
        name = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(self.host, self.host)  # noqa: S104
        if ":" in name:
            name = f"[{name}]"
        return f"http://{name}:{self.port}/" + (f"?token={self.token}" if self.token else "")


def listen(host: str, port: int, *, token: str | None = None) -> Listening:
    """Bind the server's socket.

    Args:
        host: address or name; beyond this machine a token is always asked for.
        port: 0 for any free one.
        token: to ask for; made where one is needed and none is given.

    Raises:
        UsageError: the address cannot be bound.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except (OSError, OverflowError, UnicodeError) as error:
        raise UsageError(f"cannot listen on {host}: {error}", hint="--host 127.0.0.1") from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(128)
    except OSError as error:
        bound.close()
        raise UsageError(
            f"cannot listen on {host} port {port}: {error.strerror}", hint="--port 0 takes a free one"
        ) from error
    if token is None and not is_loopback(host):
        token = secrets.token_urlsafe(24)
    return Listening(bound, host, token)


def server(store: FleetStore, settings: Settings, at: Listening) -> uvicorn.Server:
    """The server, ready to `run(sockets=[at.socket])`; it says nothing and logs defects alone."""
    app = create(
        store, settings, hosts=allowed_hosts(at.host), loopback=is_loopback(at.host), token=at.token
    )  # fmt: skip
    config = uvicorn.Config(
        app, log_level="error", access_log=False, server_header=False, timeout_keep_alive=15, limit_concurrency=200,
        h11_max_incomplete_event_size=32 << 10, ws="none", http="h11", loop="asyncio", lifespan="off",
    )  # fmt: skip
    return uvicorn.Server(config)


def open_browser(url: str) -> bool:
    """Open the user's browser; False where there is none."""
    try:
        return webbrowser.open(url)
    except webbrowser.Error:
        return False
