"""A signed release goes to devices: the last stage of a push and of a rollback.

The audit trail says how it ended on each device.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from edgeship.reporter import Reporter, Step
from edgeship.runtime.manifest import RuntimeRef


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
        self._pack(packer, release, devices)

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

    def _pack(self, packer: Packer, release: PublishedRelease, devices: Sequence[Device]) -> None:
        """Compress the runtime libraries that go along, once on this host: seconds of work that deserve a line."""
        variants = [release.manifest.variant_for(device.profile) for device in devices]
        libraries = {ref.file.sha256: ref for variant in variants if variant for ref in variant.runtimes}
        todo = [ref for sha, ref in libraries.items() if not packer.ready(sha)]

        def one(ref: RuntimeRef) -> None:
            step = Step("pack", f"{ref.name} {ref.arch}")
            self.reporter.started(step)
            packed = packer.pack(self.repository.blob(ref.file.sha256), ref.file.sha256, unpacks=True, shared=True)
            text = f"{ref.file.bytes / 1e6:.1f} → {packed.encoded_bytes / 1e6:.1f} MB, kept for every later push"
            self.reporter.finished(step, text, {"bytes": packed.encoded_bytes})

        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            list(pool.map(one, todo))
