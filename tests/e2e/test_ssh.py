"""Real OpenSSH servers in bubblewrap: keys, names, limits, broken networks, jump hosts, and all that can be wrong."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgeship import profile
from edgeship.deploy.device import Device
from edgeship.deploy.hostkey import HostKey
from edgeship.deploy.ssh import SshStream, SshTransport, Timeouts, scan_host_key
from edgeship.errors import AuthError, EdgeshipError, UnreachableError
from edgeship.lab.devices import Lab, Spec
from edgeship.lab.virtual import free_ports
from edgeship.reporter import Reporter
from tests.simulators.relay import Relay

pytestmark = pytest.mark.ssh

PI = profile.load("raspberry-pi-5")
#: What must come may take long on a busy machine; what is tried again is so soon.
CALM = Timeouts(connect=60, banner=60, handshake=60, auth=60, channel=60, read=60, pause=0.02)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two devices."""
    found = Lab(tmp_path_factory.mktemp("lab"), "tests")
    found.up([Spec("pi", "raspberry-pi-5"), Spec("gate", "raspberry-pi-5")], server="sshd")
    yield found
    found.down()


@pytest.fixture
def device(lab: Lab) -> Device:
    return lab.up([Spec("pi", "raspberry-pi-5")])[0]


@pytest.fixture
def gate(lab: Lab) -> Device:
    return lab.up([Spec("gate", "raspberry-pi-5")])[0]


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without SSH configuration, keys and agent."""
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return home


def connect(device: Device, timeouts: Timeouts = CALM) -> SshTransport:
    return SshTransport.connect(device, PI, reporter=Reporter(), timeouts=timeouts)


def run(device: Device, *argv: str, data: bytes = b"") -> tuple[bytes, int | None, tuple[str, ...]]:
    """Output, exit status and standard error of a command on a device."""
    transport = connect(device)
    try:
        stream = transport.open(argv)
        if data:
            stream.write(data)
        out = b""
        while part := stream.read(65536):
            out += part
        ended = stream.ended()
        stream.close()
        return out, ended.status, ended.stderr
    finally:
        transport.close()


def refused(device: Device, kind: type[EdgeshipError], timeouts: Timeouts = CALM) -> EdgeshipError:
    with pytest.raises(kind) as error:
        connect(device, timeouts)
    assert type(error.value) is kind
    assert error.value.hint
    return error.value


def test_a_command_its_status_and_its_last_words(device: Device) -> None:
    assert run(device, "hostname") == (b"pi\n", 0, ())
    assert run(device, "sh", "-c", "echo sorry >&2; exit 3") == (b"", 3, ("sorry",))


@pytest.mark.parametrize(
    "argument", ["; reboot", "$(id)", "`id`", "a\nb", "-oProxyCommand=id", "'", '"', "*", "~", "", "&& id", "\\", "ünï"]
)
def test_an_argument_arrives_as_it_is(device: Device, argument: str) -> None:
    out, status, _ = run(device, "python3", "-c", "import sys; sys.stdout.write(ascii(sys.argv[1:]))", argument)
    assert (out.decode(), status) == (ascii([argument]), 0)


def test_the_fast_cipher_is_taken(device: Device) -> None:
    transport = connect(device)
    assert transport.cipher == "aes128-gcm@openssh.com"
    transport.close()
    transport.close()


def test_twenty_megabytes_arrive_whole(device: Device) -> None:
    data = bytes(range(256)) * 80_000
    transport = connect(device)
    stream = transport.open(["sh", "-c", "head -c 20480000 | sha256sum"])
    stream.write(data)
    out = stream.read(64)
    transport.close()

    import hashlib

    assert out.decode().startswith(hashlib.sha256(data).hexdigest())


def test_much_standard_error_does_not_stall_the_channel(device: Device) -> None:
    script = "import sys\nfor n in range(100): sys.stderr.write('e' * 65536 + '\\n'); print(n, flush=True)"
    out, status, stderr = run(device, "python3", "-c", script)
    assert (len(out.split()), status) == (100, 0)
    assert stderr


def test_a_program_that_is_not_there(device: Device) -> None:
    _, status, stderr = run(device, "nosuch")
    assert status == 127
    assert "not found" in stderr[-1]


def test_a_closed_pipe_while_writing(device: Device) -> None:
    transport = connect(device)
    stream = transport.open(["true"])
    assert stream.read(1) == b""
    with pytest.raises(OSError):  # noqa: PT011  # closed sockets say it in several ways
        stream.write(b"x" * 10_000_000)
    transport.close()


# ── host keys ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_key_that_a_device_shows_is_read_without_logging_in(device: Device) -> None:
    nobody = replace(device, host_key=None, identity=None, user="nobody")
    assert scan_host_key(nobody, PI, reporter=Reporter(), timeouts=CALM).line == device.host_key


def test_a_device_that_is_not_enrolled_is_not_talked_to(device: Device) -> None:
    assert "host key is not known" in str(refused(replace(device, host_key=None), AuthError))


def test_a_changed_host_key_stops_everything(device: Device, gate: Device) -> None:
    """The pinned key of another device, as after a man in the middle or a reinstallation."""
    error = refused(replace(device, host_key=gate.host_key), AuthError)
    assert device.host_key is not None
    assert gate.host_key is not None
    assert error.exit_code == 4
    assert HostKey.parse(device.host_key).fingerprint in str(error)
    assert HostKey.parse(gate.host_key).fingerprint in str(error)


def test_a_pinned_key_of_another_type_is_a_change_too(device: Device) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    line = public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    assert device.host_key is not None

    error = refused(replace(device, host_key=line), AuthError)

    assert "has changed" in str(error)
    assert HostKey.parse(device.host_key).fingerprint in str(error)


# ── logging in ───────────────────────────────────────────────────────────────────────────────────────────────────────


def other_key(folder: Path, name: str = "other", passphrase: str = "") -> Path:
    import subprocess

    path = folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)], check=True)
    return path


def test_a_wrong_key(device: Device, tmp_path: Path) -> None:
    error = refused(replace(device, identity=str(other_key(tmp_path))), AuthError)
    assert f"refused {tmp_path / 'other'}" in str(error)
    assert "ssh-copy-id" in (error.hint or "")


def test_no_such_user(device: Device) -> None:
    assert "refused" in str(refused(replace(device, user="nobody-here"), AuthError))


def test_no_key_to_try(device: Device) -> None:
    assert "there is none to try" in str(refused(replace(device, identity=None), AuthError))


def test_an_identity_that_is_missing_or_locked(device: Device, tmp_path: Path) -> None:
    assert "no such file" in str(refused(replace(device, identity=str(tmp_path / "none")), AuthError))
    locked = other_key(tmp_path, "locked", "secret")
    assert "ssh-add it first" in str(refused(replace(device, identity=str(locked)), AuthError))
    (tmp_path / "text").write_text("no key")
    assert "not usable" in str(refused(replace(device, identity=str(tmp_path / "text")), AuthError))


def test_the_default_identity_is_tried(device: Device, lab: Lab, empty_home: Path) -> None:
    (empty_home / ".ssh" / "id_ed25519").write_bytes(lab.identity.read_bytes())
    assert run(replace(device, identity=None), "hostname")[0] == b"pi\n"


def test_the_identity_of_the_configuration_is_tried(device: Device, lab: Lab, empty_home: Path) -> None:
    (empty_home / ".ssh" / "config").write_text(
        f"Host board\n  HostName 127.0.0.1\n  Port {device.port}\n  User pi\n  IdentityFile {lab.identity}\n"
    )
    alias = replace(device, host="board", port=None, user=None, identity=None)
    assert run(alias, "hostname")[0] == b"pi\n"


def test_the_users_agent_is_asked(
    device: Device, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    import subprocess

    sock = tmp_path / "agent.sock"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(sock)], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(sock))
        for _ in range(3000):
            if sock.exists():
                break
            threading.Event().wait(0.02)
        subprocess.run(["ssh-add", "-q", str(other_key(tmp_path, "first"))], check=True, capture_output=True)
        subprocess.run(["ssh-add", "-q", str(lab.identity)], check=True, capture_output=True)
        assert run(replace(device, identity=None), "hostname")[0] == b"pi\n"
    finally:
        agent.terminate()
        agent.wait()


def test_more_keys_than_a_server_takes(device: Device, tmp_path: Path, empty_home: Path) -> None:
    files = "".join(f"  IdentityFile {other_key(tmp_path, f'k{n}')}\n" for n in range(7))
    (empty_home / ".ssh" / "config").write_text(f"Host 127.0.0.1\n{files}")
    error = refused(replace(device, identity=None), AuthError)
    assert "only the first 5 are tried" in str(error)


# ── networks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_port_where_nothing_listens(device: Device) -> None:
    (port,) = free_ports(1)
    error = refused(replace(device, port=port), UnreachableError)
    assert error.exit_code == 5
    assert "nothing listens there" in str(error)


def test_a_name_without_an_address(device: Device) -> None:
    assert "has no address" in str(refused(replace(device, host="no-such-host.invalid"), UnreachableError))


def test_a_server_that_says_nothing(device: Device) -> None:
    assert device.port is not None
    with Relay(device.port) as relay:
        relay.silent = True
        error = refused(replace(device, port=relay.port), UnreachableError, replace(CALM, banner=1))
        assert relay.connections == 1  # a server that hangs is not asked six times
    assert "no SSH server answers" in str(error)


def test_connections_dropped_by_a_busy_server_are_tried_again(device: Device) -> None:
    assert device.port is not None
    with Relay(device.port) as relay:
        relay.drops = 4
        assert run(replace(device, port=relay.port), "hostname")[0] == b"pi\n"
        assert relay.connections == 5


def test_a_server_that_drops_everything(device: Device) -> None:
    assert device.port is not None
    with Relay(device.port) as relay:
        relay.drops = 99
        error = refused(replace(device, port=relay.port), UnreachableError)
    assert "MaxStartups" in (error.hint or "")


@pytest.mark.parametrize("after", [5, 300, 700, 800, 1000, 1100])
def test_a_connection_that_breaks_at_any_stage(device: Device, after: int) -> None:
    assert device.port is not None
    with Relay(device.port) as relay:
        relay.cuts = [after] * 9
        with pytest.raises(UnreachableError):
            run(replace(device, port=relay.port), "hostname")


def echo_forever(stream: SshStream) -> None:
    while True:
        stream.write(b"x" * 50_000)
        stream.read(50_000)


def test_a_connection_that_breaks_in_mid_stream(device: Device) -> None:
    assert device.port is not None
    with Relay(device.port) as relay:
        relay.cuts = [300_000]
        transport = connect(replace(device, port=relay.port))
        stream = transport.open(["cat"])
        with pytest.raises(ConnectionResetError, match="lost"):
            echo_forever(stream)
        assert stream.ended().status is None
        with pytest.raises(UnreachableError, match="connection broke"):
            transport.open(["true"])
        transport.close()


def test_more_sessions_than_the_server_allows(device: Device) -> None:
    """MaxSessions of sshd is 10; the eleventh is refused, and taken once another has ended."""
    transport = connect(device, replace(CALM, pause=0.1))  # in all about 3 s for the first to end
    streams = [transport.open(["cat"]) for _ in range(10)]
    with pytest.raises(UnreachableError, match="opens no session") as error:
        transport.open(["true"])
    assert "MaxSessions" in (error.value.hint or "")

    timer = threading.Timer(0.1, streams[0].close)
    timer.start()
    assert transport.open(["echo", "in"]).read(10) == b"in\n"
    timer.join()
    transport.close()


# ── jump hosts ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def behind(device: Device, gate: Device, lab: Lab, empty_home: Path) -> Device:
    """The device as seen through the gate; the gate is in known_hosts."""
    ssh = empty_home / ".ssh"
    (ssh / "config").write_text(
        f"Host board\n  HostName 127.0.0.1\n  Port {device.port}\n  ProxyJump gate\n"
        f"Host gate\n  HostName 127.0.0.1\n  Port {gate.port}\n  User {gate.user}\n  IdentityFile {lab.identity}\n"
    )
    (ssh / "known_hosts").write_text(f"[127.0.0.1]:{gate.port} {gate.host_key}\n")
    return replace(device, host="board", port=None)


def test_a_device_behind_a_jump_host(behind: Device) -> None:
    assert run(behind, "hostname") == (b"pi\n", 0, ())
    assert scan_host_key(behind, PI, reporter=Reporter(), timeouts=CALM).line == behind.host_key


def test_a_changed_key_is_noticed_behind_a_jump_host(behind: Device, gate: Device) -> None:
    assert "has changed" in str(refused(replace(behind, host_key=gate.host_key), AuthError))


def test_an_unknown_jump_host_is_not_accepted(behind: Device, empty_home: Path) -> None:
    (empty_home / ".ssh" / "known_hosts").write_text("")
    error = refused(behind, AuthError)
    assert "is unknown and shows" in str(error)
    assert error.hint == "check the fingerprint and log in there once: ssh gate"


def test_a_jump_host_with_another_key(behind: Device, gate: Device, empty_home: Path) -> None:
    (empty_home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{gate.port} {behind.host_key}\n")
    assert "has changed" in str(refused(behind, AuthError))


def test_a_jump_host_without_the_known_kind_of_key(behind: Device, gate: Device, empty_home: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    line = public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    (empty_home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{gate.port} {line}\n")
    assert "none of the keys of known_hosts" in str(refused(behind, AuthError))


def test_a_jump_host_that_reaches_nothing(behind: Device, empty_home: Path) -> None:
    (port,) = free_ports(1)
    config = (empty_home / ".ssh" / "config").read_text()
    (empty_home / ".ssh" / "config").write_text(config.replace("Host board\n", f"Host board\n  Port {port}\n", 1))
    assert "the jump host gets no connection" in str(refused(behind, UnreachableError))
