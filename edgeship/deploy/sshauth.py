"""Logging in over SSH with keys: explicit ones, the user's agent, the default identities. Never a password."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from paramiko.ssh_exception import AuthenticationException, BadAuthenticationType, SSHException

from edgeship.deploy.sshconfig import DEFAULT_IDENTITIES, Hop
from edgeship.deploy.transport import clean
from edgeship.errors import AuthError, UnreachableError

MAX_TRIES = 5  # below OpenSSH's default MaxAuthTries of 6


@dataclass
class _Tried:
    """What was tried, for the message."""

    names: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def log_in(transport: paramiko.Transport, hop: Hop, device: str) -> None:
    """Authenticate a connected transport.

    Raises:
        AuthError: no key was accepted, or there is none to try.
        UnreachableError: the connection broke meanwhile.
    """
    tried = _Tried()
    agent = paramiko.Agent()
    try:
        for name, key in _keys(hop, agent, tried):
            if len(tried.names) == MAX_TRIES:
                tried.skipped.append(f"{name} (only the first {MAX_TRIES} are tried)")
                continue
            tried.names.append(name)
            try:
                more = transport.auth_publickey(hop.user, key)
            except BadAuthenticationType as error:
                raise AuthError(
                    f"{device}: {hop} takes no keys, only {', '.join(error.allowed_types)}", device=device,
                    stage="connect", hint="allow PubkeyAuthentication in its sshd_config, then ssh-copy-id",
                ) from error  # fmt: skip
            except AuthenticationException as error:
                if transport.is_active():
                    continue
                if len(tried.names) == 1:  # paramiko says the same for a refused key and a lost connection
                    raise ConnectionResetError("the connection was lost") from error
                tried.skipped.append("then the server hung up")
                break
            if more:
                raise AuthError(f"{device}: {hop} wants {' and '.join(more)} after the key", device=device,
                                stage="connect", hint="edgeship logs in with a key alone")  # fmt: skip
            return
    except (SSHException, EOFError, OSError) as error:
        raise UnreachableError(
            f"{device}: {hop} broke the connection during the login: {clean(str(error)) or 'no reason'}", device=device,
            stage="connect", hint=f"ssh -v -p {hop.port} {hop.user}@{hop.host}",
        ) from error  # fmt: skip
    finally:
        agent.close()
    skipped = f" (not usable: {'; '.join(tried.skipped)})" if tried.skipped else ""
    what = f"refused {', '.join(tried.names)}" if tried.names else "needs a key and there is none to try"
    raise AuthError(
        f"{device}: {hop} {what}{skipped}", device=device, stage="connect",
        hint=f"ssh-copy-id -p {hop.port} {hop.user}@{hop.host}, or edgeship device add {device} --key FILE",
    )  # fmt: skip


def _keys(hop: Hop, agent: paramiko.Agent, tried: _Tried) -> Iterator[tuple[str, paramiko.PKey]]:
    """Keys in the order to try them; the same key is tried once."""
    seen: set[bytes] = set()
    for path in hop.identities:
        key = _load(path, tried, wanted=True)
        if key and key.asbytes() not in seen:
            seen.add(key.asbytes())
            yield str(path), key
    wanted = {_public(path) for path in hop.identities}
    for held in agent.get_keys():
        if held.asbytes() in seen or (hop.identities_only and held.asbytes() not in wanted):
            continue
        seen.add(held.asbytes())
        yield f"the agent's {held.comment or held.get_name()}", held
    if hop.identities:
        return
    for name in DEFAULT_IDENTITIES:
        path = Path.home() / ".ssh" / name
        key = _load(path, tried, wanted=False)
        if key and key.asbytes() not in seen:
            yield str(path), key


def _load(path: Path, tried: _Tried, *, wanted: bool) -> paramiko.PKey | None:
    try:
        return paramiko.PKey.from_path(path)
    except FileNotFoundError:
        if wanted:
            tried.skipped.append(f"{path}: no such file")
    except (SSHException, ValueError, TypeError, OSError, UnsupportedAlgorithm) as error:
        text = str(error).lower()
        locked = "password" in text or "encrypted" in text or "passphrase" in text
        tried.skipped.append(f"{path}: " + ("locked by a passphrase: ssh-add it first" if locked else f"{error}"))
    return None


def _public(path: Path) -> bytes:
    """The blob of the public key beside a private one that may be locked; b"" where there is none."""
    try:
        return base64.b64decode(path.with_name(path.name + ".pub").read_text(encoding="utf-8").split()[1])
    except (OSError, IndexError, ValueError, binascii.Error):
        return b""
