"""The gate: Host header, methods, other sites, token; and what a lying device can put on a page."""

import html
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeship.dashboard.app import create
from edgeship.dashboard.fleet_view import Settings
from edgeship.dashboard.security import COOKIE, allowed_hosts, is_loopback
from edgeship.deploy.device import Device
from edgeship.fleet.ingest import ingest
from edgeship.fleet.store import FleetStore
from edgeship.fleet.timeline import Contact
from tests.simulators.telemetry import window
from tests.simulators.web import Asker

NOW = 1_800_000_600.0
TOKEN = "correct-horse"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FleetStore]:
    with FleetStore.open(tmp_path / "f.db") as made:
        made._clock = lambda: NOW
        made.save_device(Device("pi", "raspberry-pi-5"))
        yield made


@pytest.fixture
def ask(store: FleetStore) -> Asker:
    return Asker(create(store, Settings()))


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1:8480", True), ("localhost", True), ("LOCALHOST:1", True), ("127.9.9.9", True), ("[::1]:8480", True),
        ("evil.example", False), ("127.0.0.1.evil.example", False), ("localhost.evil.example:8480", False),
        ("10.0.0.5:8480", False), ("", False), ("[", False), ("[]", False), ("[::1", False), ("evil@127.0.0.1", False),
        ("127.1", False), ("2130706433", False), ("127.0.0.1\t", False),
    ],
)  # fmt: skip
def test_only_known_hosts(ask: Asker, host: str, allowed: bool) -> None:
    answer = ask("/", headers={"host": host})
    assert answer.status_code == (200 if allowed else 421)
    assert answer.headers["content-security-policy"]


@pytest.mark.parametrize(("host", "allowed"), [("10.0.0.5:8480", True), ("board.lan", True), ("evil.example", False)])
def test_beyond_this_machine_addresses_and_the_given_name_are_allowed(
    store: FleetStore, host: str, allowed: bool
) -> None:
    ask = Asker(create(store, Settings(), hosts=allowed_hosts("board.lan"), loopback=False))
    assert (ask("/", headers={"host": host}).status_code == 200) is allowed


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("[::1]", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("192.168.1.4", False), ("board.lan", False)],
)  # fmt: skip
def test_what_is_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_can_be_changed(ask: Asker, method: str) -> None:
    assert ask("/", method=method).status_code == 405
    assert ask("/", method="HEAD").status_code == 200


def test_other_sites_get_nothing_in_the_background(ask: Asker) -> None:
    background = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
    assert ask("/api/v1/fleet", headers=background).status_code == 403
    assert ask("/", headers={"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}).status_code == 200
    assert ask("/", headers={"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}).status_code == 200


def test_a_browser_may_not_frame_sniff_or_keep(ask: Asker) -> None:
    headers = ask("/").headers
    policy = headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-frame-options"] == "DENY"
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert "server" not in headers


def test_a_long_address_is_refused(ask: Asker) -> None:
    assert ask("/?l=" + "a" * 9000).status_code == 414


@pytest.mark.parametrize(
    "path",
    ["/static/..%2fapp.py", "/static/%2e%2e/app.py", "/static/../../store.py", "/static//etc/passwd",
     "/static/style.css%00", "/devices/..%2f..%2fetc%2fpasswd", "/devices/%00", "//evil.example/"],
)  # fmt: skip
def test_no_path_leads_anywhere_else(ask: Asker, path: str) -> None:
    answer = ask(path)
    assert answer.status_code in (404, 307, 200)
    assert "root:" not in answer.text
    assert "import" not in answer.text
    assert not answer.headers.get("location", "/").startswith("//")


# ── token ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def locked(store: FleetStore) -> Asker:
    return Asker(create(store, Settings(), loopback=False, token=TOKEN))


def test_without_the_token_nothing_is_shown(locked: Asker) -> None:
    for path in ("/", "/api/v1/fleet", "/static/style.css", "/nothing", "/?token=wrong", "/?token=", "/?token=corrëct"):
        answer = locked(path)
        assert answer.status_code == 401
        assert "edgeship serve" in answer.text
    for headers in ({"authorization": "Bearer wrong"}, {"authorization": f"Basic {TOKEN}"},
                    {"cookie": f"{COOKIE}={TOKEN}"}, {"cookie": ";;=;\x01"}, {"cookie": f'{COOKIE}="'}):  # fmt: skip
        assert locked("/", headers=headers).status_code == 401


def test_the_token_becomes_a_cookie_and_leaves_the_address(locked: Asker) -> None:
    answer = locked(f"/devices/pi?since=1h&token={TOKEN}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/devices/pi?since=1h")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert locked("/devices/pi?since=1h", headers={"cookie": cookie.partition(";")[0]}).status_code == 200
    assert locked(f"/?token={TOKEN}").headers["location"] == "/"


def test_programs_send_it_as_a_header(locked: Asker) -> None:
    assert locked("/api/v1/fleet", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200


@pytest.mark.parametrize("path", ["//evil.example/", "/\\evil.example/", "///evil.example"])
def test_the_way_back_never_leaves_this_site(locked: Asker, path: str) -> None:
    location = locked(f"http://127.0.0.1:8480{path}?token={TOKEN}").headers["location"]
    assert location.startswith("/")
    assert not location.startswith(("//", "/\\"))


# ── what a device may say ────────────────────────────────────────────────────────────────────────────────────────────

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)>'\"{{7*7}}\x1b[2J\n"


def test_script_in_every_string_that_a_device_chooses_is_text(store: FleetStore, ask: Asker) -> None:
    told = window(
        1, start=NOW - 60, classes={EVIL[:64]: 5}, confidence=(1,) * 20, events=({"kind": "boot", "text": EVIL},)
    )
    ingest(store, "pi", [told], Contact(NOW, NOW))
    texts = ("state", "model", "precision", "format", "agent", "boot_id")
    status = dict.fromkeys(texts, EVIL) | {"counter": 1}
    store.record_contact("pi", status=status, error=None)
    store.save_device(Device("evil", EVIL, host=EVIL, user=EVIL, labels={"site": EVIL, EVIL: "x"}))
    store.record_contact("evil", error=EVIL)
    store.audit(EVIL, "pi", {EVIL: EVIL, "model": EVIL, "counter": 1})
    for path in ("/", "/devices/pi", "/devices/evil", "/?l=site"):
        page = ask(path).text
        assert "<script>alert" not in page
        assert "<img" not in page
        assert "49" not in page.partition("{{7*7}}")[0][-3:]
        assert "alert(1)" in html.unescape(page)
    assert "alert(1)" in ask("/api/v1/devices/pi").text
    assert ask("/api/v1/devices/pi").headers["content-type"] == "application/json"


def test_what_a_visitor_types_is_text(ask: Asker) -> None:
    for path in (
        "/?l=%3Cscript%3Ealert(1)%3C/script%3E",
        "/?since=%22%3E%3Cscript%3E",
        "/devices/%3Cscript%3Ealert(1)",
    ):
        answer = ask(path)
        assert answer.status_code in (400, 404)
        assert "<script>alert" not in answer.text
        assert '<script>"' not in answer.text


@pytest.mark.parametrize("value", ["'; DROP TABLE devices; --", "1 OR 1=1", "x' UNION SELECT 1"])
def test_sql_metacharacters_do_nothing(ask: Asker, store: FleetStore, value: str) -> None:
    for parameter in ("l", "since", "status", "counter", "sort"):
        assert ask(f"/?{parameter}={value.replace(' ', '+')}").status_code == 400
    assert ask(f"/devices/{value}").status_code == 404
    assert len(store.devices()) == 1
