"""A project folder for the commands, away from the user's own settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulators.commandline import run


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
