"""Which project, and which of its devices, a command is for; and the connections to them.

with opened() as (project, store):
    chosen = devices(store, selector, all_=all_)    # -l and --all; the only one without them
    with connected(chosen[0], reporter) as client:
        client.request("status")
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgeship import config
from edgeship.cli.output import Output
from edgeship.reporter import Reporter

if TYPE_CHECKING:
    from edgeship.deploy.client import AgentClient
    from edgeship.deploy.device import Device
    from edgeship.fleet.store import FleetStore
    from edgeship.release.repository import Repository

#: Above this number of devices the project's name is typed instead of a yes.
MANY = 10


@contextmanager
def opened() -> Iterator[tuple[config.Project, FleetStore]]:
    """The project that the current folder belongs to, with its store. Raises UsageError, ConfigError, StoreError."""
    from edgeship.fleet.store import FleetStore

    project = config.load()
    with FleetStore.open(project.fleet.store) as store:
        yield project, store


def devices(store: FleetStore, selector: str | None, *, all_: bool) -> list[Device]:
    """The devices that `-l` and `--all` mean; the only one there is without them. Raises UsageError."""
    from edgeship.fleet import inventory

    return inventory.choose(store.devices(), selector, everything=all_)


def device(store: FleetStore, name: str) -> Device:
    """A device by name. Raises UsageError with a suggestion."""
    from edgeship.fleet import inventory

    return inventory.find(store.devices(), name)


def repository(project: config.Project) -> Repository:
    """The project's releases. Raises ReleaseError."""
    from edgeship.release.keys import KeySet
    from edgeship.release.repository import Repository

    return Repository.open(project.releases, KeySet.load(project.fleet.keys))


@contextmanager
def connected(chosen: Device, reporter: Reporter) -> Iterator[AgentClient]:
    """The agent that is on a device. Raises DeviceError (code "no-agent" where none is), and as `open_agent`."""
    from edgeship import profile
    from edgeship.deploy.contact import open_agent

    link = open_agent(chosen, profile.load(chosen.profile), reporter=reporter)
    try:
        yield link.client
    finally:
        link.close()


def confirm(out: Output, what: str, chosen: Sequence[Device], project: config.Project, *, yes: bool) -> None:
    """Ask before something that disturbs devices; above `MANY` of them the project's name is typed.

    Raises:
        UsageError: nobody is there to answer, or another name was typed.
        EdgeshipError: the answer was no.
    """
    from edgeship.errors import UsageError

    names = ", ".join(item.name for item in chosen[:MANY])
    if yes or len(chosen) <= MANY:
        out.confirm(f"{what} on {names}?", yes=yes)
        return
    typed = out.ask(f"{what} on {len(chosen)} devices; type the project's name to go on", option="--yes")
    if typed != project.name:
        raise UsageError(
            f"{typed!r} is not the project's name; nothing was done",
            hint="start again and type it as edgeship.toml has it; --yes for scripts",
        )
