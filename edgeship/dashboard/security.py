"""The gate in front of every page: who may ask, from where, and what a browser may do with the answer.

Rules this module keeps:

* Only GET and HEAD: nothing can be changed through the dashboard.
* The Host header must be one that the server was started for: a foreign site that points its name at 127.0.0.1 (DNS
  rebinding) gets nothing.
* A request that another site makes in the background is refused.
* Where a token is set it is compared in constant time; it comes once in the address (`?token=`), then in a cookie that
  scripts cannot read, or as `Authorization: Bearer`.
* No inline script or style, nothing from elsewhere: `default-src 'none'` and self.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import socket
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "edgeship_session"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
MAX_QUERY = 8192  # bytes


def is_loopback(host: str) -> bool:
    """Whether a server on this address can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def allowed_hosts(host: str) -> frozenset[str]:
    """Names that a browser may use for a server bound to `host`, lower case, without port.

    Addresses are always allowed beside: a foreign site can point a name of its own here, but not an address.
    """
    own = {"localhost", host.strip("[]").lower()}
    if not is_loopback(host):
        own |= {socket.gethostname().lower(), f"{socket.gethostname().lower()}.local"}
    return frozenset(own)


class Gate:
    """ASGI middleware that keeps the rules of this module.

    Args:
        app: what is behind.
        hosts: names allowed in the Host header, see `allowed_hosts`.
        loopback: only loopback addresses are allowed there beside.
        token: asked for when set.
    """

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str], loopback: bool, token: str | None = None) -> None:
        self._app = app
        self._hosts = frozenset(hosts)
        self._loopback = loopback
        self._token = token
        self._session = None if token is None else hashlib.sha256(b"edgeship dashboard " + token.encode()).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        answer = self._refusal(scope)
        await (answer or self._app)(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if not self._known_host(headers.get("host", "")):
            return PlainTextResponse("This server does not go by that name.\n", 421)
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("Only GET and HEAD.\n", 405, {"allow": "GET, HEAD"})
        if len(scope["query_string"]) > MAX_QUERY:
            return PlainTextResponse("The address is too long.\n", 414)
        if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode", "") != "navigate":
            return PlainTextResponse("Not for other sites.\n", 403)
        return None if self._session is None else self._authenticate(scope, headers)

    def _known_host(self, value: str) -> bool:
        name = _host_of(value.lower())
        if name in self._hosts:
            return bool(name)
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self._loopback

    def _authenticate(self, scope: Scope, headers: Headers) -> Response | None:
        assert self._token is not None
        assert self._session is not None
        if _same(_cookie(headers.get("cookie", "")), self._session):
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _same(given.strip(), self._token):
            return None
        pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if any(key == "token" and _same(value, self._token) for key, value in pairs):
            rest = urlencode([(key, value) for key, value in pairs if key != "token"])
            # One leading slash: `//other.example/` would be another site.
            path = "/" + scope["path"].lstrip("/\\")
            answer = RedirectResponse(path + (f"?{rest}" if rest else ""), 303)
            answer.set_cookie(COOKIE, self._session, httponly=True, samesite="strict", path="/")
            return answer
        return PlainTextResponse(
            "This dashboard asks for its token: open the address that `edgeship serve` printed.\n",
            401, {"www-authenticate": "Bearer"},
        )  # fmt: skip


def _host_of(value: str) -> str:
    """The name of a Host header without its port; an IPv6 address without its brackets."""
    bracketed = value.startswith("[")
    return value[1 : max(value.find("]"), 1)] if bracketed else value.partition(":")[0]


def _cookie(header: str) -> str:
    try:
        morsel = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel else ""


def _same(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), secret.encode())
