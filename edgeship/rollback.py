"""An operator's rollback: a new signed release that points at an earlier one's files, deployed as any other.

A device only ever moves forward, so going back is going forward to old files. `plan` decides and touches nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeship import config, profile
from edgeship.deploy.contact import Agent, Settings
from edgeship.deploy.device import Device
from edgeship.deploy.fleet_run import Outcome, fleet_run
from edgeship.deploy.packing import Packer
from edgeship.deploy.perform import Deployed, deploy
from edgeship.deploy.store import Store
from edgeship.errors import EdgeshipError, UsageError
from edgeship.release.build import earlier, rollback
from edgeship.release.repository import Repository
from edgeship.reporter import Reporter


@dataclass(frozen=True)
class Plan:
    """What a rollback will do."""

    model: str
    current: int
    to: int  # counter of the release whose files come back
    devices: tuple[Device, ...]


def plan(repository: Repository, devices: Sequence[Device], *, model: str | None = None, to: int | None = None) -> Plan:
    """Decide which release comes back.

    Args:
        repository: the project's releases.
        devices: where.
        model: its name; None where there is only one.
        to: its counter; None: the newest earlier one with other files.

    Raises:
        UsageError: several models, or the release is the current one.
        ReleaseError: no such model or release.
    """
    models = repository.models()
    if model is None:
        if len(models) != 1:
            raise UsageError("which model?", hint=f"--model, one of: {', '.join(sorted(models))}" if models else None)
        model = next(iter(models))
    target = earlier(repository, model, to)
    current = models[model].counter
    if target == current:
        raise UsageError(f"release {target} of {model} is the current one", hint="edgeship release list")
    return Plan(model, current, target, tuple(devices))


def perform(
    planned: Plan, project: config.Project, repository: Repository, store: Store, *, by: str, jobs: int,
    reporter: Reporter,
) -> tuple[int, list[Outcome[Deployed]]]:  # fmt: skip
    """Sign the release and deploy it.

    Returns:
        its counter, and what became of each device.

    Raises:
        ReleaseError: it could not be signed; nothing was sent.
    """
    release = rollback(repository, planned.model, to=planned.to, approved_by=by)
    agent, packer = Agent.own(), Packer(repository.packed())
    settings = Settings(window_seconds=project.telemetry.window_seconds)
    about = {"model": planned.model, "counter": release.manifest.counter, "to": planned.to, "by": by}

    def one(device: Device) -> Deployed:
        try:
            board = profile.load(device.profile)
            done = deploy(device, board, release, repository, settings, reporter, agent=agent, packer=packer)
        except EdgeshipError as error:
            store.audit("refused", device.name, {**about, "reason": str(error)[:500]})
            raise
        store.audit("rollback", device.name, about)
        return done

    return release.manifest.counter, fleet_run(planned.devices, one, jobs)
