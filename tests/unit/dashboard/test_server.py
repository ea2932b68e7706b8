"""The socket and the address to open."""

import urllib.request
import webbrowser
from pathlib import Path

import pytest

from edgeship.dashboard import server
from edgeship.dashboard.fleet_view import Settings
from edgeship.errors import UsageError
from edgeship.fleet.store import FleetStore
from tests.simulators.web import running


def test_it_serves(tmp_path: Path) -> None:
    with FleetStore.open(tmp_path / "f.db") as store, running(store, Settings("digits")) as at:
        assert at.url == f"http://127.0.0.1:{at.port}/"
        with urllib.request.urlopen(at.url, timeout=20) as answer:
            assert b"No device is enrolled yet" in answer.read()
            assert "server" not in answer.headers


def test_beyond_this_machine_a_token_is_made() -> None:
    at = server.listen("0.0.0.0", 0)
    try:
        assert at.token is not None
        assert len(at.token) >= 32
        assert at.url.endswith(f":{at.port}/?token={at.token}")
        assert "0.0.0.0" not in at.url
    finally:
        at.socket.close()


def test_addresses_of_ipv6_are_bracketed() -> None:
    at = server.listen("127.0.0.1", 0, token="t")
    at.socket.close()
    assert server.Listening(at.socket, "fe80::1", None).host == "fe80::1"
    one = server.listen("127.0.0.1", 0)
    try:
        assert server.Listening(one.socket, "::1", None).url == f"http://[::1]:{one.port}/"
    finally:
        one.socket.close()


def test_a_port_in_use_is_a_usage_error() -> None:
    first = server.listen("127.0.0.1", 0)
    try:
        with pytest.raises(UsageError, match="port") as caught:
            server.listen("127.0.0.1", first.port)
        assert "--port" in str(caught.value.hint)
    finally:
        first.socket.close()


@pytest.mark.parametrize("host", ["no.such.host.invalid", "300.1.1.1", "a" * 300])
def test_an_address_that_is_none_is_a_usage_error(host: str) -> None:
    with pytest.raises(UsageError, match="listen"):
        server.listen(host, 0)


def test_no_browser_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_url: str) -> bool:
        raise webbrowser.Error("none")

    monkeypatch.setattr(webbrowser, "open", none)
    assert server.open_browser("http://x") is False
