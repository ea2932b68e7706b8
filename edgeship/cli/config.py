"""`edgeship config`: settings and where each comes from."""

from __future__ import annotations

import click

from edgeship.cli.options import with_output
from edgeship.cli.output import Output, Table


@click.group()
def config() -> None:
    """Settings and where each comes from."""


@config.command("list")
@click.option("--origin", is_flag=True, default=False, help="Show where each value comes from.")
@with_output
def list_(out: Output, origin: bool) -> None:
    """List the settings of this project: flag, then environment, edgeship.toml, user file, default."""
    from edgeship import config as settings
    from edgeship.cli.output import jsonable

    project = settings.load()
    data, rows = [], []
    for leaf, value in settings.listed(project):
        source = project.origins[leaf.dotted]
        data.append(
            {
                "key": leaf.dotted,
                "value": jsonable(value),
                "origin": source.kind,
                "where": source.where or None,
                "variable": settings.variable(leaf),
            }
        )
        shown = ", ".join(map(str, value)) if isinstance(value, tuple) else value
        rows.append((leaf.dotted, shown, str(source)) if origin else (leaf.dotted, shown))
    out.emit("config.list", data, Table(("setting", "value", "origin") if origin else ("setting", "value"), rows))
