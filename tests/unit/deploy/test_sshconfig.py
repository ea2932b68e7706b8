"""Where a device is: its record, ~/.ssh/config, its profile."""

import getpass
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeship.deploy.device import Device
from edgeship.deploy.sshconfig import Route, route
from edgeship.errors import ConfigError

Resolve = Callable[..., Route]


@pytest.fixture
def resolve(tmp_path: Path) -> Resolve:
    """Resolve a device under a configuration."""

    def resolved(text: str, device: Device | None = None, notes: list[str] | None = None) -> Route:
        path = tmp_path / "config"
        path.write_text(text)
        said = notes if notes is not None else []
        return route(device or Device("pi", "p", host="pi"), default_user="pi", default_port=8022, path=path,
                     note=said.append)  # fmt: skip

    return resolved


def test_without_a_configuration_the_profile_decides(tmp_path: Path) -> None:
    found = route(Device("pi", "p", host="10.0.0.7"), default_user="pi", default_port=8022, path=tmp_path / "none")

    assert (found.device.host, found.device.port, found.device.user) == ("10.0.0.7", 8022, "pi")
    assert found.jumps == ()
    assert str(found.device) == "pi@10.0.0.7:8022"


def test_a_profile_without_a_user_means_the_login(tmp_path: Path) -> None:
    found = route(Device("pi", "p", host="h"), default_user="", default_port=22, path=tmp_path / "none")
    assert found.device.user == getpass.getuser()


def test_a_device_without_a_host_is_looked_up_by_its_name(resolve: Resolve) -> None:
    assert resolve("Host pi\n HostName 10.0.0.7\n", Device("pi", "p")).device.host == "10.0.0.7"


def test_the_configuration_fills_what_the_record_leaves_open(resolve: Resolve) -> None:
    found = resolve(
        "Host pi\n  HostName fe80::1\n  User ada\n  Port 2222\n  IdentityFile ~/.ssh/board\n  IdentitiesOnly yes\n"
        "  UserKnownHostsFile ~/kh\n"
    ).device

    assert (found.host, found.port, found.user) == ("fe80::1", 2222, "ada")
    assert found.identities == (Path("~/.ssh/board").expanduser(),)
    assert found.identities_only
    assert found.known_hosts[0] == Path("~/kh").expanduser()
    assert str(found) == "ada@[fe80::1]:2222"


def test_the_record_wins(resolve: Resolve) -> None:
    device = Device("pi", "p", host="pi", port=23, user="bob", identity="/keys/own")
    found = resolve("Host pi\n  User ada\n  Port 2222\n  IdentityFile /keys/other\n", device).device

    assert (found.port, found.user) == (23, "bob")
    assert found.identities == (Path("/keys/own"),)
    assert found.identities_only


def test_a_pattern_matches(resolve: Resolve) -> None:
    assert resolve("Host other\n Port 1\nHost p?\n Port 2\nHost *\n Port 3\n").device.port == 2


def test_a_chain_of_jump_hosts(resolve: Resolve) -> None:
    found = resolve(
        "Host pi\n  ProxyJump ada@one:2201,two\nHost two\n  HostName 10.0.0.2\n  User eve\nHost one\n  Port 99\n"
    )

    assert [str(hop) for hop in found.jumps] == ["ada@one:2201", "eve@10.0.0.2:22"]


def test_the_first_jump_host_may_have_one_of_its_own(resolve: Resolve) -> None:
    found = resolve(
        "Host pi\n ProxyJump one\nHost one\n User a\n ProxyJump zero\nHost zero\n User z\n ProxyJump none\n"
    )
    assert [str(hop) for hop in found.jumps] == ["z@zero:22", "a@one:22"]


def test_an_ipv6_jump_host(resolve: Resolve) -> None:
    (hop,) = resolve("Host pi\n ProxyJump ssh://ada@[fe80::2]:2201\n").jumps
    assert (hop.host, hop.port, hop.user) == ("fe80::2", 2201, "ada")


def test_a_circle_of_jump_hosts(resolve: Resolve) -> None:
    with pytest.raises(ConfigError, match="circle: pi -> one -> pi"):
        resolve("Host pi\n ProxyJump one\nHost one\n ProxyJump pi\n")


def test_include_is_not_followed_and_said_so(resolve: Resolve) -> None:
    notes: list[str] = []
    found = resolve("Include other\nHost pi\n Port 7\n", notes=notes)

    assert found.device.port == 7
    assert "Include" in notes[0]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("Host pi\n ProxyCommand nc %h %p\n", "ProxyCommand"),
        ("Host pi\n ProxyJump :::\n", "ProxyJump"),
        ("Host pi\n Port many\n", "is no number"),
        ("Host pi\n Port 99999\n", "not an address"),
        ("Host pi\n HostName a b\n", "not an address"),
        ("Host pi\n User -oProxyCommand=x\n", "not an address"),
        ("!!!\n", "config"),
    ],
)
def test_what_cannot_be_followed_is_refused(resolve: Resolve, text: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        resolve(text)


def test_a_proxy_command_of_none_is_none(resolve: Resolve) -> None:
    assert resolve("Host pi\n ProxyCommand none\n").jumps == ()


@pytest.mark.parametrize("host", ["-oProxyCommand=reboot", "a b", "a\nb", "$(x)", "a;b", "../x", "`x`"])
def test_a_host_is_a_name_or_an_address(resolve: Resolve, host: str) -> None:
    with pytest.raises(ConfigError, match="not the name or address"):
        resolve("", Device("pi", "p", host=host))


def test_an_unreadable_configuration(resolve: Resolve, tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot read"):
        route(Device("pi", "p", host="h"), default_user="", default_port=22, path=tmp_path / "bytes")


def test_the_users_own_file_is_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text("Host pi\n Port 77\n")

    assert route(Device("pi", "p"), default_user="x", default_port=22).device.port == 77
