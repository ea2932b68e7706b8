"""`edgeship runtime`: fetch."""

from __future__ import annotations

from pathlib import Path

import click

from edgeship.cli.options import with_output
from edgeship.cli.output import Output, Table, human_bytes


@click.group()
def runtime() -> None:
    """Runtime libraries that run a model on a device."""


@runtime.command()
@click.argument("profile_name", metavar="PROFILE")
@click.option("--arch", default=None, help="For another architecture than the profile's: x86_64 or aarch64.")
@click.option(
    "--wheelhouse",
    default=None,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of wheels to take them from, instead of downloading.",
)
@with_output
def fetch(out: Output, profile_name: str, arch: str | None, wheelhouse: Path | None) -> None:
    """Fetch the runtime libraries of a profile into the cache, each checked against its pinned hash.

    A push does this by itself; do it before you go offline.
    """
    from edgeship import libraries, profile
    from edgeship.errors import UnfitError

    found = profile.load(profile_name)
    if found.supported is not None:
        raise UnfitError(
            f"profile {profile_name} cannot carry the agent: {found.supported}", hint="edgeship profile list"
        )
    wanted = arch or found.hardware.arch
    with out.reporter() as reporter:
        got = [
            (name, libraries.fetch(name_of, wanted, wheelhouse=wheelhouse, reporter=reporter))
            for name, name_of in found.build.runtime.items()
        ]
    data = [
        {
            "format": name,
            "name": library.name,
            "arch": library.arch,
            "path": str(library.path),
            "license": str(library.license),
            "sha256": library.sha256,
            "bytes": library.bytes,
        }
        for name, library in got
    ]
    rows = [(name, lib.name, lib.arch, human_bytes(lib.bytes), lib.path) for name, lib in got]
    out.emit("runtime.fetch", data, Table(("format", "library", "arch", "size", "path"), rows))
