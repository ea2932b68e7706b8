"""Asking the dashboard without a network, and running it for a browser."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx
from starlette.types import ASGIApp

from edgeship.dashboard import server
from edgeship.dashboard.fleet_view import Settings
from edgeship.fleet.store import FleetStore


class Asker:
    """A client of one application; every answer is a finished `httpx.Response`, redirects are not followed."""

    def __init__(self, app: ASGIApp, base: str = "http://127.0.0.1:8480") -> None:
        self._app, self._base = app, base

    def __call__(self, path: str, *, method: str = "GET", headers: Mapping[str, str] | None = None) -> httpx.Response:
        """One request."""

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self._app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url=self._base) as client:
                return await client.request(method, path, headers=dict(headers or {}))

        return asyncio.run(ask())


@contextmanager
def running(store: FleetStore, settings: Settings, *, token: str | None = None) -> Iterator[server.Listening]:
    """The dashboard on a free port of this machine, in a thread."""
    at = server.listen("127.0.0.1", 0, token=token)
    runner = server.server(store, settings, at)
    thread = threading.Thread(target=runner.run, kwargs={"sockets": [at.socket]}, daemon=True)
    thread.start()
    try:
        yield at
    finally:
        runner.should_exit = True
        thread.join(20)
        at.socket.close()
