"""The agent's zipapp: equal bytes for equal inputs, everything a board needs and nothing of a fleet."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edgeship.deploy import zipapp
from edgeship.errors import MissingExtra, ReleaseError


def test_equal_inputs_give_equal_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = zipapp.build(tmp_path / "a")
    monkeypatch.setattr(os, "umask", lambda _mask: 0)
    assert zipapp.build(tmp_path / "b") == first
    assert len(first) < 450_000


def test_a_build_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = zipapp.build(tmp_path)
    monkeypatch.setattr(zipapp, "_zip", lambda _members: b"")
    assert zipapp.build(tmp_path) == first
    assert len(list(tmp_path.iterdir())) == 1


def test_the_cache_is_the_users_when_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    zipapp.build()
    assert list(tmp_path.glob("edgeship/agent/*.pyz"))


def test_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "a.pyz").write_bytes(zipapp.build(tmp_path / "cache"))
    with zipfile.ZipFile(tmp_path / "a.pyz") as archive:
        names = archive.namelist()
        assert archive.read("edgeship/__init__.py") == b""
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert names == sorted(names)
    assert {"__main__.py", "edgeship/runtime/supervisor.py", "edgeship/runtime/worker.py"} <= set(names)
    assert {name.split("/")[1] for name in names if name.startswith("licenses/")} == set(zipapp.THIRD_PARTY)
    for unwanted in ("test", "__pycache__", "edgeship/deploy", "edgeship/cli", ".edgeship"):
        assert not [name for name in names if unwanted in name], unwanted
    folders = {os.path.dirname(name) for name in names if name.endswith(".py")} - {""}
    assert all(f"{folder}/__init__.py" in names for folder in folders), "zip files have no namespace packages"


def test_it_runs_without_installed_packages(tmp_path: Path) -> None:
    app = tmp_path / "a.pyz"
    app.write_bytes(zipapp.build(tmp_path / "cache"))
    link = tmp_path / "current"
    link.symlink_to("a.pyz")
    run = [sys.executable, "-I", "-S"]
    assert subprocess.run([*run, link, "version"], check=True, capture_output=True, text=True).stdout.strip()
    show = f"import sys; sys.path.insert(0, {str(app)!r}); import tuf.ngclient; print(tuf.ngclient.__file__)"
    done = subprocess.run([*run, "-c", show], check=True, capture_output=True, text=True)
    assert done.stdout.startswith(str(app))


def test_errors_name_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ReleaseError, match="cannot write the agent"):
        zipapp.build(tmp_path / "file")
    monkeypatch.setattr(zipapp, "THIRD_PARTY", ("no_such_package",))
    with pytest.raises(MissingExtra):
        zipapp.build(tmp_path / "cache")


def test_a_store_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ReleaseError, match="No space left"):
        zipapp.build(tmp_path)
    assert not list(tmp_path.iterdir())
