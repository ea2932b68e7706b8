"""`edgeship init`."""

from __future__ import annotations

from pathlib import Path

import click

from edgeship.cli.options import with_output
from edgeship.cli.output import Output, Pairs, jsonable


@click.command()
@click.argument("folder", required=False, type=click.Path(file_okay=False, exists=True, path_type=Path))
@click.option("--name", default=None, help="Name of the project; the folder's by default.")
@with_output
def init(out: Output, folder: Path | None, name: str | None) -> None:
    """Set up a project in this folder, and the device sim.

    Finds the model and its data by their names, writes edgeship.toml, makes development keys and an empty release
    folder, and adds the device sim: an agent as a child process of this machine. What is there already stays.
    """
    from edgeship import config
    from edgeship.initialize import initialize

    done = initialize((folder or Path.cwd()).absolute(), name)
    project = done.project
    data = {
        "folder": str(project.folder),
        "config": str(project.folder / config.FILE),
        "name": project.name,
        "model": jsonable(project.model.source),
        "representative": jsonable(project.data.representative),
        "evaluation": jsonable(project.data.evaluation),
        "made": list(done.made),
        "notes": list(done.notes),
    }
    out.emit(
        "init",
        data,
        Pairs(
            [
                ("project", f"{project.name} in {project.folder}"),
                ("model", _shown(project.model.source, project.folder)),
                ("calibration", _shown(project.data.representative, project.folder)),
                ("evaluation", _shown(project.data.evaluation, project.folder)),
                ("made", ", ".join(done.made) or "nothing; all was there"),
            ]
        ),
    )
    for note in done.notes:
        out.say(f"note: {note}")
    model = _shown(project.model.source, project.folder) if project.model.source else "MODEL"
    out.say(f"next: edgeship push {model} -l name=sim")


def _shown(path: Path | None, folder: Path) -> str:
    if path is None:
        return "not found: name it in edgeship.toml"
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
