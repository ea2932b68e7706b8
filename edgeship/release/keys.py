"""Signing keys of a fleet's releases.

`KeySet.create` makes a development set: one ed25519 key a role, threshold 1, unencrypted files of mode 0600 in a folder
of mode 0700. It is marked as such in `keys.json` and in every message about it; it suits a desk, not two thousand
devices. Names of the roles are the TUF specification's (its "targets" role signs what our prose calls releases).
"""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner, Signer, SSlibKey

from edgeship.errors import ReleaseError
from edgeship.release import durable

ROLES = ("root", "targets", "snapshot", "timestamp")
SCHEMA = "edgeship.keys/v1"
_INDEX = "keys.json"


@dataclass(frozen=True)
class KeySet:
    """The signers of every role, and whether they are development keys."""

    folder: Path
    signers: Mapping[str, Signer]
    development: bool = True

    @classmethod
    def create(cls, folder: Path) -> KeySet:
        """Make a development key set in `folder`.

        Raises:
            ReleaseError: there is a key set already; it is never overwritten, devices trust it.
        """
        if (folder / _INDEX).exists():
            raise ReleaseError(f"{folder} holds a key set already", hint="devices trust it: keep it, or choose another")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        signers = {role: CryptoSigner.generate_ed25519() for role in ROLES}
        for role, signer in signers.items():
            durable.write(folder / f"{role}.pem", signer.private_bytes, mode=0o600)
        index = {
            "schema": SCHEMA,
            "development": True,
            "warning": "development keys: unencrypted, threshold 1. Anybody who reads this folder can sign releases.",
            "roles": {
                role: {"file": f"{role}.pem", "keyid": signer.public_key.keyid, "key": signer.public_key.to_dict()}
                for role, signer in signers.items()
            },
        }
        durable.write(folder / _INDEX, json.dumps(index, indent=2).encode(), mode=0o600)
        return cls(folder, signers)

    @classmethod
    def load(cls, folder: Path) -> KeySet:
        """Read the key set in `folder`.

        Raises:
            ReleaseError: there is none, it is damaged, or other users of this machine can read a key.
        """
        index = _read_index(folder)
        try:
            signers = {role: _load_signer(folder, index["roles"][role]) for role in ROLES}
            return cls(folder, signers, bool(index["development"]))
        except (KeyError, TypeError, ValueError, OSError, UnsupportedAlgorithm) as error:
            raise ReleaseError(
                f"the key set in {folder} is damaged: {error!r}", hint="restore it from your backup"
            ) from error


def exists(folder: Path) -> bool:
    """Whether `folder` holds a key set."""
    return (folder / _INDEX).is_file()


def _read_index(folder: Path) -> dict[str, Any]:
    try:
        index = json.loads((folder / _INDEX).read_bytes())
    except FileNotFoundError:
        raise ReleaseError(f"no signing keys in {folder}", hint="edgeship init") from None
    except (OSError, ValueError) as error:
        raise ReleaseError(f"cannot read {folder / _INDEX}: {error}", hint="restore it from your backup") from error
    if not isinstance(index, dict) or index.get("schema") != SCHEMA:
        raise ReleaseError(f"{folder / _INDEX} is not a key set of schema {SCHEMA}", hint="restore it from your backup")
    return index


def _load_signer(folder: Path, entry: Mapping[str, Any]) -> Signer:
    path = folder / str(entry["file"])
    if path.parent != folder:
        raise ValueError(f"{entry['file']!r} is not a plain file name")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise ReleaseError(f"{path} can be read by others (mode {mode:04o})", hint=f"chmod 600 {path}")
    key = SSlibKey.from_dict(str(entry["keyid"]), dict(entry["key"]))
    private = load_pem_private_key(path.read_bytes(), None)
    signer = CryptoSigner(private, key)
    if SSlibKey.from_crypto(private.public_key(), key.keyid).keyval != key.keyval:
        raise ValueError(f"{path.name} does not belong to the public key beside it")
    return signer
