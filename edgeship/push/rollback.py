"""An operator's rollback: a new signed release that points at an earlier one's files, deployed as any other.

A device only ever moves forward, so going back is going forward to old files. `plan` decides and touches nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgeship.deploy.device import Device
from edgeship.deploy.fleet_run import Outcome
from edgeship.deploy.perform import Deployed
from edgeship.errors import UsageError
from edgeship.push.rollout import Rollout
from edgeship.release import build
from edgeship.release.repository import Repository


@dataclass(frozen=True)
class Good:
    """A release that a device took and found healthy, out of the audit trail."""

    device: str
    model: str
    counter: int


@dataclass(frozen=True)
class Plan:
    """What a rollback will do."""

    model: str
    current: int
    to: int  # counter of the release whose files come back
    devices: tuple[Device, ...]


def plan(
    repository: Repository, devices: Sequence[Device], good: Iterable[Good], *, model: str | None = None,
    to: int | None = None,
) -> Plan:  # fmt: skip
    """Decide which release comes back.

    Args:
        repository: the project's releases.
        devices: where.
        good: what devices found healthy, newest first.
        model: its name; None where there is only one.
        to: its counter; None: the newest one that one of these devices found healthy and that holds other files than
            what they serve; where none is on record, the newest earlier one with other files.

    Raises:
        UsageError: several models, or the release is the current one.
        ReleaseError: no such model or release.
    """
    models = repository.models()
    if model is None:
        if len(models) != 1:
            raise UsageError("which model?", hint=f"--model, one of: {', '.join(sorted(models))}" if models else None)
        model = next(iter(models))
    names = {device.name for device in devices}
    proven = [g.counter for g in good if g.model == model and g.device in names]
    target = build.earlier(repository, model, _other_than_served(repository, model, proven) if to is None else to)
    current = models[model].counter
    if target == current:
        raise UsageError(f"release {target} of {model} is the current one", hint="edgeship release list")
    return Plan(model, current, target, tuple(devices))


def _other_than_served(repository: Repository, model: str, proven: Sequence[int]) -> int | None:
    """The newest healthy release whose variants differ from the newest healthy one's, that is, from what is served."""
    within = {counter for counter, _ in repository.models()[model].history} if model in repository.models() else set()
    known = [counter for counter in proven if counter in within]
    for counter in known[1:]:
        if repository.manifest(model, counter)[0].variants != repository.manifest(model, known[0])[0].variants:
            return counter
    return None


def perform(planned: Plan, rollout: Rollout, *, by: str) -> tuple[int, list[Outcome[Deployed]]]:
    """Sign the release and deploy it.

    Returns:
        its counter, and what became of each device.

    Raises:
        ReleaseError: it could not be signed; nothing was sent.
    """
    release = build.rollback(rollout.repository, planned.model, to=planned.to, approved_by=by)
    rollout.store.audit(
        "release.rollback", planned.model,
        {"model": planned.model, "counter": release.manifest.counter, "to": planned.to, "approved_by": by},
    )  # fmt: skip
    return release.manifest.counter, rollout.send(release, planned.devices)
