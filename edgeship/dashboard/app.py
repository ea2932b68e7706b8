"""The web application: two pages, the same as JSON, and three static files. Reads the store, changes nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from edgeship import __version__
from edgeship.dashboard import device_view, fleet_view, text
from edgeship.dashboard.filters import RANGES, Filter
from edgeship.dashboard.fleet_view import Settings
from edgeship.dashboard.security import Gate
from edgeship.errors import EdgeshipError, StoreError, UsageError
from edgeship.fleet import inventory
from edgeship.fleet.health import ENOUGH, STATUSES
from edgeship.fleet.store import FleetStore

#: Name -> media type; nothing else is served, so that no path can lead anywhere else.
STATIC = {
    "style.css": "text/css; charset=utf-8",
    "live.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}

#: Status or verdict -> (symbol, word): never by colour alone.
BADGES = {
    "online": ("●", "online"), "degraded": ("▲", "degraded"), "stale": ("◐", "stale"), "offline": ("✕", "offline"),
    "healthy": ("●", "healthy"), "unknown": ("○", "too few samples"),
}  # fmt: skip


def create(
    store: FleetStore,
    settings: Settings,
    *,
    hosts: Iterable[str] = ("localhost", "127.0.0.1"),
    loopback: bool = True,
    token: str | None = None,
) -> ASGIApp:
    """The dashboard over a store.

    Args:
        store: what is shown; its clock is the time of the pages.
        settings: project and limits.
        hosts: names allowed in the Host header.
        loopback: the server listens on this machine alone.
        token: asked for when set.
    """
    pages = _Pages(store, settings)
    routes = [
        Route("/", pages.fleet),
        Route("/devices/{name}", pages.device),
        Route("/api/v1/fleet", pages.fleet_json),
        Route("/api/v1/series", pages.series_json),
        Route("/api/v1/devices/{name}", pages.device_json),
        Route("/static/{name}", pages.static),
    ]
    handlers: dict[Any, Callable[[Request, Exception], Response]] = {
        HTTPException: pages.failed, EdgeshipError: pages.failed, Exception: pages.failed,
    }  # fmt: skip
    # Around the whole application, not one of its middlewares: errors pass the gate on their way out too.
    return Gate(Starlette(routes=routes, exception_handlers=handlers), hosts=hosts, loopback=loopback, token=token)


class _Pages:
    def __init__(self, store: FleetStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        folder = resources.files("edgeship.dashboard") / "static"
        self._static = {name: (folder / name).read_bytes() for name in STATIC}
        mark = hashlib.sha256(b"".join(self._static.values())).hexdigest()[:12]
        self._templates = Environment(
            loader=PackageLoader("edgeship.dashboard"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
            lstrip_blocks=True,
        )  # fmt: skip
        self._templates.filters |= {
            name: getattr(text, name)
            for name in ("latency", "share", "rate", "count", "size", "sensor", "sensor_name", "moment", "iso", "ago")
        }
        self._templates.globals |= {
            "version": __version__, "mark": mark, "badges": BADGES, "ranges": RANGES, "statuses": STATUSES,
            "project": settings.project, "enough": ENOUGH, "attention_limit": fleet_view.ATTENTION,
            "temperature": fleet_view.temperature,
        }  # fmt: skip

    def fleet(self, request: Request) -> Response:
        """The fleet's page."""
        view = fleet_view.gather(self._store, self._settings, _filter(request))
        return self._page("fleet.html", view=view, filter=view.filter, now=view.now)

    def device(self, request: Request) -> Response:
        """A device's page."""
        view = self._device(request)
        return self._page("device.html", view=view, filter=view.filter, now=view.now)

    def fleet_json(self, request: Request) -> Response:
        """What the fleet's page shows, as JSON."""
        view = fleet_view.gather(self._store, self._settings, _filter(request))
        return _json("dashboard.fleet", view.encode())

    def device_json(self, request: Request) -> Response:
        """What a device's page shows, as JSON."""
        return _json("dashboard.device", self._device(request).encode())

    def _device(self, request: Request) -> device_view.DeviceView:
        wanted = _filter(request)
        try:
            device = inventory.find(self._store.devices(), request.path_params["name"])
        except UsageError as error:
            raise HTTPException(404, f"{error}; {error.hint}") from error
        return device_view.gather(self._store, self._settings, wanted, device)

    def series_json(self, request: Request) -> Response:
        """The steps of the latency chart, as JSON."""
        return _json("dashboard.series", fleet_view.steps(self._store, _filter(request)))

    def static(self, request: Request) -> Response:
        """A file of the page."""
        name = request.path_params["name"]
        if name not in self._static:
            raise HTTPException(404)
        return Response(
            self._static[name], headers={"content-type": STATIC[name], "cache-control": "max-age=3600"}
        )  # fmt: skip

    def failed(self, request: Request, error: Exception) -> Response:
        """An error as a page or as JSON; a defect tells nothing of itself to the browser."""
        status, message, hint = describe(error)
        if request.url.path.startswith("/api/"):
            body = {"schema": "edgeship.error/v1", "data": {"message": message, "hint": hint}}
            return Response(json.dumps(body), status, media_type="application/json")
        return self._page(
            "error.html", status=status, message=message, hint=hint, filter=Filter(), now=self._store.now()
        )  # fmt: skip

    def _page(self, template: str, status: int = 200, **values: Any) -> Response:
        return HTMLResponse(self._templates.get_template(template).render(status=status, **values), status)


def describe(error: Exception) -> tuple[int, str, str | None]:
    """(status code, message, hint) of an error."""
    if isinstance(error, HTTPException):
        return error.status_code, "There is no such page." if error.detail == "Not Found" else error.detail, None
    if isinstance(error, UsageError):
        return 400, str(error), error.hint
    if isinstance(error, StoreError):
        return 503, str(error), error.hint
    return 500, "A defect of edgeship; its traceback is where `edgeship serve` runs.", None


def _filter(request: Request) -> Filter:
    return Filter.parse(dict(request.query_params))


def _json(name: str, data: Any) -> Response:
    body = json.dumps({"schema": f"edgeship.{name}/v1", "data": data}, allow_nan=False)
    return Response(body, media_type="application/json")
