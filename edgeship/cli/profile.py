"""`edgeship profile`: list, show, validate."""

from __future__ import annotations

from pathlib import Path

import click

from edgeship.cli.options import with_output
from edgeship.cli.output import Output, Pairs, Table


@click.group()
def profile() -> None:
    """Hardware profiles: what boards are and can do."""


@profile.command("list")
@with_output
def list_(out: Output) -> None:
    """List the profiles."""
    from edgeship import profile as profiles

    known = [profiles.load(name) for name in profiles.names()]
    data = [
        {
            "name": p.name,
            "family": p.family,
            "summary": p.summary,
            "arch": p.hardware.arch,
            "supported": p.supported is None,
            "reason": p.supported,
            "formats": list(p.build.formats),
            "precisions": list(p.build.precisions),
        }
        for p in known
    ]
    rows = [
        (p.name, p.hardware.arch, ", ".join(p.build.formats) if p.supported is None else "unsupported", p.summary)
        for p in known
    ]
    out.emit("profile.list", data, Table(("name", "arch", "formats", "summary"), rows))


@profile.command()
@click.argument("name")
@with_output
def show(out: Output, name: str) -> None:
    """Show all of a profile."""
    from edgeship import profile as profiles
    from edgeship.cli.output import jsonable
    from edgeship.tomlfile import leaves, value_at

    found = profiles.load(name)
    path = profiles.path_of(name)
    data = {**jsonable(found), "supported": found.supported is None, "reason": found.supported, "file": str(path)}
    pairs = [(leaf.dotted, _words(value_at(found, leaf))) for leaf in leaves(profiles.Profile)]
    out.emit("profile.show", data, Pairs([("file", path), *pairs]))


@profile.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@with_output
def validate(out: Output, files: tuple[Path, ...]) -> int:
    """Check profile files; exit 2 when one is wrong."""
    from edgeship import profile as profiles
    from edgeship.errors import ConfigError

    data: list[dict[str, str | bool | None]] = []
    for file in files:
        try:
            profiles.load_file(file)
        except ConfigError as error:
            data.append({"file": str(file), "valid": False, "error": str(error), "hint": error.hint})
        else:
            data.append({"file": str(file), "valid": True, "error": None, "hint": None})
    rows = [(d["file"], "valid" if d["valid"] else "WRONG", d["error"]) for d in data]
    out.emit("profile.validate", data, Table(("file", "state", "error"), rows))
    return 0 if all(d["valid"] for d in data) else ConfigError.exit_code


def _words(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "-"
    if isinstance(value, dict):
        return ", ".join(f"{key} = {item}" for key, item in value.items()) or "-"
    return str(value) if value != "" else "-"
