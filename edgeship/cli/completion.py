"""`edgeship completion`."""

from __future__ import annotations

import click

from edgeship.cli.options import with_output
from edgeship.cli.output import Lines, Output


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@with_output
def completion(out: Output, shell: str) -> None:
    """Print the completion script of a shell.

    bash: edgeship completion bash > ~/.local/share/bash-completion/completions/edgeship
    """
    from click.shell_completion import get_completion_class

    from edgeship.cli import cli

    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(cli, {}, "edgeship", "_EDGESHIP_COMPLETE").source()
    out.emit("completion", {"shell": shell, "script": script}, Lines([script]))
