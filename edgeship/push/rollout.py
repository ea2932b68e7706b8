"""A signed release goes to devices: the last stage of a push and of a rollback.

The audit trail says how it ended on each device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeship.config import Project
from edgeship.deploy.contact import Agent, Settings
from edgeship.deploy.device import Device
from edgeship.deploy.fleet_run import Outcome, fleet_run, raise_for
from edgeship.deploy.packing import Packer
from edgeship.deploy.perform import Deployed, deploy
from edgeship.deploy.store import Store
from edgeship.errors import EdgeshipError
from edgeship.profile import Profile
from edgeship.release.build import PublishedRelease
from edgeship.release.repository import Repository
from edgeship.reporter import Reporter


@dataclass(frozen=True)
class Rollout:
    """What it takes to bring releases to devices."""

    project: Project
    profiles: Mapping[str, Profile]  # by name, of all devices
    repository: Repository
    store: Store
    reporter: Reporter
    jobs: int = 16
    one_first: bool = False  # one device first; the others when it is healthy

    def send(self, release: PublishedRelease, devices: Sequence[Device]) -> list[Outcome[Deployed]]:
        """Deploy to all devices; what became of each, in their order.

        Raises:
            EdgeshipError: with `one_first`, what stopped the first device.
            Interrupted: Ctrl-C.
        """
        agent, packer = Agent.own(), Packer(self.repository.packed())
        settings = Settings(self.project.telemetry.window_seconds)
        manifest = release.manifest

        def one(device: Device) -> Deployed:
            variant = manifest.variant_for(device.profile)
            about = {
                "model": manifest.model, "counter": manifest.counter,
                "precision": variant.precision if variant else None,
            }  # fmt: skip
            try:
                done = deploy(
                    device, self.profiles[device.profile], release, self.repository, settings, self.reporter,
                    agent=agent, packer=packer,
                )  # fmt: skip
            except EdgeshipError as error:
                self.store.audit("deploy.failed", device.name, about | {"reason": str(error)[:500]})
                raise
            self.store.audit("deploy.good", device.name, about | {"bytes": done.sent_bytes})
            return done

        if not self.one_first or len(devices) < 2:
            return fleet_run(devices, one, self.jobs)
        first = fleet_run(devices[:1], one, 1)
        raise_for(first)
        return first + fleet_run(devices[1:], one, self.jobs)
