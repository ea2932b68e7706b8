"""`edgeship schema`."""

from __future__ import annotations

import click

from edgeship.cli.options import with_output
from edgeship.cli.output import Lines, Output, Table


@click.command()
@click.argument("name", required=False)
@with_output
def schema(out: Output, name: str | None) -> None:
    """Print the JSON Schema of a --json output.

    Without NAME, list the names. NAME is that of the command (device.list) or as in the output
    (edgeship.device.list/v1).
    """
    import json

    from edgeship.cli import schemas

    if name is None:
        data = [{"name": known, "about": about} for known, about in schemas.listed()]
        out.emit("schema", data, Table(("name", "about"), [(d["name"], d["about"]) for d in data]))
        return
    found = schemas.json_schema(name)
    if out.json:
        out.emit("schema", found, Lines([]))
    else:
        out.emit("schema", found, Lines([json.dumps(found, indent=2)]))
