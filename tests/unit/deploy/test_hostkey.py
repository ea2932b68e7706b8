"""Host keys: pinned, compared whole, never accepted blindly."""

import subprocess
from pathlib import Path

import paramiko
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edgeship.deploy.hostkey import HostKey, check_jump, compare, known
from edgeship.deploy.sshconfig import Hop
from edgeship.errors import AuthError, ConfigError


def ed_line() -> str:
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def hop(*known_hosts: Path, port: int = 22) -> Hop:
    return Hop("gate", "gate.example", port, "ada", (), False, known_hosts)


def test_a_line_is_read_and_written_alike() -> None:
    line = ed_line()
    assert HostKey.parse(f"{line} a comment").line == line


def test_the_fingerprint_is_openssh_s(tmp_path: Path) -> None:
    line = ed_line()
    (tmp_path / "k.pub").write_text(line)
    shown = subprocess.run(["ssh-keygen", "-lf", str(tmp_path / "k.pub")], capture_output=True, text=True, check=True)
    assert HostKey.parse(line).fingerprint == shown.stdout.split()[1]


def test_a_key_is_the_same_as_paramiko_s() -> None:
    key = HostKey.parse(ed_line())
    assert HostKey.of(paramiko.PKey.from_type_string(key.type, key.blob)) == key


def test_an_rsa_key_is_asked_for_with_its_modern_signatures() -> None:
    public = rsa.generate_private_key(65537, 2048).public_key()
    key = HostKey.parse(public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())
    assert key.algorithms == ("rsa-sha2-512", "rsa-sha2-256")
    assert HostKey.parse(ed_line()).algorithms == ("ssh-ed25519",)


@pytest.mark.parametrize(
    "line", ["", "ssh-ed25519", "ssh-ed25519 !!!", "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIA==", "x AA=="]
)
def test_what_is_no_key_is_refused(line: str) -> None:
    with pytest.raises(ConfigError, match="not a host key"):
        HostKey.parse(line)


def test_the_pinned_key_passes_and_another_names_both_fingerprints() -> None:
    pinned, other = HostKey.parse(ed_line()), HostKey.parse(ed_line())
    compare("pi", pinned, pinned)

    with pytest.raises(AuthError) as error:
        compare("pi", pinned, other)
    assert error.value.exit_code == 4
    assert pinned.fingerprint in str(error.value)
    assert other.fingerprint in str(error.value)
    assert "device rm pi" in (error.value.hint or "")


def test_a_jump_host_must_be_known(tmp_path: Path) -> None:
    line = ed_line()
    seen = HostKey.parse(line)
    here = tmp_path / "known_hosts"
    here.write_text(f"gate.example {line}\n[gate.example]:2222 {line}\n")

    assert known(hop(here, tmp_path / "absent")) == [seen]
    assert known(hop(here, port=2222)) == [seen]
    assert known(hop(here, port=2223)) == []
    check_jump("pi", hop(here), [seen], seen)
    with pytest.raises(AuthError, match="unknown and shows"):
        check_jump("pi", hop(here), [], seen)
    with pytest.raises(AuthError, match="has changed"):
        check_jump("pi", hop(here), [HostKey.parse(ed_line())], seen)


def test_an_unreadable_known_hosts_file(tmp_path: Path) -> None:
    (tmp_path / "known_hosts").mkdir()
    with pytest.raises(ConfigError, match="cannot read"):
        known(hop(tmp_path / "known_hosts"))
