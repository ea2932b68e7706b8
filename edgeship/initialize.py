"""Setting up a project: edgeship.toml, development keys, an empty release folder, and the device sim.

Every part is made only where it is missing, so that it also completes a project that came out of git.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from edgeship import config, newproject, profile
from edgeship.deploy import local
from edgeship.errors import ReleaseError
from edgeship.fleet.store import FleetStore
from edgeship.release import keys, repository


@dataclass(frozen=True)
class Initialized:
    """What a set-up made."""

    project: config.Project
    made: tuple[str, ...]  # for people, in order; empty: all was there
    notes: tuple[str, ...]


def initialize(folder: Path, name: str | None = None) -> Initialized:
    """Set up the project in `folder`.

    Args:
        folder: an existing folder.
        name: of the project; the folder's by default. Ignored where there is an edgeship.toml.

    Raises:
        UsageError: the name is no name.
        ConfigError: edgeship.toml is wrong, or the folder cannot be written.
        ReleaseError: keys or releases are damaged, or there are releases whose keys are gone.
        StoreError: the fleet's database cannot be opened.
    """
    made: list[str] = []
    notes: tuple[str, ...] = ()
    if not (folder / config.FILE).is_file():
        found = newproject.discover(folder)
        newproject.write_default(folder, name or newproject.name_for(folder), found)
        made.append(config.FILE)
        notes = found.notes
    project = config.load(folder)
    if newproject.make_state(project.folder):
        made.append(f"{config.STATE}/")
    if keys.exists(project.fleet.keys):
        keyset = keys.KeySet.load(project.fleet.keys)
    elif repository.exists(project.releases):
        raise ReleaseError(
            f"the keys that signed {project.releases} are not in {project.fleet.keys}",
            hint=f"restore them from your backup; if they are lost, mv {project.releases} away, edgeship init, and "
            "remove the agents of this project from their devices: they trust nothing else",
        )
    else:
        keyset = keys.KeySet.create(project.fleet.keys)
        made.append("development keys")
    if not repository.exists(project.releases):
        repository.Repository.init(project.releases, keyset)
        made.append("release folder")
    with FleetStore.open(project.fleet.store) as store:
        if not store.devices():
            store.save_device(local.sim(project.folder, profile.host_profile(platform.machine())))
            made.append("device sim")
    return Initialized(project, tuple(made), notes)
