"""Open what a push works with."""

from __future__ import annotations

from edgeship.config import Project
from edgeship.release.keys import KeySet
from edgeship.release.repository import Repository


def open_repository(project: Project) -> Repository:
    """The project's release folder with its keys. Raises ReleaseError where there is none: `edgeship init` makes it."""
    return Repository.open(project.releases, KeySet.load(project.fleet.keys))
