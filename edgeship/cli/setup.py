"""`edgeship setup`."""

from __future__ import annotations

from pathlib import Path

import click

from edgeship.cli.options import with_output
from edgeship.cli.output import Output, Table, human_bytes


@click.command()
@click.argument("name", required=False)
@click.option(
    "--wheelhouse",
    default=None,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of wheels to take the packages from, instead of downloading.",
)
@with_output
def setup(out: Output, name: str | None, wheelhouse: Path | None) -> None:
    """Make an environment for a tool that must stand apart.

    Without NAME, list what there is. Every package is pinned by its hash. What is there and works is left alone; what
    is damaged is made again.
    """
    from edgeship import environments
    from edgeship.errors import UsageError

    if name is None:
        if wheelhouse is not None:
            raise UsageError("--wheelhouse needs the NAME of what to set up", hint="edgeship setup lists the names")
        states = [environments.state(recipe.name) for recipe in environments.RECIPES]
    else:
        with out.reporter() as reporter:
            states = [environments.setup(name, wheelhouse=wheelhouse, reporter=reporter)]
    data = [
        {
            "name": state.recipe.name,
            "purpose": state.recipe.purpose,
            "ready": state.ready,
            "reason": state.reason,
            "python": state.python or None,
            "bytes": state.bytes or None,
            "folder": str(state.folder),
        }
        for state in states
    ]
    rows = [
        (
            state.recipe.name,
            "ready" if state.ready else state.reason,
            human_bytes(state.bytes) if state.ready else None,
            state.recipe.purpose,
        )
        for state in states
    ]
    out.emit("setup", data, Table(("name", "state", "size", "what it does"), rows))
