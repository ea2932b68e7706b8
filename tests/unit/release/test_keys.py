"""Development keys: made once, kept to their owner, refused when they are not what they were."""

import json
import stat
from pathlib import Path

import pytest

from edgeship.errors import ReleaseError
from edgeship.release import keys
from edgeship.release.keys import ROLES, KeySet


def test_every_role_has_its_own_key_readable_by_the_owner_alone(tmp_path: Path) -> None:
    made = KeySet.create(tmp_path / "keys")

    public = [made.signers[role].public_key for role in ROLES]
    assert len({key.keyid for key in public}) == len(ROLES)
    assert {key.scheme for key in public} == {"ed25519"}
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    for path in (tmp_path / "keys").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_loaded_keys_sign_what_the_made_ones_verify(tmp_path: Path) -> None:
    made = KeySet.create(tmp_path)
    loaded = KeySet.load(tmp_path)

    assert loaded.development
    for role in ROLES:
        signature = loaded.signers[role].sign(b"data")
        made.signers[role].public_key.verify_signature(signature, b"data")


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    KeySet.create(tmp_path)

    assert keys.exists(tmp_path)
    with pytest.raises(ReleaseError, match="already"):
        KeySet.create(tmp_path)


def test_no_keys_says_how_to_make_them(tmp_path: Path) -> None:
    assert not keys.exists(tmp_path)
    with pytest.raises(ReleaseError, match="no signing keys") as error:
        KeySet.load(tmp_path)
    assert error.value.hint == "edgeship init"


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    KeySet.create(tmp_path)
    (tmp_path / "targets.pem").chmod(0o644)

    with pytest.raises(ReleaseError, match=r"read by others \(mode 0644\)") as error:
        KeySet.load(tmp_path)
    assert error.value.hint == f"chmod 600 {tmp_path / 'targets.pem'}"


@pytest.mark.parametrize("damage", ["empty", "other key", "no role", "path", "no file", "not PEM"])
def test_a_damaged_key_set_is_named(tmp_path: Path, damage: str) -> None:
    KeySet.create(tmp_path)
    index = json.loads((tmp_path / "keys.json").read_bytes())
    if damage == "empty":
        (tmp_path / "keys.json").write_bytes(b"")
    elif damage == "other key":
        (tmp_path / "root.pem").write_bytes((tmp_path / "targets.pem").read_bytes())
    elif damage == "no file":
        (tmp_path / "root.pem").unlink()
    elif damage == "not PEM":
        (tmp_path / "root.pem").write_bytes(b"not a key")
    else:
        if damage == "no role":
            del index["roles"]["snapshot"]
        else:
            index["roles"]["root"]["file"] = "../root.pem"
        (tmp_path / "keys.json").write_text(json.dumps(index))

    with pytest.raises(ReleaseError, match=r"damaged|cannot read"):
        KeySet.load(tmp_path)


def test_an_unknown_schema_is_refused(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text('{"schema": "other/v9"}')

    with pytest.raises(ReleaseError, match="not a key set of schema"):
        KeySet.load(tmp_path)
