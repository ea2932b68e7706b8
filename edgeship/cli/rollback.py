"""`edgeship rollback`."""

from __future__ import annotations

import getpass

import click

from edgeship.cli import choose
from edgeship.cli.options import device_options, dry_run_option, jobs_option, with_output, yes_option
from edgeship.cli.output import Output, Table


@click.command()
@device_options
@click.option("--model", default=None, help="Which model; may be left out where there is only one.")
@click.option("--to", type=click.IntRange(min=1), default=None, help="Which release, by its number.")
@dry_run_option
@yes_option
@jobs_option
@with_output
def rollback(
    out: Output,
    selector: str | None,
    all_: bool,
    model: str | None,
    to: int | None,
    dry_run: bool,
    yes: bool,
    jobs: int,
) -> None:
    """Go back to an earlier release on devices.

    By default the last one that they found healthy and that differs from what they serve. Signs a new release that
    points at the earlier one's files and deploys it: golden samples are probed as ever.
    """
    from edgeship import profile
    from edgeship.deploy.fleet_run import raise_for
    from edgeship.push import rollback as core
    from edgeship.push.rollout import Rollout

    with choose.opened() as (project, store):
        repository = choose.repository(project)
        good = [
            core.Good(e.subject, str(e.detail.get("model")), int(e.detail["counter"]))
            for e in store.entries(actions=("deploy.good",), limit=10_000)
            if isinstance(e.detail.get("counter"), int)
        ]
        chosen = choose.devices(store, selector, all_=all_)
        planned = core.plan(repository, chosen, good, model=model, to=to)
        data = {"model": planned.model, "from": planned.current, "to": planned.to, "counter": None, "dry_run": dry_run}
        if dry_run:
            would = f"would serve the files of release {planned.to}"
            devices = [{"device": d.name, "state": would, "error": None} for d in planned.devices]
            out.emit("rollback", {**data, "devices": devices}, _table(devices))
            return
        choose.confirm(out, f"go back to release {planned.to} of {planned.model}", planned.devices, project, yes=yes)
        with out.reporter() as reporter:
            profiles = {device.profile: profile.load(device.profile) for device in chosen}
            rollout = Rollout(project, profiles, repository, store, reporter, jobs)
            counter, outcomes = core.perform(planned, rollout, by=getpass.getuser())
    devices = [
        {
            "device": o.device.name,
            "state": f"serves release {counter} (files of {planned.to})" if o.ok else "FAILED",
            "error": str(o.error) if o.error else None,
        }
        for o in outcomes
    ]
    out.emit("rollback", {**data, "counter": counter, "devices": devices}, _table(devices))
    raise_for(outcomes)


def _table(devices: list[dict[str, str | None]]) -> Table:
    return Table(("device", "state", "error"), [(d["device"], d["state"], d["error"]) for d in devices])
