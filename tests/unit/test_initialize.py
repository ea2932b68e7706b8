"""Setting up a project makes what is missing and keeps what is there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edgeship.errors import ConfigError, ReleaseError, UsageError
from edgeship.fleet.store import FleetStore
from edgeship.initialize import initialize


@pytest.fixture(autouse=True)
def no_settings_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "digits"
    made.mkdir()
    return made


def test_everything_is_made_once(folder: Path) -> None:
    first = initialize(folder)
    assert first.made == ("edgeship.toml", ".edgeship/", "development keys", "release folder", "device sim")
    assert first.project.name == "digits"
    assert initialize(folder).made == ()


def test_a_project_out_of_git_is_completed(folder: Path) -> None:
    initialize(folder)
    shutil.rmtree(folder / ".edgeship")
    assert initialize(folder).made == (".edgeship/", "development keys", "release folder", "device sim")


def test_sim_is_not_added_beside_other_devices(folder: Path) -> None:
    project = initialize(folder).project
    with FleetStore.open(project.fleet.store) as store:
        (sim,) = store.devices()
        assert (sim.transport, sim.serve_port, sim.labels) == ("local", 0, {"kind": "sim"})
        assert sim.root == str(folder / ".edgeship" / "sim")
        store.save_device(type(sim)("pi", "raspberry-pi-5", host="h"))
        store.remove_device("sim")
    assert initialize(folder).made == ()


def test_keys_that_are_gone_are_not_replaced_by_others(folder: Path) -> None:
    keys = initialize(folder).project.fleet.keys
    shutil.rmtree(keys)
    with pytest.raises(ReleaseError, match="the keys that signed") as error:
        initialize(folder)
    assert "backup" in (error.value.hint or "")
    assert not keys.exists()


def test_a_folder_in_the_place_of_the_file_is_named(folder: Path) -> None:
    (folder / "edgeship.toml").mkdir()
    with pytest.raises(UsageError, match=r"edgeship\.toml is there already"):
        initialize(folder)


def test_a_wrong_file_or_damaged_keys_are_not_written_over(folder: Path) -> None:
    initialize(folder)
    (folder / ".edgeship" / "keys" / "root.pem").write_text("no key")
    with pytest.raises(ReleaseError, match="damaged"):
        initialize(folder)
    (folder / "edgeship.toml").write_text("[projekt]")
    with pytest.raises(ConfigError, match="did you mean 'project'"):
        initialize(folder)
