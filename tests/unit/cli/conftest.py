"""Projects for the commands, away from the user's own settings: empty, with a running agent, with releases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeship import config, profile
from edgeship.cli import choose
from edgeship.deploy import lifecycle
from edgeship.deploy.contact import Settings, contact
from edgeship.deploy.device import Device
from edgeship.deploy.perform import deploy
from edgeship.release.repository import Repository
from edgeship.reporter import Reporter
from tests.simulators.commandline import run
from tests.simulators.served import publish


@pytest.fixture(autouse=True)
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings, colours or SSH configuration of whoever runs the tests."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.chdir(home)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh project with the device sim; the current folder."""
    folder = tmp_path / "digits"
    folder.mkdir()
    monkeypatch.chdir(folder)
    run("init")
    return folder


@pytest.fixture
def enrolled(project: Path) -> Iterator[Device]:
    """The device sim with a running agent that serves nothing yet; it is gone afterwards."""
    with choose.opened() as (_, store):
        device = choose.device(store, "sim")
    root = choose.repository(config.load()).root_bytes()
    board = profile.load(device.profile)
    contact(device, board, root_json=root, settings=Settings(), reporter=Reporter()).close()
    yield device
    lifecycle.uninstall(device, board, reporter=Reporter())


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compressed copies of the runtime library, made once for all tests here."""
    return tmp_path_factory.mktemp("packed")


@pytest.fixture
def updated(enrolled: Device, tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """Two releases with different files; the device serves the second."""
    monkeypatch.setattr(Repository, "packed", lambda _: packed)
    repository = choose.repository(config.load())
    publish(repository, tmp_path / "one")
    second = publish(repository, tmp_path / "two", "float32")
    deploy(enrolled, profile.load(enrolled.profile), second, repository, Settings(), Reporter())
    return repository
