"""`edgeship logs`."""

from __future__ import annotations

import click

from edgeship.cli import choose
from edgeship.cli.options import with_output
from edgeship.cli.output import Lines, Output


@click.command()
@click.argument("device")
@click.option("-n", "--lines", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many lines.")
@with_output
def logs(out: Output, device: str, lines: int) -> None:
    """Show the last lines of a device's log."""
    from edgeship import profile
    from edgeship.deploy import lifecycle

    with choose.opened() as (_, store):
        found = choose.device(store, device)
    with out.reporter() as reporter:
        got = lifecycle.log_lines(found, profile.load(found.profile), lines, reporter=reporter)
    out.emit("logs", {"device": device, "lines": got}, Lines(got))
